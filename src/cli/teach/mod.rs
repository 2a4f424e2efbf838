//! `parsimony teach`: a corpus that another model writes (sequence-level distillation, 1606.07947).
//!
//! The only command that talks to a model elsewhere, and a person runs it: a study trains on the file and calls nobody.

mod corpus;
mod local;
mod prompts;
mod records;
mod remote;
mod writer;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;
use clap::Args;
use evaluator::device::DeviceChoice;
use serde::{Deserialize, Serialize};

use self::{
    corpus::{Manifest, write_corpus},
    local::Local,
    prompts::Prompts,
    records::{Record, Records},
    remote::Remote,
    writer::Writer,
};
use super::block_on;
use crate::{
    errors::BadInput,
    output::{Bar, duration, request_bar, say, write_json},
    settings::Global,
};

/// Has a model write a text that a study then trains on
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  parsimony teach --bundle large --prompts input.txt --requests 500 --out taught.txt\n  \
                  PARSIMONY_TEACHER_KEY=... parsimony teach --url https://host --model NAME --prompts input.txt --out taught.txt\n\n\
                  Prompts are pieces of what a study trains on of that file, never of what it holds out. A study learns from the \
                  teacher with corpus = \"text\" and path = \"taught.txt\". taught.txt.json says who wrote it and what was asked \
                  for; taught.txt.requests.jsonl keeps each answer, so that the same command goes on where it stopped and asks \
                  nothing twice."
)]
pub(crate) struct Teach {
    /// Folder of an exported model that writes
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "url",
        conflicts_with = "url"
    )]
    bundle: Option<PathBuf>,
    /// Server that answers POST URL/v1/completions as many do; its key is read from the environment
    #[arg(long, value_name = "URL", requires = "model")]
    url: Option<String>,
    /// The server's name of the model that writes
    #[arg(long, value_name = "NAME", requires = "url")]
    model: Option<String>,
    /// Text file whose training part prompts are drawn from
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// Share of that file that studies hold out, as in [data]
    #[arg(long, default_value_t = 0.1)]
    validation_fraction: f64,
    /// Characters of a prompt
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    characters: u32,
    /// Prompts to go on from, in all
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    #[command(flatten)]
    ask: Ask,
    /// The text file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where an exported model computes: auto, cpu or cuda:N
    #[arg(long, env = "PARSIMONY_DEVICE", default_value = "auto", value_parser = clap::value_parser!(DeviceChoice))]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How each prompt is gone on from.
#[derive(Args, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Ask {
    /// Tokens to write after each prompt, at most
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tokens: u32,
    /// 0 for the most likely token each time, 1 for the teacher's own distribution
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Seed of the prompts and of what is written
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Teach {
    pub(crate) fn run(self, _: &Global) -> anyhow::Result<()> {
        if !(0.0..=100.0).contains(&self.ask.temperature) {
            return Err(BadInput::error(format!(
                "--temperature {} is not between 0 and 100",
                self.ask.temperature
            )));
        }
        let prompts = Prompts::read(
            &self.prompts,
            self.validation_fraction,
            self.characters as usize,
            self.ask.seed,
        )?;
        let manifest = match (&self.bundle, &self.url, &self.model) {
            (Some(folder), _, _) => self.write(&Local::new(folder, self.ask, self.device)?, &prompts)?,
            (None, Some(url), Some(model)) => self.write(&Remote::new(url, model, self.ask)?, &prompts)?,
            _ => {
                return Err(BadInput::error(
                    "no teacher is named; give --bundle DIR, or --url URL with --model NAME",
                ));
            }
        };
        if self.json {
            return write_json(&manifest);
        }
        say(manifest.summary(&self.out));
        Ok(())
    }

    /// Asks for what is not there yet, then writes the corpus.
    fn write(&self, writer: &impl Writer, prompts: &Prompts) -> anyhow::Result<Manifest> {
        let about = Manifest::begin(writer.teacher(), prompts.about(), self.ask);
        let mut records = Records::open(&self.out, &about)?;
        let wanted = u64::from(self.requests);
        let missing: Vec<u64> = (0..wanted).filter(|i| !records.has(*i)).collect();
        let there = wanted - missing.len() as u64;
        let mut bar = request_bar();
        let began = Instant::now();
        let asked: anyhow::Result<()> = block_on(async {
            for (done, index) in (0..).zip(&missing) {
                let prompt = prompts.of(*index);
                let asked = Instant::now();
                let written = writer.go_on(prompt, self.ask.seed.wrapping_add(*index)).await?;
                records.add(Record {
                    index: *index,
                    prompt: prompt.to_owned(),
                    text: written.text,
                    prompt_tokens: written.prompt_tokens,
                    tokens: written.tokens,
                    seconds: asked.elapsed().as_secs_f64(),
                })?;
                tell(&mut bar, there, done + 1, wanted, began);
            }
            Ok(())
        });
        bar.finish();
        asked.with_context(|| {
            format!(
                "{} of {wanted} answers are kept in '{}', and the same command goes on from there",
                records.len(),
                records.path().display()
            )
        })?;
        write_corpus(&self.out, about, records.first(wanted))
    }
}

/// Shows how far it is, and what is left at the pace so far.
fn tell(bar: &mut Bar, there: u64, done: u64, wanted: u64, began: Instant) {
    let left = began.elapsed().as_secs_f64() / done as f64 * (wanted - there - done) as f64;
    bar.set(there + done, wanted, &format!("{} left", duration(left)));
}

/// `FILE.ending`, beside a file.
fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

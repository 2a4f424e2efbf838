//! `parsimony generate`: text from an exported model.

use std::{io::Write, path::PathBuf};

use clap::Args;
use evaluator::{Sampling, device::DeviceChoice};

use crate::{
    errors::BadInput,
    output::{say, write_json},
    settings::Global,
};

/// Writes text with an exported model
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  parsimony generate model --prompt \"Once upon\" --tokens 200 --temperature 0.8\n  \
                  parsimony generate encoder-decoder --prompt \"Once ___ a time\" --temperature 0"
)]
pub(crate) struct Generate {
    /// Folder of the exported model
    bundle: PathBuf,
    /// Text to go on from; for an encoder-decoder, text with gaps written as ___
    #[arg(long)]
    prompt: String,
    /// Tokens to write at most, in all gaps together
    #[arg(long, default_value_t = 200)]
    tokens: usize,
    /// 0 for the most likely token each time, 1 for the model's own distribution
    #[arg(long, default_value_t = 0.8)]
    temperature: f64,
    /// Seed of the choice
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, env = "PARSIMONY_DEVICE", default_value = "auto", value_parser = clap::value_parser!(DeviceChoice))]
    device: DeviceChoice,
    /// Print JSON when the text is whole
    #[arg(long)]
    json: bool,
}

impl Generate {
    pub(crate) fn run(self, _: &Global) -> anyhow::Result<()> {
        if !(0.0..=100.0).contains(&self.temperature) {
            return Err(BadInput::error(format!(
                "--temperature {} is not between 0 and 100",
                self.temperature
            )));
        }
        let sampling = Sampling {
            tokens: self.tokens,
            temperature: self.temperature,
            seed: self.seed,
        };
        let mut text = String::new();
        let mut closed = None;
        let mut write = |piece: &str| {
            text += piece;
            if !self.json && closed.is_none() {
                let mut stdout = std::io::stdout().lock();
                closed = stdout
                    .write_all(piece.as_bytes())
                    .and_then(|()| stdout.flush())
                    .err();
            }
        };
        evaluator::generate(&self.bundle, &self.prompt, sampling, self.device, &mut write)?;
        match closed {
            Some(error) => return Err(error.into()),
            None if self.json => write_json(&serde_json::json!({ "text": text }))?,
            None => say(""),
        }
        Ok(())
    }
}

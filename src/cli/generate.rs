//! `parsimony generate`: text from an exported model.

use std::{io::Write, path::PathBuf};

use clap::Args;
use evaluator::{
    Sampling,
    decoding::{DraftSource, Speculation, Written},
    device::DeviceChoice,
};

use crate::{
    errors::BadInput,
    output::{note, say, write_json},
    settings::Global,
};

/// Writes text with an exported model
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  parsimony generate model --prompt \"Once upon\" --tokens 200 --temperature 0.8\n  \
                  parsimony generate encoder-decoder --prompt \"Once ___ a time\" --temperature 0\n  \
                  parsimony generate model --prompt \"Once upon\" --draft ngram\n  \
                  parsimony generate model --prompt \"Once upon\" --draft small-model --speculate 6\n\n\
                  With a draft the text follows the same distribution (2211.17192), in fewer calls of the model; \
                  how many is said at the end."
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
    /// What guesses ahead: none, ngram (what followed the same words before), exit:L (the first L layers of the model) or the
    /// folder of a smaller model with the same tokenizer; left out, the draft that the model was measured with, if any
    #[arg(long, value_name = "none|ngram|exit:L|DIR")]
    draft: Option<DraftSource>,
    /// Guesses for each call of the model, at most
    #[arg(long, default_value_t = 4, value_name = "N", requires = "draft", value_parser = clap::value_parser!(u32).range(1..=64))]
    speculate: u32,
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
        let written = match self.draft {
            None => {
                let (bundle, prompt) = (&self.bundle, &self.prompt);
                let written = evaluator::generate(bundle, prompt, sampling, self.device, &mut write)?;
                (written.scored > 0).then_some(written)
            }
            Some(source) => {
                let speculation = Speculation {
                    source,
                    guesses: self.speculate as usize,
                };
                let (bundle, prompt) = (&self.bundle, &self.prompt);
                let device = self.device;
                Some(evaluator::speculate(
                    bundle,
                    prompt,
                    sampling,
                    &speculation,
                    device,
                    &mut write,
                )?)
            }
        };
        match closed {
            Some(error) => return Err(error.into()),
            None if self.json => {
                let mut json = serde_json::json!({ "text": text });
                if let Some(written) = written {
                    json["speculation"] = counts(&written);
                }
                write_json(&json)?;
            }
            None => say(""),
        }
        if let Some(written) = written {
            note(summary(&written));
        }
        Ok(())
    }
}

/// What speculation took, in a line.
fn summary(written: &Written) -> String {
    let acceptance = match written.acceptance() {
        Some(share) => format!("{:.0} % of the judged guesses kept", 100.0 * share),
        None => "nothing was guessed".into(),
    };
    format!(
        "{} tokens in {} calls of the model, {:.2} tokens per call, {acceptance}",
        written.tokens,
        written.calls,
        written.tokens_per_call()
    )
}

fn counts(written: &Written) -> serde_json::Value {
    serde_json::json!({
        "tokens": written.tokens,
        "target_calls": written.calls,
        "tokens_per_target_call": written.tokens_per_call(),
        "guesses_scored": written.scored,
        "guesses_judged": written.judged,
        "guesses_accepted": written.accepted,
        "acceptance": written.acceptance(),
    })
}

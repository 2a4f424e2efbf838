//! An exported model of this machine that writes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use evaluator::{
    Sampling,
    bundle::{read_served, read_tokenizer},
    data::Tokenizer,
    device::DeviceChoice,
    generate,
};

use super::{
    Ask,
    writer::{Teacher, Writer, Written},
};
use crate::errors::BadInput;

/// A folder's model.
pub(super) struct Local {
    folder: PathBuf,
    weights: String,
    tokenizer: Tokenizer,
    ask: Ask,
    device: DeviceChoice,
}

impl Local {
    /// The model of a folder.
    ///
    /// # Errors
    /// Where the folder holds none that goes on from a text, or the device is not there.
    pub(super) fn new(folder: &Path, ask: Ask, device: DeviceChoice) -> anyhow::Result<Local> {
        device.find().map_err(BadInput::error)?;
        let unreadable = |e: evaluator::bundle::BundleError| BadInput::error(e.to_string());
        let kind = read_served(folder).map_err(unreadable)?.model.kind;
        if !kind.writes() || kind.reading() > 0 {
            return Err(BadInput::error(format!(
                "'{}' is of kind '{}', which does not go on from a text; teach with a decoder",
                folder.display(),
                kind.name()
            )));
        }
        let weights = fs::read(folder.join("model.safetensors"))?;
        Ok(Local {
            folder: folder.to_owned(),
            weights: spaces::fingerprint(&weights),
            tokenizer: read_tokenizer(folder).map_err(unreadable)?,
            ask,
            device,
        })
    }
}

impl Writer for Local {
    fn teacher(&self) -> Teacher {
        Teacher::Bundle {
            bundle: self.folder.display().to_string(),
            weights: self.weights.clone(),
        }
    }

    async fn go_on(&self, prompt: &str, seed: u64) -> anyhow::Result<Written> {
        let sampling = Sampling {
            tokens: self.ask.tokens as usize,
            temperature: self.ask.temperature,
            seed,
        };
        let mut all = String::new();
        generate(&self.folder, prompt, sampling, self.device, &mut |piece| {
            all += piece
        })?;
        // the prompt's own text comes first
        let text = all.split_off(prompt.len());
        Ok(Written {
            prompt_tokens: self.tokenizer.encode(prompt)?.len() as u64,
            tokens: u64::from(self.ask.tokens),
            text,
        })
    }
}

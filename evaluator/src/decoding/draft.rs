//! What guesses ahead, and how it is asked for.

use std::{path::PathBuf, str::FromStr};

use super::{Choice, Guess, Reader};
use crate::ops::Ops;

/// Guesses what comes next.
pub trait Draft<B: Ops> {
    /// At most `most` tokens, which may be none, that may follow `text`; the model has `unread` of it still to read.
    fn guess(
        &mut self,
        text: &[u32],
        unread: &[u32],
        most: usize,
        model: &mut Reader<B>,
        choice: &mut Choice,
    ) -> Vec<Guess>;
}

/// Where guesses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DraftSource {
    /// Nothing, where the model would bring a draft of its own.
    Nothing,
    /// The text itself, where it has said the same before.
    Ngram,
    /// The first so many layers of the model.
    FirstLayers(usize),
    /// A smaller exported model with the same tokenizer.
    Model(PathBuf),
}

impl FromStr for DraftSource {
    type Err = String;

    /// `none`, `ngram`, `exit:LAYERS`, or else the folder of a model.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(DraftSource::Nothing);
        }
        if text == "ngram" {
            return Ok(DraftSource::Ngram);
        }
        let Some(layers) = text.strip_prefix("exit:") else {
            return Ok(DraftSource::Model(text.into()));
        };
        let layers = layers.parse();
        layers
            .map(DraftSource::FirstLayers)
            .map_err(|_| format!("'{text}' names no number of layers; write for example exit:1"))
    }
}

/// How far is guessed ahead, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speculation {
    /// Where guesses come from.
    pub source: DraftSource,
    /// Guesses for each call of the model, at most.
    pub guesses: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_from_one_word() {
        let read = |text: &str| text.parse::<DraftSource>().unwrap();
        assert_eq!(read("none"), DraftSource::Nothing);
        assert_eq!(read("ngram"), DraftSource::Ngram);
        assert_eq!(read("exit:3"), DraftSource::FirstLayers(3));
        assert!("exit:x".parse::<DraftSource>().is_err());
        assert_eq!(read("models/small"), DraftSource::Model("models/small".into()));
    }
}

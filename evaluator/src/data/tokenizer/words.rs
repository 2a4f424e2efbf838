//! One token for each word of a fixed list, for corpora that are made of symbols.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::{DataError, file, word_level};

/// Words by id and back.
#[derive(Clone, Debug)]
pub(super) struct Words {
    words: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Words {
    pub(super) fn new(words: Vec<String>) -> Self {
        let ids = words.iter().cloned().zip(0..).collect();
        Words { words, ids }
    }

    pub(super) fn vocab(&self) -> usize {
        self.words.len()
    }

    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        text.split_whitespace()
            .map(|word| {
                self.ids.get(word).copied().ok_or_else(|| {
                    DataError::Tokenizer(format!(
                        "word '{word}' is not in the vocabulary of {} words; use words such as {}",
                        self.words.len(),
                        self.words[..self.words.len().min(12)].join(" ")
                    ))
                })
            })
            .collect()
    }

    pub(super) fn decode(&self, ids: &[u32]) -> String {
        let words: Vec<&str> = ids.iter().map(|id| self.words[*id as usize].as_str()).collect();
        words.join(" ")
    }

    pub(super) fn to_json(&self) -> Json {
        file(
            json!({ "type": "WhitespaceSplit" }),
            Json::Null, // words are then set apart by one blank
            word_level(self.words.iter().map(String::as_str)),
        )
    }
}

//! Pieces of the training part of a text.

use std::path::Path;

use evaluator::data::split_text;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use crate::{errors::BadInput, files::read_text};

/// Where prompts come from.
pub(super) struct Prompts {
    /// What a study trains on of the file.
    text: String,
    /// Where a prompt may begin, in bytes: after each blank, as long as there are enough characters behind it.
    begins: Vec<usize>,
    about: About,
    seed: u64,
}

/// The same for the corpus's note.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct About {
    file: String,
    fingerprint: String,
    validation_fraction: f64,
    characters: usize,
}

impl Prompts {
    /// Of a file, a share of which studies hold out.
    ///
    /// # Errors
    /// Where it cannot be read, or what is left is shorter than a prompt.
    pub(super) fn read(file: &Path, fraction: f64, characters: usize, seed: u64) -> anyhow::Result<Prompts> {
        if !(0.0..1.0).contains(&fraction) {
            return Err(BadInput::error(format!(
                "--validation-fraction {fraction} is not at least 0 and below 1"
            )));
        }
        let whole = read_text(file)?;
        let (text, _) = split_text(&whole, fraction);
        let ends = text.char_indices().rev().nth(characters - 1).map(|(at, _)| at);
        let Some(last) = ends else {
            return Err(BadInput::error(format!(
                "the training part of '{}' is shorter than a prompt of {characters} characters; use --characters {} or less, or a longer text",
                file.display(),
                text.chars().count()
            )));
        };
        let blanks = text.char_indices().filter(|(_, c)| c.is_whitespace());
        let after = blanks.map(|(at, c)| at + c.len_utf8()).filter(|at| *at <= last);
        let begins = std::iter::once(0).chain(after).collect();
        Ok(Prompts {
            begins,
            about: About {
                file: file.display().to_string(),
                fingerprint: spaces::fingerprint(whole.as_bytes()),
                validation_fraction: fraction,
                characters,
            },
            text,
            seed,
        })
    }

    /// What is said of them.
    pub(super) fn about(&self) -> About {
        self.about.clone()
    }

    /// The prompt of a request; the same for every number of requests.
    pub(super) fn of(&self, index: u64) -> &str {
        let mut random = StdRng::seed_from_u64(self.seed ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let from = self.begins[random.random_range(0..self.begins.len())];
        let rest = &self.text[from..];
        let end = rest.char_indices().nth(self.about.characters);
        &rest[..end.map_or(rest.len(), |(at, _)| at)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_of_the_training_part_alone_and_follow_from_the_seed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.txt");
        let text = "träin ".repeat(150) + &"HELD ".repeat(20);
        std::fs::write(&file, &text).unwrap();
        let read = |seed| Prompts::read(&file, 0.1, 12, seed).unwrap();
        let all = |prompts: &Prompts| (0..200).map(|i| prompts.of(i).to_owned()).collect::<Vec<_>>();
        let some = all(&read(1));
        assert!(
            some.iter()
                .all(|p| p.chars().count() == 12 && p.starts_with("trä"))
        );
        assert!(some.iter().all(|p| !p.contains("HELD")), "{some:?}");
        assert_eq!(some, all(&read(1)));
        let error = Prompts::read(&file, 0.1, 2000, 1).err().unwrap().to_string();
        assert!(error.contains("--characters 900"), "{error}");
    }
}

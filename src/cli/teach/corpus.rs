//! The corpus of answers, and the note beside it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Ask, beside, prompts::About, records::Record, writer::Teacher};
use crate::output::{duration, write_file};

/// Who wrote a corpus, what was asked for, and what that took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: String,
    teacher: Teacher,
    prompts: About,
    ask: Ask,
    /// `None` before the end.
    #[serde(flatten)]
    taken: Option<Taken>,
}

/// What it took, by the teacher's own count, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Taken {
    requests: u64,
    prompt_tokens: u64,
    written_tokens: u64,
    prompt_bytes: u64,
    written_bytes: u64,
    /// Of waiting for answers.
    seconds: f64,
    corpus_bytes: u64,
    corpus_fingerprint: String,
    note: String,
}

impl Manifest {
    /// What is known before anything is asked.
    pub(super) fn begin(teacher: Teacher, prompts: About, ask: Ask) -> Manifest {
        Manifest {
            version: env!("CARGO_PKG_VERSION").into(),
            teacher,
            prompts,
            ask,
            taken: None,
        }
    }

    /// In a few lines, for people.
    pub(super) fn summary(&self, out: &Path) -> String {
        let taken = self.taken.clone().unwrap_or_default();
        format!(
            "{} requests: {} tokens read and {} written by the teacher's count, {} bytes written, {}\n\
             written to {}; train on it with corpus = \"text\" and path = \"{}\"\n{}",
            taken.requests,
            taken.prompt_tokens,
            taken.written_tokens,
            taken.written_bytes,
            duration(taken.seconds),
            out.display(),
            out.display(),
            taken.note
        )
    }
}

/// Writes the corpus and its note, each whole or not at all.
///
/// # Errors
/// Where they cannot be written.
pub(super) fn write_corpus<'a>(
    out: &Path,
    about: Manifest,
    records: impl Iterator<Item = &'a Record>,
) -> anyhow::Result<Manifest> {
    let (mut text, mut taken) = (String::new(), Taken::default());
    for record in records {
        text += &record.prompt;
        text += &record.text;
        text += "\n\n";
        taken.requests += 1;
        taken.prompt_tokens += record.prompt_tokens;
        taken.written_tokens += record.tokens;
        taken.prompt_bytes += record.prompt.len() as u64;
        taken.written_bytes += record.text.len() as u64;
        taken.seconds += record.seconds;
    }
    taken.corpus_bytes = text.len() as u64;
    taken.corpus_fingerprint = spaces::fingerprint(text.as_bytes());
    taken.note = "what a study holds out of this file is the teacher's text too; to compare with models trained on the original, measure both on the original"
        .into();
    let manifest = Manifest {
        taken: Some(taken),
        ..about
    };
    // the note first: a corpus that is there has one
    let note = serde_json::to_string_pretty(&manifest)?;
    write_file(&beside(out, ".json"), note.as_bytes())?;
    write_file(out, text.as_bytes())?;
    Ok(manifest)
}

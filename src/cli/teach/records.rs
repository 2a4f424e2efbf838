//! Answers as they come, one a line, so that none is asked for twice.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{beside, corpus::Manifest};
use crate::{errors::BadInput, output::unwritable};

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) index: u64,
    pub(super) prompt: String,
    pub(super) text: String,
    pub(super) prompt_tokens: u64,
    pub(super) tokens: u64,
    pub(super) seconds: f64,
}

/// The file of answers. Its first line says who was asked for what.
#[derive(Debug)]
pub(super) struct Records {
    path: PathBuf,
    file: File,
    found: BTreeMap<u64, Record>,
}

impl Records {
    /// Opens or begins the file beside a corpus.
    ///
    /// # Errors
    /// Where it holds the answers to something else, or cannot be written.
    pub(super) fn open(out: &Path, about: &Manifest) -> anyhow::Result<Records> {
        let path = beside(out, ".requests.jsonl");
        let text = fs::read_to_string(&path).unwrap_or_default();
        // what was cut short in the middle of a line is asked for again
        let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        let mut lines = whole.lines();
        if let Some(first) = lines.next()
            && serde_json::from_str::<Manifest>(first).ok().as_ref() != Some(about)
        {
            return Err(BadInput::error(format!(
                "'{}' holds the answers to other questions (teacher, prompts, tokens, temperature or seed); use the same ones, remove it, or choose another --out",
                path.display()
            )));
        }
        let found = lines.map(|line| {
            let record: Record = serde_json::from_str(line).with_context(|| {
                format!(
                    "'{}' has a line that is no answer; remove that line",
                    path.display()
                )
            })?;
            Ok((record.index, record))
        });
        let found = found.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        let open = || -> std::io::Result<File> {
            let mut file = File::options().create(true).append(true).open(&path)?;
            file.set_len(whole.len() as u64)?;
            if whole.is_empty() {
                writeln!(file, "{}", serde_json::to_string(about)?)?;
            }
            Ok(file)
        };
        let file = open().with_context(|| unwritable(&path))?;
        Ok(Records { path, file, found })
    }

    /// Where they are kept.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether a request is answered.
    pub(super) fn has(&self, index: u64) -> bool {
        self.found.contains_key(&index)
    }

    /// The answers to the first so many requests.
    pub(super) fn first(&self, requests: u64) -> impl Iterator<Item = &Record> {
        self.found.range(..requests).map(|(_, record)| record)
    }

    /// Keeps an answer.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn add(&mut self, record: Record) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .with_context(|| unwritable(&self.path))?;
        self.found.insert(record.index, record);
        Ok(())
    }
}

//! Token rows for one step.

use super::{Corrupted, Corruption, examples::PAD};

/// Rows of `context` tokens and what is to be foretold of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Number of rows.
    pub batch: usize,
    /// Tokens in a row.
    pub context: usize,
    /// Row-major `[batch, context]`.
    pub inputs: Vec<u32>,
    /// Tokens of each row that are no padding.
    pub lengths: Vec<usize>,
    /// What the half that writes is given, row-major `[batch, written]`: the targets, each one place later. Empty for
    /// models without such a half.
    pub written: Vec<u32>,
    /// What is foretold, -1 where nothing is scored: the token that follows each input, the class of each row or that of
    /// each two rows, or the tokens that are written ([`super::Form`]).
    pub targets: Vec<i32>,
}

impl Batch {
    /// An empty batch with room for `rows` rows.
    pub(super) fn with_capacity(rows: usize, context: usize) -> Self {
        Batch {
            batch: 0,
            context,
            inputs: Vec::with_capacity(rows * context),
            lengths: Vec::with_capacity(rows),
            written: vec![],
            targets: Vec::with_capacity(rows * context),
        }
    }

    /// Corrupted texts, the longest of them of `longest` tokens.
    pub fn of_spans(texts: &[Corrupted], longest: usize, corruption: Corruption) -> Self {
        let mut batch = Batch::with_capacity(texts.len(), corruption.read(longest));
        let width = corruption.written(longest);
        for Corrupted { read, written } in texts {
            batch.push_text(read, PAD);
            batch.written.push(corruption.start);
            batch.written.extend_from_slice(&written[..written.len() - 1]);
            batch.written.resize(batch.batch * width, PAD);
            batch.targets.extend(written.iter().map(|token| *token as i32));
            batch.targets.resize(batch.batch * width, -1);
        }
        batch
    }

    /// Adds a row that is filled up with `pad`, unscored.
    pub(super) fn push(&mut self, inputs: &[u32], targets: impl Iterator<Item = i32>, pad: u32) {
        self.push_text(inputs, pad);
        self.targets.extend(targets);
        self.targets.resize(self.batch * self.context, -1);
    }

    /// Adds a row that is filled up with `pad`; what is foretold of it is added apart.
    pub(super) fn push_text(&mut self, inputs: &[u32], pad: u32) {
        self.batch += 1;
        self.lengths.push(inputs.len());
        self.inputs.extend_from_slice(inputs);
        self.inputs.resize(self.batch * self.context, pad);
    }

    /// Number of targets that are scored.
    pub fn scored(&self) -> usize {
        self.targets.iter().filter(|t| **t >= 0).count()
    }
}

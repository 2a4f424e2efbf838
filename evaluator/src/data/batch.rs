//! Token rows for one step.

/// Rows of `context` tokens and what should follow each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Number of rows.
    pub batch: usize,
    /// Tokens in a row.
    pub context: usize,
    /// Row-major `[batch, context]`.
    pub inputs: Vec<u32>,
    /// The token that follows each input, or -1 where nothing is scored.
    pub targets: Vec<i32>,
}

impl Batch {
    /// An empty batch with room for `rows` rows.
    pub(super) fn with_capacity(rows: usize, context: usize) -> Self {
        Batch {
            batch: 0,
            context,
            inputs: Vec::with_capacity(rows * context),
            targets: Vec::with_capacity(rows * context),
        }
    }

    /// Adds a row that is filled up with `pad`, unscored.
    pub(super) fn push(&mut self, inputs: &[u32], targets: impl Iterator<Item = i32>, pad: u32) {
        self.batch += 1;
        self.inputs.extend_from_slice(inputs);
        self.targets.extend(targets);
        self.inputs.resize(self.batch * self.context, pad);
        self.targets.resize(self.batch * self.context, -1);
    }

    /// Number of positions that are scored.
    pub fn scored(&self) -> usize {
        self.targets.iter().filter(|t| **t >= 0).count()
    }
}

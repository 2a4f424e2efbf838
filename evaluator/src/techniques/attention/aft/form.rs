//! The four forms: which pairs have a bias, and what follows from that.

use serde::{Deserialize, Serialize};

use crate::ops::AftBias;

/// Weighted means of values, gated by queries.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Aft {
    pub(super) form: Form,
    pub(super) window: usize,
    pub(super) rank: usize,
}

/// Which pairs have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Form {
    /// All, from factors.
    Full,
    /// Near ones, from factors; those further apart take part with a bias of 0.
    Local,
    /// None.
    Simple,
    /// Near ones, by their distance and head.
    Conv,
}

impl Aft {
    pub(super) fn bias(&self) -> AftBias {
        match self.form {
            Form::Full => AftBias::Full,
            Form::Local => AftBias::Local(self.window),
            Form::Simple => AftBias::None,
            Form::Conv => AftBias::Conv(self.window),
        }
    }

    /// Pairs with a bias, over a whole sequence.
    pub(super) fn pairs(&self, n: usize) -> u64 {
        let ramp = self.bias().window().min(n);
        (ramp * (ramp + 1) / 2 + (n - ramp) * ramp) as u64
    }

    /// Components of the product that is a bias.
    pub(super) fn factors(&self) -> u64 {
        match self.form {
            Form::Full | Form::Local => self.rank as u64,
            Form::Simple | Form::Conv => 0,
        }
    }

    /// Positions whose keys and values are remembered one by one.
    pub(super) fn remembered(&self, capacity: usize) -> usize {
        self.bias().window().min(capacity)
    }

    /// Whether positions beyond those are remembered as sums.
    pub(super) fn has_sums(&self) -> bool {
        self.form != Form::Full
    }
}

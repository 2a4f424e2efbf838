//! What finding the weights to remove costs, by formula. The evaluation of every method is held against it.

use super::{Method, SparsityPlan};
use crate::{
    model::{BlockMatrix, ModelPlan},
    techniques::inverse_factor,
};

impl SparsityPlan {
    /// Multiply-adds on batches of `batch` examples of `n` tokens a row, of all rounds: reading them, summing up what matrices are given, and `SparseGPT`'s own.
    pub(crate) fn macs(&self, model: &ModelPlan, batch: usize, n: usize) -> u64 {
        if self.batches == 0 {
            return 0;
        }
        let removed: u64 = match self.method {
            Method::Sparsegpt => model
                .block_matrices()
                .filter(|m| self.form.at_layer(m.place(model)).is_some())
                .map(|m| removal_macs(&m))
                .sum(),
            Method::Wanda | Method::Magnitude | Method::Movement => 0,
        };
        self.rounds() * (self.batches * model.calibration_macs(batch, n) + removed)
    }
}

/// `SparseGPT`'s multiply-adds on a matrix and those like it: the factor, and every weight's share in what its row makes up for.
fn removal_macs(m: &BlockMatrix) -> u64 {
    let one = inverse_factor::macs(m.input) + m.out * m.input * (m.input - 1) / 2;
    (m.copies * one) as u64
}

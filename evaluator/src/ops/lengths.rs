//! How many tokens of each row of a batch are there; what follows them is padding.

use std::{ops::Range, sync::Arc};

use burn::tensor::{Bool, Int, Tensor, TensorData, backend::Backend};

/// Tokens of each row that are no padding, at least one of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lengths(Arc<[usize]>);

impl Lengths {
    /// One length for each row.
    ///
    /// # Panics
    /// If a row has no token.
    pub fn new(lengths: Vec<usize>) -> Self {
        assert!(!lengths.contains(&0), "a row has at least one token");
        Lengths(lengths.into())
    }

    /// Of one row.
    pub fn of(&self, row: usize) -> usize {
        self.0[row]
    }

    /// Of all rows.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().copied()
    }

    /// The same rows with `more` tokens before each.
    pub fn after(&self, more: usize) -> Self {
        Lengths(self.0.iter().map(|n| n + more).collect())
    }

    /// Which of these positions are padding, `[rows, positions]`.
    pub(crate) fn absent<B: Backend>(
        &self,
        positions: Range<usize>,
        device: &B::Device,
    ) -> Tensor<B, 2, Bool> {
        let (rows, n) = (self.0.len(), positions.len());
        let lengths: Vec<i32> = self.0.iter().map(|n| *n as i32).collect();
        let lengths = Tensor::<B, 2, Int>::from_data(TensorData::new(lengths, [rows, 1]), device);
        let at = Tensor::<B, 1, Int>::arange(positions.start as i64..positions.end as i64, device);
        let at = at.unsqueeze_dim::<2>(0).expand([rows, n]);
        at.greater_equal(lengths.expand([rows, n]))
    }

    /// 1 where a token is, 0 where padding is, `[rows, n]`.
    pub(crate) fn present<B: Backend>(&self, n: usize, device: &B::Device) -> Tensor<B, 2> {
        self.absent::<B>(0..n, device).bool_not().float()
    }
}

//! What a model is given: rows of tokens, and how much of each is padding.

use burn::tensor::{Int, Tensor, backend::Backend};

use crate::ops::Lengths;

/// Rows of tokens.
#[derive(Clone, Debug)]
pub struct Inputs<B: Backend> {
    /// `[rows, n]`; where an example is two texts, they are two rows that follow one another.
    pub tokens: Tensor<B, 2, Int>,
    /// Tokens of each row that are no padding; `None` where there is no padding.
    pub lengths: Option<Lengths>,
    /// What the half that writes is given, `[rows, written]`; `None` for models without such a half.
    pub written: Option<Tensor<B, 2, Int>>,
}

impl<B: Backend> From<Tensor<B, 2, Int>> for Inputs<B> {
    /// Rows without padding, for a model that does not write beside what it reads.
    fn from(tokens: Tensor<B, 2, Int>) -> Self {
        Inputs {
            tokens,
            lengths: None,
            written: None,
        }
    }
}

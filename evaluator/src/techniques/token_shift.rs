//! Token shift (2305.13048): a token mixed with the one before it, each component by a weight of its own.

use burn::tensor::{Tensor, backend::Backend};

/// `x [b, n, width]` one token later: `last [b, 1, width]`, or zeros where nothing came before, then all but the last.
pub(super) fn previous<B: Backend>(x: &Tensor<B, 3>, last: Option<Tensor<B, 3>>) -> Tensor<B, 3> {
    let [b, n, width] = x.dims();
    let last = last.unwrap_or_else(|| Tensor::zeros([b, 1, width], &x.device()));
    if n == 1 {
        return last;
    }
    Tensor::cat(vec![last, x.clone().slice([0..b, 0..n - 1, 0..width])], 1)
}

/// The last token of `x [b, n, width]`, `[b, 1, width]`.
pub(super) fn last<B: Backend>(x: &Tensor<B, 3>) -> Tensor<B, 3> {
    let [b, n, width] = x.dims();
    x.clone().slice([0..b, n - 1..n, 0..width])
}

/// `μ x + (1 - μ) previous` with `mix = μ [1, width]`.
pub(super) fn mixed<B: Backend>(
    x: &Tensor<B, 3>,
    previous: &Tensor<B, 3>,
    mix: Tensor<B, 2>,
) -> Tensor<B, 3> {
    previous.clone() + (x.clone() - previous.clone()) * mix.unsqueeze_dim::<3>(0)
}

//! Losses that routers share.

use burn::tensor::{Tensor, TensorData, backend::Backend};

/// `Σ_e share_e · p̄_e`, `[1]`: the share of choices that each expert got times its mean probability in `p [tokens,
/// experts]`. `1/E` for even probabilities, 1 when one expert takes all. The gradient flows through `p̄`.
pub(super) fn overlap<B: Backend>(p: Tensor<B, 2>, choices: impl Iterator<Item = usize>) -> Tensor<B, 1> {
    let [_, experts] = p.dims();
    let (mut counts, mut all) = (vec![0_usize; experts], 0);
    for expert in choices {
        counts[expert] += 1;
        all += 1;
    }
    let share: Vec<f32> = counts.iter().map(|n| *n as f32 / all as f32).collect();
    let share = Tensor::<B, 1>::from_data(TensorData::new(share, [experts]), &p.device());
    (p.mean_dim(0).squeeze_dim::<1>(0) * share).sum()
}

/// The square of the coefficient of variation of `x [experts]`, `[1]`: 0 when even (1701.06538).
pub(super) fn variation<B: Backend>(x: Tensor<B, 1>) -> Tensor<B, 1> {
    let mean = x.clone().mean();
    (x - mean.clone()).square().mean() / (mean.square() + 1e-10)
}

/// `mean (ln Σ exp logits)²` over rows of `logits [tokens, experts]`, `[1]` (2202.08906).
pub(super) fn z<B: Backend>(logits: Tensor<B, 2>) -> Tensor<B, 1> {
    let highest = logits.clone().detach().max_dim(1);
    let sum = (logits - highest.clone()).exp().sum_dim(1);
    (sum.log() + highest).square().mean()
}

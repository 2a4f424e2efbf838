//! How much attention each token is given (2001.08950): `r_j = Σ_heads Σ_i p_ij`, the sums of the columns of the matrix of
//! probabilities, which is formed for a few queries at a time.
//!
//! Nothing goes back through it: tokens are chosen by it. The scores are computed once more, one product beside the two of the
//! attention, so that every form of softmax attention, one that keeps no probabilities too, can be asked.

use burn::{
    backend::{Autodiff, Flex, autodiff::checkpoint::strategy::CheckpointStrategy, flex::FlexTensor},
    tensor::{Tensor, TensorMetadata, activation::softmax, backend::AutodiffBackend, ops::FloatTensor},
};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{
    AttentionOp, Band,
    cpu::Sizes,
    forward::{BLOCK, Block, Scores},
    reference::{outside, spread},
};
use crate::{
    counter,
    model::Pass,
    ops::{contiguous, cpu_tensor, unwrap, values, wrap},
};

/// Queries that the definition looks at together.
const QUERIES: usize = 64;

/// The product that forms the scores.
const PRODUCT: Pass = Pass {
    forward: 1,
    backward: 0,
};

/// Attention that tokens are given, for `q [b, n, h, d]` and `k [b, keys, g, d]`.
pub trait AttentionReceivedOp: AttentionOp {
    /// Sums over heads and queries, `[b, keys]`.
    fn attention_received(q: FloatTensor<Self>, k: FloatTensor<Self>, band: Band) -> FloatTensor<Self> {
        unwrap(by_definition::<Self>(wrap(q), wrap(k), band))
    }
}

/// In plain tensor operations: what a GPU executes.
fn by_definition<B: AttentionOp>(q: Tensor<B, 4>, k: Tensor<B, 4>, band: Band) -> Tensor<B, 2> {
    let [b, n, h, d] = q.dims();
    let k = spread(k, band.keys, h).swap_dims(2, 3);
    let q = q.swap_dims(1, 2) / (d as f64).sqrt();
    let mut received = Tensor::zeros([b, band.keys], &q.device());
    for first in (0..n).step_by(QUERIES) {
        let rows = QUERIES.min(n - first);
        let mask = outside::<B>(&q.device(), [b, h], [first, rows], &band);
        let scores = q.clone().narrow(2, first, rows).matmul(k.clone());
        let p = softmax(scores.mask_fill(mask.clone(), f32::MIN), 3).mask_fill(mask, 0.0);
        received = received + p.sum_dim(2).sum_dim(1).reshape([b, band.keys]);
    }
    counter::add_macs(b * h * n * band.keys * d);
    received
}

/// Attention that each token of `k [b, keys, g, d]` is given by `q [b, n, h, d]`, summed over heads and queries, `[b, keys]`.
pub fn attention_received<B: AttentionReceivedOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    band: Band,
) -> Tensor<B, 2> {
    wrap(B::attention_received(unwrap(q), unwrap(k), band))
}

#[cfg(feature = "cuda")]
impl AttentionReceivedOp for burn::backend::Cuda {}

impl<B: AttentionReceivedOp, C: CheckpointStrategy> AttentionReceivedOp for Autodiff<B, C> {
    fn attention_received(q: FloatTensor<Self>, k: FloatTensor<Self>, band: Band) -> FloatTensor<Self> {
        Self::from_inner(B::attention_received(q.primitive, k.primitive, band))
    }
}

impl AttentionReceivedOp for Flex {
    fn attention_received(q: FlexTensor, k: FlexTensor, band: Band) -> FlexTensor {
        let (q, k) = (contiguous(q), contiguous(k));
        let (batch, sizes) = Sizes::of(&q, &k, band);
        let keys = k.shape()[1];
        let (q_len, k_len) = (sizes.rows * sizes.query_stride(), keys * sizes.key_stride());
        let (arch, groups) = (Arch::new(), sizes.groups);
        let parts: Vec<Vec<f32>> = (0..batch * groups)
            .into_par_iter()
            .map(|task| {
                let (b, group) = (task / groups, task % groups);
                let mut received = vec![0.0f32; sizes.band.keys];
                arch.dispatch(Received {
                    q: &values(&q)[b * q_len..][..q_len],
                    k: &values(&k)[b * k_len..][..k_len],
                    group,
                    sizes: &sizes.sequence(b),
                    received: &mut received,
                });
                received
            })
            .collect();
        sizes
            .band
            .count_forward(batch, sizes.queries, sizes.heads * sizes.depth, PRODUCT);
        let mut sums = Vec::with_capacity(batch * sizes.band.keys);
        for of_groups in parts.chunks_exact(groups) {
            sums.extend((0..sizes.band.keys).map(|j| of_groups.iter().map(|part| part[j]).sum::<f32>()));
        }
        cpu_tensor(sums, &[batch, sizes.band.keys])
    }
}

/// The query heads of one key/value head.
struct Received<'a> {
    q: &'a [f32],
    k: &'a [f32],
    group: usize,
    sizes: &'a Sizes,
    /// A sum for each key, and zeros for those of padding.
    received: &'a mut [f32],
}

impl WithSimd for Received<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Received {
            q,
            k,
            group,
            sizes,
            received,
        } = self;
        let mut scores = Scores::new(k, group, sizes);
        for h in 0..sizes.share() {
            for first in (0..sizes.queries).step_by(BLOCK) {
                let Block { start, width, p } = scores.probabilities(simd, q, h, first);
                for row in p.chunks_exact(width) {
                    for (sum, p) in received[start..].iter_mut().zip(row) {
                        *sum += p;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;
    use crate::ops::{Lengths, attention::reference};

    fn inputs(n: usize, h: usize, g: usize) -> [Tensor<Flex, 4>; 2] {
        let random = |heads| {
            Tensor::random(
                [2, n, heads, 8],
                Distribution::Normal(0.0, 1.5),
                &Default::default(),
            )
        };
        [random(h), random(g)]
    }

    #[test]
    fn it_is_the_sum_of_the_columns_of_all_probabilities() {
        let padded = Some(Lengths::new(vec![9, 70]));
        let near = Band {
            window: 5,
            ahead: 3,
            ..Band::whole(70, padded.clone())
        };
        for (h, g) in [(4, 4), (4, 2), (3, 1)] {
            for band in [
                Band::whole(70, None),
                Band::whole(70, padded.clone()),
                Band::causal(70),
                near.clone(),
            ] {
                let [q, k] = inputs(70, h, g);
                let found = attention_received(q.clone(), k.clone(), band.clone()).into_data();
                let by_blocks = by_definition(q.clone(), k.clone(), band.clone()).into_data();
                let (_, p) = reference::forward(q, k.clone(), k, band);
                let expected = p.sum_dim(2).sum_dim(1).reshape([2, 70]).into_data();
                let near = Tolerance::rel_abs(1e-4, 1e-4);
                found.assert_approx_eq::<f32>(&expected, near);
                by_blocks.assert_approx_eq::<f32>(&expected, near);
            }
        }
    }

    #[test]
    fn a_query_gives_1_in_all_padding_is_given_nothing_and_nothing_goes_back() {
        let [q, k] = inputs(70, 2, 1).map(|x| Tensor::<Autodiff<Flex>, 4>::from_inner(x).require_grad());
        let received = attention_received(q, k, Band::whole(70, Some(Lengths::new(vec![70, 11]))));
        assert!(!crate::ops::tracks(&received));
        let sums: Vec<f32> = received.into_data().iter().collect();
        for (row, n) in [(0, 70), (1, 11)] {
            let row = &sums[row * 70..][..70];
            assert!((row.iter().sum::<f32>() - 2.0 * n as f32).abs() < 1e-3);
            assert!(row[n..].iter().all(|r| *r == 0.0));
        }
    }
}

//! Softmax attention over a causal band: full causal attention and a sliding window, with grouped key/value heads.
//!
//! `O_i = softmax_j(q_i · k_j / √d) v_j` over the keys `j` that the band of row `i` holds. The CPU kernel visits
//! exactly those pairs, so a window of `w` costs `w` products for each query and never forms the full matrix.
//! The probabilities are kept for the backward pass (the tiled form computes them again instead).

mod backward;
mod cpu;
mod forward;
mod reference;
mod tiled;

use std::ops::Range;

pub use self::tiled::{TiledAttentionOp, Tiles, tiled_attention};
use super::{unwrap, wrap};
use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops as Step, OpsKind},
        },
    },
    tensor::{Tensor, backend::Backend, ops::FloatTensor},
};

/// Which keys each query sees: query `i` stands at position `offset + i` of `keys` keys, and sees itself and the
/// `window - 1` positions before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// Position of the first query among the keys.
    pub offset: usize,
    /// Number of keys that are filled; the key tensor may be longer.
    pub keys: usize,
    /// Number of keys seen at most; `usize::MAX` for all.
    pub window: usize,
}

impl Band {
    /// Causal over a whole sequence of `n`.
    pub fn causal(n: usize) -> Band {
        Band {
            offset: 0,
            keys: n,
            window: usize::MAX,
        }
    }

    /// The keys that query `i` sees.
    pub fn row(&self, i: usize) -> Range<usize> {
        let end = (self.offset + i + 1).min(self.keys);
        end.saturating_sub(self.window)..end
    }

    /// Pairs of query and key for `queries` queries.
    pub fn pairs(&self, queries: usize) -> usize {
        (0..queries).map(|i| self.row(i).len()).sum()
    }
}

/// Attention over a band. Shapes: `q [b, n, h, d]`, `k` and `v` `[b, keys or more, g, d]` with `g` dividing `h`.
pub trait AttentionOp: Backend {
    /// Gives the output `[b, n, h, d]` and what [`AttentionOp::attention_backward`] needs beside the inputs.
    fn attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        band: Band,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (o, p) = reference::forward::<Self>(wrap(q), wrap(k), wrap(v), band);
        (unwrap(o), unwrap(p))
    }

    /// The output alone, where no backward pass is to come.
    fn attention_output(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        band: Band,
    ) -> FloatTensor<Self> {
        Self::attention_forward(q, k, v, band).0
    }

    /// Gradients of `q`, `k` and `v`.
    fn attention_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        saved: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        band: Band,
    ) -> [FloatTensor<Self>; 3] {
        reference::backward::<Self>(wrap(q), wrap(k), wrap(v), wrap(saved), wrap(gradient), band).map(unwrap)
    }
}

/// Attention over a band; see [`AttentionOp`].
pub fn attention<B: AttentionOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    band: Band,
) -> Tensor<B, 4> {
    wrap(B::attention_output(unwrap(q), unwrap(k), unwrap(v), band))
}

#[cfg(feature = "cuda")]
impl AttentionOp for burn::backend::Cuda {}

impl<B: AttentionOp, C: CheckpointStrategy> AttentionOp for Autodiff<B, C> {
    fn attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        band: Band,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct Attention;
        impl<B: AttentionOp> Backward<B, 3> for Attention {
            type State = (
                FloatTensor<B>,
                FloatTensor<B>,
                FloatTensor<B>,
                FloatTensor<B>,
                Band,
            );

            fn backward(self, ops: Step<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (q, k, v, saved, band) = ops.state;
                pass_on!(
                    B,
                    ops.parents,
                    B::attention_backward(q, k, v, saved, g, band),
                    grads
                );
            }
        }
        let nodes = [q.node.clone(), k.node.clone(), v.node.clone()];
        let (q, k, v) = (q.primitive, k.primitive, v.primitive);
        let (o, saved) = B::attention_forward(q.clone(), k.clone(), v.clone(), band);
        let kept = <Self as burn::tensor::backend::AutodiffBackend>::from_inner(saved.clone());
        let o = match Attention.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((q, k, v, saved, band), o),
            OpsKind::UnTracked(prep) => prep.finish(o),
        };
        (o, kept)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, TensorData};

    use burn::backend::Flex;

    use super::*;
    use crate::counter;

    type A = Autodiff<Flex>;

    fn close(a: TensorData, b: TensorData) {
        a.assert_approx_eq::<f32>(&b, burn::tensor::Tolerance::rel_abs(1e-3, 1e-4));
    }

    fn inputs(n: usize, keys: usize, h: usize, g: usize) -> [Tensor<Flex, 4>; 3] {
        let device = Default::default();
        let random = |shape: [usize; 4]| Tensor::random(shape, Distribution::Normal(0.0, 1.5), &device);
        [
            random([2, n, h, 8]),
            random([2, keys, g, 8]),
            random([2, keys, g, 8]),
        ]
    }

    #[test]
    fn the_kernel_and_its_gradients_equal_the_definition() {
        let window = |window, n| Band {
            offset: 0,
            keys: n,
            window,
        };
        let cases = [
            (1, 1, Band::causal(1)),
            (7, 7, Band::causal(7)),
            (33, 33, Band::causal(33)),
            (33, 33, window(1, 33)),
            (33, 33, window(5, 33)),
            (33, 33, window(64, 33)),
            (
                3,
                20,
                Band {
                    offset: 9,
                    keys: 12,
                    window: usize::MAX,
                },
            ),
            (
                6,
                20,
                Band {
                    offset: 9,
                    keys: 15,
                    window: 4,
                },
            ),
        ];
        for (n, keys, band) in cases {
            for (h, g) in [(4, 4), (4, 2), (4, 1)] {
                let [q, k, v] = inputs(n, keys, h, g);
                let (o, saved) =
                    Flex::attention_forward(unwrap(q.clone()), unwrap(k.clone()), unwrap(v.clone()), band);
                let (expected, p) = reference::forward(q.clone(), k.clone(), v.clone(), band);
                close(wrap::<Flex, 4>(o).into_data(), expected.clone().into_data());
                let gradient = expected.clone() * 0.5 + 0.1;
                let got = Flex::attention_backward(
                    unwrap(q.clone()),
                    unwrap(k.clone()),
                    unwrap(v.clone()),
                    saved,
                    unwrap(gradient.clone()),
                    band,
                );
                let expected = reference::backward(q, k, v, p, gradient, band);
                for (got, expected) in got.into_iter().zip(expected) {
                    close(wrap::<Flex, 4>(got).into_data(), expected.into_data());
                }
            }
        }
    }

    #[test]
    fn autodiff_agrees_with_burns_own_gradients() {
        let [q, k, v] = inputs(9, 9, 4, 2).map(|t| Tensor::<A, 4>::from_inner(t).require_grad());
        let o = attention(q.clone(), k.clone(), v.clone(), Band::causal(9));
        let grads = (o.clone() * o).sum().backward();
        let ours = [&q, &k, &v].map(|t| t.grad(&grads).unwrap().into_data());
        // the definition, differentiated by burn itself
        let (ks, vs) = (
            reference::spread(k.clone(), 9, 4),
            reference::spread(v.clone(), 9, 4),
        );
        let mask = reference::outside_band::<A>(&q.device(), 9, Band::causal(9))
            .unsqueeze::<4>()
            .expand([2, 4, 9, 9]);
        let scores = q
            .clone()
            .swap_dims(1, 2)
            .matmul(ks.swap_dims(2, 3))
            .div_scalar(8f32.sqrt());
        let p = burn::tensor::activation::softmax(scores.mask_fill(mask, f32::MIN), 3);
        let o = p.matmul(vs);
        let grads = (o.clone() * o).sum().backward();
        for (ours, t) in ours.into_iter().zip([&q, &k, &v]) {
            close(ours, t.grad(&grads).unwrap().into_data());
        }
    }

    #[test]
    fn only_the_band_is_computed() {
        let [q, k, v] = inputs(64, 64, 4, 2);
        let causal = counter::count_macs(|| attention(q.clone(), k.clone(), v.clone(), Band::causal(64))).1;
        assert_eq!(causal, 2 * 2 * 4 * 8 * (64 * 65 / 2));
        let band = Band {
            offset: 0,
            keys: 64,
            window: 4,
        };
        let windowed = counter::count_macs(|| attention(q, k, v, band)).1;
        assert_eq!(windowed, 2 * 2 * 4 * 8 * (1 + 2 + 3 + 61 * 4));
    }

    #[test]
    fn later_tokens_never_change_earlier_outputs_and_huge_scores_stay_finite() {
        let [q, k, v] = inputs(16, 16, 2, 2);
        let before = attention(q.clone(), k.clone(), v.clone(), Band::causal(16));
        let change = Tensor::<Flex, 4>::full([2, 6, 2, 8], 1e4, &q.device());
        let (k2, v2) = (
            k.slice_assign([0..2, 10..16, 0..2, 0..8], change.clone()),
            v.slice_assign([0..2, 10..16, 0..2, 0..8], change),
        );
        let after = attention(q.clone() * 50.0, k2.clone(), v2.clone(), Band::causal(16));
        assert!(after.into_data().iter::<f32>().all(f32::is_finite));
        let after = attention(q, k2, v2, Band::causal(16));
        let head = |t: Tensor<Flex, 4>| t.slice([0..2, 0..10]).into_data();
        assert_eq!(head(before), head(after));
    }
}

//! Softmax attention over a band: causal or in both directions, full or a sliding window, with grouped key/value heads.
//!
//! `O_i = softmax_j(q_i · k_j / √d) v_j` over the keys `j` that the band of row `i` holds. The CPU kernel visits
//! them for sixteen queries at a time, up to fifteen keys more for each, so the work of a window of `w` grows with `w` and
//! the full matrix is never formed; padding it does not visit at all.
//! The probabilities are kept for the backward pass (the tiled form computes them again instead).

mod backward;
mod band;
mod cpu;
mod forward;
mod one_query;
mod received;
pub(super) mod reference;
pub(super) mod tiled;

pub(crate) use self::reference::{outside, spread};
pub use self::{
    band::Band,
    received::{AttentionReceivedOp, attention_received},
    tiled::{TiledAttentionOp, Tiles, tiled_attention},
};
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

    /// Queries, keys and values as they are kept for the way back: a device may multiply them in fewer bits.
    fn attention_kept(inputs: [FloatTensor<Self>; 3]) -> [FloatTensor<Self>; 3] {
        inputs
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
        let [q, k, v] = B::attention_kept([q.primitive, k.primitive, v.primitive]);
        let (o, saved) = B::attention_forward(q.clone(), k.clone(), v.clone(), band.clone());
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
    use crate::{counter, ops::Lengths};

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

    fn lengths() -> Option<Lengths> {
        lengths_of(&[9, 33])
    }

    fn lengths_of(lengths: &[usize]) -> Option<Lengths> {
        Some(Lengths::new(lengths.to_vec()))
    }

    fn near(window: usize, ahead: usize, lengths: Option<Lengths>) -> Band {
        Band {
            window,
            ahead,
            ..Band::whole(20, lengths)
        }
    }

    #[test]
    fn the_kernel_and_its_gradients_equal_the_definition() {
        let window = |window, n| Band {
            offset: 0,
            window,
            ..Band::causal(n)
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
                    window: usize::MAX,
                    ..Band::causal(12)
                },
            ),
            (
                6,
                20,
                Band {
                    offset: 9,
                    window: 4,
                    ..Band::causal(15)
                },
            ),
            (1, 1, Band::whole(1, None)),
            (33, 33, Band::whole(33, None)),
            (33, 33, Band::whole(33, lengths())),
            (20, 20, near(3, 2, None)),
            (20, 20, near(1, 4, Some(Lengths::new(vec![20, 2])))),
            // queries over all of another sequence, fewer and more than it has tokens
            (5, 20, Band::across(20, None)),
            (5, 20, Band::across(20, lengths_of(&[20, 3]))),
            (40, 9, Band::across(9, lengths_of(&[1, 9]))),
        ];
        for (n, keys, band) in cases {
            for (h, g) in [(4, 4), (4, 2), (4, 1)] {
                let [q, k, v] = inputs(n, keys, h, g);
                let (o, saved) = Flex::attention_forward(
                    unwrap(q.clone()),
                    unwrap(k.clone()),
                    unwrap(v.clone()),
                    band.clone(),
                );
                let (expected, p) = reference::forward(q.clone(), k.clone(), v.clone(), band.clone());
                close(wrap::<Flex, 4>(o).into_data(), expected.clone().into_data());
                let gradient = expected.clone() * 0.5 + 0.1;
                let got = Flex::attention_backward(
                    unwrap(q.clone()),
                    unwrap(k.clone()),
                    unwrap(v.clone()),
                    saved,
                    unwrap(gradient.clone()),
                    band.clone(),
                );
                let expected = reference::backward(q, k, v, p, gradient, band.clone());
                for (got, expected) in got.into_iter().zip(expected) {
                    close(wrap::<Flex, 4>(got).into_data(), expected.into_data());
                }
            }
        }
    }

    #[test]
    fn one_query_gives_what_the_definition_gives() {
        let at = |offset, window| Band {
            offset,
            window,
            ..Band::causal(offset + 1)
        };
        let bands = [
            at(0, usize::MAX),
            at(7, usize::MAX),
            at(38, usize::MAX),
            at(38, 21),
            Band::across(39, None),
            Band::across(39, lengths_of(&[39, 3])),
        ];
        for band in bands {
            for (h, g) in [(4, 4), (4, 2), (4, 1), (12, 6)] {
                let [q, k, v] = inputs(1, 39, h, g);
                let o = attention(q.clone(), k.clone(), v.clone(), band.clone());
                close(
                    o.into_data(),
                    reference::forward(q, k, v, band.clone()).0.into_data(),
                );
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
        let mask = reference::outside::<A>(&q.device(), [2, 4], [0, 9], &Band::causal(9));
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
            window: 4,
            ..Band::causal(64)
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

    #[test]
    fn padding_changes_no_bit_and_what_it_leaves_out_is_noted() {
        let [q, k, v] = inputs(20, 20, 4, 2);
        for band in [Band::whole(20, None), near(3, 2, None)] {
            let padded = Band {
                lengths: Some(Lengths::new(vec![20, 13])),
                ..band.clone()
            };
            let run = |band: Band, change: f64| {
                let change = Tensor::full([2, 7, 2, 8], change, &q.device());
                let at = [0..2, 13..20, 0..2, 0..8];
                let (k, v) = (
                    k.clone().slice_assign(at.clone(), change.clone()),
                    v.clone().slice_assign(at, change),
                );
                let work = || attention(q.clone(), k, v, band);
                let ((o, macs), skipped) = counter::count_skipped(|| counter::count_macs(work));
                (o.narrow(0, 1, 1).into_data(), macs, skipped)
            };
            let (o, macs, skipped) = run(padded.clone(), 1e4);
            assert_eq!(o, run(padded, -3.0).0);
            let (_, all, none) = run(band.clone(), 0.0);
            assert_eq!((macs + skipped.forward, none.total()), (all, 0));
            assert_eq!(skipped.backward, 2 * skipped.forward);
            // the same as the sequence alone, without padding
            let alone = |x: &Tensor<Flex, 4>| x.clone().slice([1..2, 0..13]);
            let alone = attention(
                alone(&q),
                alone(&k),
                alone(&v),
                Band {
                    keys: 13,
                    ..band.clone()
                },
            );
            let expected: Vec<f32> = alone.into_data().iter().collect();
            let got: Vec<f32> = o.iter().collect();
            assert_eq!(got[..expected.len()], expected);
            assert!(got[expected.len()..].iter().all(|x| *x == 0.0));
        }
    }

    #[test]
    fn padding_of_another_sequence_is_never_seen_and_all_queries_are_answered() {
        let [q, k, v] = inputs(6, 20, 4, 2);
        let band = Band::across(20, lengths_of(&[20, 13]));
        let run = |change: f64| {
            let change = Tensor::full([1, 7, 2, 8], change, &q.device());
            let at = [1..2, 13..20, 0..2, 0..8];
            let (k, v) = (
                k.clone().slice_assign(at.clone(), change.clone()),
                v.clone().slice_assign(at, change),
            );
            counter::count_skipped(|| counter::count_macs(|| attention(q.clone(), k, v, band.clone())))
        };
        let ((o, macs), skipped) = run(1e4);
        assert_eq!(o.clone().into_data(), run(-3.0).0.0.into_data());
        assert_eq!((macs, skipped.forward), (2 * 4 * 8 * 6 * 33, 2 * 4 * 8 * 6 * 7));
        let alone = |x: &Tensor<Flex, 4>, n: usize| x.clone().slice([1..2, 0..n]);
        let alone = attention(alone(&q, 6), alone(&k, 13), alone(&v, 13), Band::across(13, None));
        assert_eq!(alone.into_data(), o.narrow(0, 1, 1).into_data());
    }

    #[test]
    fn in_both_directions_the_order_of_the_tokens_does_not_matter() {
        let [q, k, v] = inputs(9, 9, 4, 4);
        let o = attention(q.clone(), k.clone(), v.clone(), Band::whole(9, None));
        let turned = attention(q.flip([1]), k.flip([1]), v.flip([1]), Band::whole(9, None));
        close(turned.flip([1]).into_data(), o.into_data());
    }
}

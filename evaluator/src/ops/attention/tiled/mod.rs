//! FlashAttention's algorithm (2205.14135, 2307.08691): softmax attention over a band, block by block.
//!
//! Each block of queries meets one block of keys after the other and keeps only a running maximum and sum (1805.02867),
//! so neither pass ever holds more scores than one block's. What is saved for the backward pass is the logarithm of each
//! row's sum; probabilities are computed again from it. Work is that of full attention plus one product more backwards.

mod backward;
mod cpu;
mod forward;
pub(in crate::ops) mod reference;

use super::{
    super::{unwrap, wrap},
    AttentionOp, Band,
};
use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops as Step, OpsKind},
        },
    },
    tensor::{Tensor, ops::FloatTensor},
};

/// Sizes of the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// Rows of queries.
    pub queries: usize,
    /// Rows of keys.
    pub keys: usize,
}

/// Attention over a band in blocks. Shapes are those of [`super::AttentionOp`].
pub trait TiledAttentionOp: AttentionOp {
    /// The output `[b, n, h, d]` and the logarithm of each row's sum of exponentials, `[b, h, n]`.
    fn tiled_forward(
        inputs: [FloatTensor<Self>; 3],
        band: Band,
        tiles: Tiles,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (o, sums) = reference::forward::<Self>(inputs.map(wrap), band, tiles);
        (unwrap(o), unwrap(sums))
    }

    /// Gradients of `q`, `k` and `v`, from the output, the saved logarithms and the output's gradient.
    fn tiled_backward(
        inputs: [FloatTensor<Self>; 3],
        o: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        band: Band,
        tiles: Tiles,
    ) -> [FloatTensor<Self>; 3] {
        reference::backward::<Self>(inputs.map(wrap), wrap(o), wrap(sums), wrap(gradient), band, tiles)
            .map(unwrap)
    }
}

/// Attention over a band in blocks; see [`TiledAttentionOp`].
pub fn tiled_attention<B: TiledAttentionOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    band: Band,
    tiles: Tiles,
) -> Tensor<B, 4> {
    wrap(B::tiled_forward([q, k, v].map(unwrap), band, tiles).0)
}

impl<B: TiledAttentionOp, C: CheckpointStrategy> TiledAttentionOp for Autodiff<B, C> {
    fn tiled_forward(
        inputs: [FloatTensor<Self>; 3],
        band: Band,
        tiles: Tiles,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct Tiled;
        impl<B: TiledAttentionOp> Backward<B, 3> for Tiled {
            type State = ([FloatTensor<B>; 3], FloatTensor<B>, FloatTensor<B>, Band, Tiles);

            fn backward(self, ops: Step<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (inputs, o, sums, band, tiles) = ops.state;
                let gradients = B::tiled_backward(inputs, o, sums, g, band, tiles);
                pass_on!(B, ops.parents, gradients, grads);
            }
        }
        let nodes = inputs.each_ref().map(|x| x.node.clone());
        let inputs = B::attention_kept(inputs.map(|x| x.primitive));
        let (o, sums) = B::tiled_forward(inputs.clone(), band.clone(), tiles);
        let kept = <Self as burn::tensor::backend::AutodiffBackend>::from_inner(sums.clone());
        let o = match Tiled.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, o.clone(), sums, band, tiles), o),
            OpsKind::UnTracked(prep) => prep.finish(o),
        };
        (o, kept)
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::Flex,
        tensor::{DType, Distribution, TensorData, Tolerance},
    };

    use super::*;
    use crate::{
        counter,
        ops::{
            Lengths,
            attention::{attention, tiled::reference},
        },
    };

    type A = Autodiff<Flex>;

    fn close(a: TensorData, b: TensorData) {
        a.assert_approx_eq::<f32>(&b, Tolerance::rel_abs(1e-4, 1e-5));
    }

    fn inputs(n: usize, keys: usize, h: usize, g: usize) -> [Tensor<A, 4>; 3] {
        let random = |n, heads| {
            Tensor::<A, 4>::random(
                [2, n, heads, 8],
                Distribution::Normal(0.0, 1.0),
                &Default::default(),
            )
        };
        [random(n, h), random(keys, g), random(keys, g)].map(Tensor::require_grad)
    }

    fn band(n: usize, window: usize) -> Band {
        Band {
            window,
            ..Band::causal(n)
        }
    }

    /// The outputs and gradients of the form that keeps its probabilities are those of every tiling.
    #[test]
    fn every_tiling_equals_the_form_that_forms_the_matrix_with_gradients() {
        let lengths = |lengths: &[usize]| Some(Lengths::new(lengths.to_vec()));
        for (n, h, g, band) in [
            (1, 2, 2, band(1, 9)),
            (13, 4, 2, band(13, 99)),
            (37, 4, 1, band(37, 99)),
            (37, 2, 2, band(37, 5)),
            (32, 2, 2, band(32, 99)),
            (13, 4, 2, Band::whole(13, None)),
            (37, 2, 1, Band::whole(37, lengths(&[5, 37]))),
            // queries over all of another sequence, fewer and more than it has tokens
            (13, 4, 2, Band::across(37, lengths(&[5, 37]))),
            (37, 2, 2, Band::across(13, lengths(&[13, 1]))),
            (
                21,
                2,
                2,
                Band {
                    window: 3,
                    ahead: 2,
                    ..Band::whole(21, lengths(&[21, 4]))
                },
            ),
        ] {
            let x = inputs(n, band.keys, h, g);
            let gradients = |o: Tensor<A, 4>| {
                let grads = (o.clone() * o.sin()).sum().backward();
                x.each_ref().map(|t| t.grad(&grads).unwrap())
            };
            let [q, k, v] = x.clone();
            let expected = attention(q, k, v, band.clone());
            let expected_gradients = gradients(expected.clone());
            for (queries, keys) in [(1, 1), (4, 8), (8, 3), (16, 16), (64, 64)] {
                let [q, k, v] = x.clone();
                let tiles = Tiles { queries, keys };
                let o = tiled_attention(q, k, v, band.clone(), tiles);
                close(o.to_data(), expected.to_data());
                for (ours, expected) in gradients(o).into_iter().zip(&expected_gradients) {
                    close(ours.into_data(), expected.to_data());
                }
                let plain = x.clone().map(Tensor::inner);
                let (o, sums) = reference::forward(plain.clone(), band.clone(), tiles);
                close(o.to_data(), expected.to_data());
                let (_, saved) = Flex::tiled_forward(plain.clone().map(unwrap), band.clone(), tiles);
                close(sums.to_data(), wrap::<Flex, 3>(saved).into_data());
                let upstream = expected.clone().inner();
                let upstream = upstream.clone().sin() + upstream.clone() * upstream.cos();
                let back = reference::backward(plain, o, sums, upstream, band.clone(), tiles);
                for (ours, expected) in back.into_iter().zip(&expected_gradients) {
                    close(ours.into_data(), expected.to_data());
                }
            }
        }
    }

    /// The definition in double precision, with gradients by its own formulas: each pair on its own.
    fn definition([q, k, v, g]: [&[f64]; 4], [n, d]: [usize; 2], window: usize) -> [Vec<f64>; 4] {
        let dot = |a: &[f64], i: usize, b: &[f64], j: usize| -> f64 {
            let pairs = a[i * d..][..d].iter().zip(&b[j * d..][..d]);
            pairs.map(|(a, b)| a * b).sum()
        };
        let scale = 1.0 / (d as f64).sqrt();
        let [mut o, mut dq, mut dk, mut dv] = [(); 4].map(|()| vec![0.0; n * d]);
        for i in 0..n {
            let seen = (i + 1).saturating_sub(window)..i + 1;
            let weights: Vec<f64> = seen.clone().map(|j| (dot(q, i, k, j) * scale).exp()).collect();
            let all: f64 = weights.iter().sum();
            for (j, w) in seen.clone().zip(&weights) {
                (0..d).for_each(|c| o[i * d + c] += w / all * v[j * d + c]);
            }
            let mean = dot(g, i, &o, i);
            for (j, w) in seen.zip(&weights) {
                let (p, slope) = (w / all, w / all * (dot(g, i, v, j) - mean) * scale);
                for c in 0..d {
                    dv[j * d + c] += p * g[i * d + c];
                    dq[i * d + c] += slope * k[j * d + c];
                    dk[j * d + c] += slope * q[i * d + c];
                }
            }
        }
        [o, dq, dk, dv]
    }

    /// What the kernel computes in single precision, in double: that no digit is lost is the algorithm's doing.
    #[test]
    fn tiles_in_doubles_are_the_definition_to_the_last_digits() {
        let d = 8;
        for (n, window) in [(1, 99), (13, 99), (37, 99), (37, 5)] {
            let random = || {
                let normal = Distribution::Normal(0.0, 1.0);
                Tensor::<Flex, 4>::random([1, n, 1, d], normal, &Default::default()).cast(DType::F64)
            };
            let [q, k, v, g] = [(); 4].map(|()| random());
            let numbers = |x: &Tensor<Flex, 4>| x.to_data().to_vec::<f64>().expect("doubles");
            let all = [&q, &k, &v, &g].map(numbers);
            let expected = definition(all.each_ref().map(Vec::as_slice), [n, d], window);
            for (queries, keys) in [(1, 1), (8, 3), (16, 16), (64, 64)] {
                let (tiles, band) = (Tiles { queries, keys }, band(n, window));
                let x = [q.clone(), k.clone(), v.clone()];
                let (o, sums) = reference::forward(x.clone(), band.clone(), tiles);
                let [dq, dk, dv] = reference::backward(x, o.clone(), sums, g.clone(), band, tiles);
                for (ours, expected) in [o, dq, dk, dv].iter().zip(&expected) {
                    let pairs = numbers(ours).into_iter().zip(expected);
                    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                    assert!(worst <= 1e-12, "n {n}, {queries} x {keys}: {worst}");
                }
            }
        }
    }

    #[test]
    fn huge_scores_stay_finite_and_each_pair_is_multiplied_once_forward_and_five_halves_times_backward() {
        let [q, k, v] = inputs(40, 40, 2, 2);
        let tiles = Tiles {
            queries: 16,
            keys: 16,
        };
        let (o, forward) =
            counter::count_macs(|| tiled_attention(q.clone() * 80.0, k * 80.0, v, band(40, 99), tiles));
        let (gradients, backward) = counter::count_macs(|| o.clone().sum().backward());
        assert!(o.into_data().iter::<f32>().all(f32::is_finite));
        let gradient = q.grad(&gradients).unwrap().into_data();
        assert!(gradient.iter::<f32>().all(f32::is_finite));
        let pairs = 2 * 2 * 40 * 41 / 2;
        assert_eq!((forward, backward), (2 * 8 * pairs, 5 * 8 * pairs));
    }
}

//! Positive random features of the softmax kernel (FAVOR+, 2009.14794).
//!
//! `φ(x)_r = e^{w_r·x - |x|²/2} / √m` for `m` fixed projections `w_r`, with `x` a query or a key over `d^{1/4}`: over
//! draws of the projections the mean of `φ(q)·φ(k)` is `e^{q·k/√d}`.
//!
//! Exponents must be kept small without breaking causality. A query's largest exponent is subtracted from its others,
//! a factor that its numerator and its denominator share. A key has no such factor of its own, and one taken over all
//! keys, as in the paper's code, would let later keys change earlier outputs. None is needed: a key's exponent is
//! `|w|²/2 - |x - w|²/2`, so no key is above `|w|²/2`, which is about `d/2`. What is still beyond [`LIMIT`] is cut to
//! it: below, of features that count for nothing; above, only where a head has more than some 64 components, and only
//! of a key that is nearly `w`.

mod projections;
mod reference;
#[cfg(test)]
mod tests;

use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops as Step, OpsKind},
        },
        flex::FlexTensor,
    },
    tensor::{Tensor, TensorData, TensorMetadata, backend::Backend, ops::FloatTensor},
};
use multiversion::multiversion;
use rayon::prelude::*;

use self::projections::projections;
use super::{contiguous, cpu_tensor, simd, unwrap, values, wrap};
use crate::counter;

/// The largest exponent either way. Sums of many such features, their quotients and gradients are finite in 32 bits.
const LIMIT: f32 = 60.0;

/// Rows that one task takes.
const ROWS: usize = 64;

/// Which factor of a product a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A query: features up to a factor of its own, the largest 1.
    Query,
    /// A key.
    Key,
}

/// Random features. Shapes: `x [b, n, h, d]`, projections `w [d, m]`, features `[b, n, h, m]`.
pub trait FavorOp: Backend {
    /// The features.
    fn favor_features(x: FloatTensor<Self>, w: FloatTensor<Self>, side: Side) -> FloatTensor<Self> {
        unwrap(reference::features::<Self>(wrap(x), wrap(w), side))
    }

    /// The gradient of `x`, from the features and theirs. A query's factor counts as constant, for it cancels; a feature
    /// that was cut keeps its slope, so that training can lead it back.
    fn favor_backward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        features: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        unwrap(reference::backward::<Self>(
            wrap(x),
            wrap(w),
            wrap(features),
            wrap(gradient),
        ))
    }
}

/// `m` features of each head of `x [b, n, h, d]`; see [`FavorOp`].
pub fn favor_features<B: FavorOp>(x: Tensor<B, 4>, m: usize, side: Side) -> Tensor<B, 4> {
    let d = x.dims()[3];
    let w = TensorData::new(projections(d, m).to_vec(), [d, m]);
    let w = Tensor::<B, 2>::from_data(w, &x.device());
    wrap(B::favor_features(unwrap(x), unwrap(w), side))
}

/// What queries and keys are multiplied by before they are projected.
fn scale(d: usize) -> f32 {
    (d as f32).powf(-0.25)
}

#[cfg(feature = "cuda")]
impl FavorOp for burn::backend::Cuda {}

impl FavorOp for Flex {
    fn favor_features(x: FlexTensor, w: FlexTensor, side: Side) -> FlexTensor {
        let (x, w) = (contiguous(x), contiguous(w));
        let [d, m] = [w.shape()[0], w.shape()[1]];
        let rows = x.shape().num_elements() / d;
        let mut features = vec![0.0f32; rows * m];
        features
            .par_chunks_mut(ROWS * m)
            .zip(values(&x).par_chunks(ROWS * d))
            .for_each(|(features, x)| features_of_rows(x, values(&w), d, side, features));
        counter::add_macs(rows * d * m);
        let s = x.shape();
        cpu_tensor(features, &[s[0], s[1], s[2], m])
    }

    fn favor_backward(
        x: FlexTensor,
        w: FlexTensor,
        features: FlexTensor,
        gradient: FlexTensor,
    ) -> FlexTensor {
        let [x, w, features, gradient] = [x, w, features, gradient].map(contiguous);
        let [d, m] = [w.shape()[0], w.shape()[1]];
        let mut dx = vec![0.0f32; x.shape().num_elements()];
        counter::add_macs(dx.len() * m);
        dx.par_chunks_mut(ROWS * d)
            .zip(values(&x).par_chunks(ROWS * d))
            .zip(values(&features).par_chunks(ROWS * m))
            .zip(values(&gradient).par_chunks(ROWS * m))
            .for_each(|(((dx, x), features), gradient)| {
                gradients_of_rows(x, values(&w), d, features, gradient, dx);
            });
        cpu_tensor(dx, &x.shape())
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn features_of_rows(x: &[f32], w: &[f32], d: usize, side: Side, features: &mut [f32]) {
    let (m, scale) = (w.len() / d, scale(d));
    let half_log = (m as f32).ln() / 2.0;
    let mut scaled = vec![0.0f32; d];
    for (x, features) in x.chunks_exact(d).zip(features.chunks_exact_mut(m)) {
        for (s, x) in scaled.iter_mut().zip(x) {
            *s = x * scale;
        }
        simd::add_weighted_rows(features, &scaled, w, m);
        match side {
            Side::Query => {
                let largest = simd::max(features);
                for f in features {
                    *f = simd::exp((*f - largest).max(-LIMIT));
                }
            }
            Side::Key => {
                let less = simd::dot(&scaled, &scaled) / 2.0;
                for f in features {
                    *f = simd::exp((*f - less).clamp(-LIMIT, LIMIT) - half_log);
                }
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn gradients_of_rows(x: &[f32], w: &[f32], d: usize, features: &[f32], gradient: &[f32], dx: &mut [f32]) {
    let (m, scale) = (w.len() / d, scale(d));
    let mut of_exponents = vec![0.0f32; m];
    let rows = features.chunks_exact(m).zip(gradient.chunks_exact(m));
    for ((dx, x), (f, g)) in dx.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(rows) {
        for ((e, f), g) in of_exponents.iter_mut().zip(f).zip(g) {
            *e = f * g;
        }
        let sum = simd::sum(&of_exponents);
        for ((dx, x), w) in dx.iter_mut().zip(x).zip(w.chunks_exact(m)) {
            *dx = (simd::dot(w, &of_exponents) - sum * x * scale) * scale;
        }
    }
}

impl<B: FavorOp, C: CheckpointStrategy> FavorOp for Autodiff<B, C> {
    fn favor_features(x: FloatTensor<Self>, w: FloatTensor<Self>, side: Side) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Favor;
        impl<B: FavorOp> Backward<B, 1> for Favor {
            type State = [FloatTensor<B>; 3];

            fn backward(self, ops: Step<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let [x, w, features] = ops.state;
                pass_on!(B, ops.parents, [B::favor_backward(x, w, features, g)], grads);
            }
        }
        let (node, w) = (x.node.clone(), w.primitive);
        let features = B::favor_features(x.primitive.clone(), w.clone(), side);
        match Favor.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([x.primitive, w, features.clone()], features),
            OpsKind::UnTracked(prep) => prep.finish(features),
        }
    }
}

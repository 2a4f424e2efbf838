//! Gated unit (2002.05202): `y = silu(a) · b` with `silu(a) = a σ(a)`.

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
    tensor::{Tensor, TensorMetadata, activation::sigmoid, backend::Backend, ops::FloatTensor},
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{contiguous, cpu_tensor, simd, unwrap, values, wrap};

/// Elements for one task.
const CHUNK: usize = 16 * 1024;

/// The gated unit on two tensors of one shape.
pub trait SwigluOp: Backend {
    /// `silu(a) · b`
    fn swiglu_forward(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let (a, b) = (wrap::<Self, 2>(a), wrap::<Self, 2>(b));
        unwrap(a.clone() * sigmoid(a) * b)
    }

    /// Gradients of `a` and `b`.
    fn swiglu_backward(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        g: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2] {
        let (a, b, g) = (wrap::<Self, 2>(a), wrap::<Self, 2>(b), wrap::<Self, 2>(g));
        let gate = sigmoid(a.clone());
        let silu = a.clone() * gate.clone();
        let slope = gate.clone() + silu.clone() * (-gate + 1.0);
        [unwrap(g.clone() * b * slope), unwrap(g * silu)]
    }
}

/// `silu(a) · b` for two tensors of one shape.
pub fn swiglu<B: SwigluOp, const D: usize>(a: Tensor<B, D>, b: Tensor<B, D>) -> Tensor<B, D> {
    let shape = a.dims();
    let rows = shape[..D - 1].iter().product::<usize>();
    let flat = [rows, shape[D - 1]];
    wrap::<B, 2>(B::swiglu_forward(
        unwrap(a.reshape(flat)),
        unwrap(b.reshape(flat)),
    ))
    .reshape(shape)
}

impl SwigluOp for Flex {
    fn swiglu_forward(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        let (a, b) = (contiguous(a), contiguous(b));
        let mut y = vec![0.0f32; a.shape().num_elements()];
        let tasks = values(&a).par_chunks(CHUNK).zip(values(&b).par_chunks(CHUNK));
        tasks
            .zip(y.par_chunks_mut(CHUNK))
            .for_each(|((a, b), y)| forward_chunk(a, b, y));
        cpu_tensor(y, &a.shape())
    }

    fn swiglu_backward(a: FlexTensor, b: FlexTensor, g: FlexTensor) -> [FlexTensor; 2] {
        let (a, b, g) = (contiguous(a), contiguous(b), contiguous(g));
        let n = a.shape().num_elements();
        let (mut da, mut db) = (vec![0.0f32; n], vec![0.0f32; n]);
        let inputs = values(&a)
            .par_chunks(CHUNK)
            .zip(values(&b).par_chunks(CHUNK))
            .zip(values(&g).par_chunks(CHUNK));
        inputs
            .zip(da.par_chunks_mut(CHUNK).zip(db.par_chunks_mut(CHUNK)))
            .for_each(|(((a, b), g), (da, db))| backward_chunk(a, b, g, da, db));
        [cpu_tensor(da, &a.shape()), cpu_tensor(db, &a.shape())]
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward_chunk(a: &[f32], b: &[f32], y: &mut [f32]) {
    for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
        *y = a * b / (1.0 + simd::exp(-a));
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward_chunk(a: &[f32], b: &[f32], g: &[f32], da: &mut [f32], db: &mut [f32]) {
    let n = a.len();
    let (b, g, da, db) = (&b[..n], &g[..n], &mut da[..n], &mut db[..n]);
    for i in 0..n {
        let gate = 1.0 / (1.0 + simd::exp(-a[i]));
        let silu = a[i] * gate;
        da[i] = g[i] * b[i] * (gate + silu * (1.0 - gate));
        db[i] = g[i] * silu;
    }
}

impl<B: SwigluOp, C: CheckpointStrategy> SwigluOp for Autodiff<B, C> {
    fn swiglu_forward(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Swiglu;
        impl<B: SwigluOp> Backward<B, 2> for Swiglu {
            type State = [FloatTensor<B>; 2];

            fn backward(self, ops: Step<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let [a, b] = ops.state;
                pass_on!(B, ops.parents, B::swiglu_backward(a, b, g), grads);
            }
        }
        let nodes = [a.node.clone(), b.node.clone()];
        let (a, b) = (a.primitive, b.primitive);
        match Swiglu.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([a.clone(), b.clone()], B::swiglu_forward(a, b)),
            OpsKind::UnTracked(prep) => prep.finish(B::swiglu_forward(a, b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;

    #[test]
    fn values_and_gradients_equal_the_definition() {
        type A = Autodiff<Flex>;
        let device = Default::default();
        let random =
            || Tensor::<A, 2>::random([37, 21], Distribution::Normal(0.0, 4.0), &device).require_grad();
        let (a, b) = (random(), random());
        let y = swiglu(a.clone(), b.clone());
        let grads = (y.clone() * y.clone()).sum().backward();
        let ours = [
            a.grad(&grads).unwrap().into_data(),
            b.grad(&grads).unwrap().into_data(),
        ];
        let plain = a.clone() * sigmoid(a.clone()) * b.clone();
        let near = Tolerance::rel_abs(1e-3, 1e-4);
        y.into_data()
            .assert_approx_eq::<f32>(&plain.clone().into_data(), near);
        let grads = (plain.clone() * plain).sum().backward();
        ours[0].assert_approx_eq::<f32>(&a.grad(&grads).unwrap().into_data(), near);
        ours[1].assert_approx_eq::<f32>(&b.grad(&grads).unwrap().into_data(), near);
    }
}

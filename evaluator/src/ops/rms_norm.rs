//! Root-mean-square normalisation (1910.07467): `y = x / √(mean(x²) + ε) · w`, over the last dimension.

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
    tensor::{Tensor, TensorMetadata, backend::Backend, ops::FloatTensor},
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{contiguous, cpu_tensor, simd, unwrap, values, wrap};

/// Rows for one task; fixed, so that sums are formed in one order whatever the number of threads.
const ROWS: usize = 128;

/// Normalisation of `x [rows, width]` by `w [width]`.
pub trait RmsNormOp: Backend {
    /// The normalised rows and `1 / √(mean(x²) + ε)` of each, `[rows]`.
    fn rms_norm_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (x, w) = (wrap::<Self, 2>(x), wrap::<Self, 1>(w));
        let inverse = (x.clone().square().mean_dim(1) + epsilon).sqrt().recip();
        let y = x * inverse.clone() * w.unsqueeze();
        (unwrap(y), unwrap(inverse.squeeze_dim::<1>(1)))
    }

    /// Gradients of `x` and `w`.
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        inverse: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2] {
        let (x, w) = (wrap::<Self, 2>(x), wrap::<Self, 1>(w));
        let (inverse, g) = (
            wrap::<Self, 1>(inverse).unsqueeze_dim::<2>(1),
            wrap::<Self, 2>(gradient),
        );
        let unit = x * inverse.clone();
        let dw = (g.clone() * unit.clone()).sum_dim(0).squeeze_dim::<1>(0);
        let g = g * w.unsqueeze();
        let dx = (g.clone() - unit.clone() * (g * unit).mean_dim(1)) * inverse;
        [unwrap(dx), unwrap(dw)]
    }
}

/// Normalises the last dimension of `x` and scales it by `w`.
pub fn rms_norm<B: RmsNormOp, const D: usize>(
    x: Tensor<B, D>,
    w: Tensor<B, 1>,
    epsilon: f32,
) -> Tensor<B, D> {
    let shape = x.dims();
    let rows = shape[..D - 1].iter().product::<usize>();
    let x = x.reshape([rows, shape[D - 1]]);
    wrap::<B, 2>(B::rms_norm_forward(unwrap(x), unwrap(w), epsilon).0).reshape(shape)
}

impl RmsNormOp for Flex {
    fn rms_norm_forward(x: FlexTensor, w: FlexTensor, epsilon: f32) -> (FlexTensor, FlexTensor) {
        let (x, w) = (contiguous(x), contiguous(w));
        let (rows, width) = (x.shape()[0], x.shape()[1]);
        let mut y = vec![0.0f32; rows * width];
        let mut inverse = vec![0.0f32; rows];
        let tasks = values(&x)
            .par_chunks(ROWS * width)
            .zip(y.par_chunks_mut(ROWS * width));
        tasks
            .zip(inverse.par_chunks_mut(ROWS))
            .for_each(|((x, y), inverse)| {
                forward_rows(x, values(&w), epsilon, y, inverse);
            });
        (cpu_tensor(y, &[rows, width]), cpu_tensor(inverse, &[rows]))
    }

    fn rms_norm_backward(
        x: FlexTensor,
        w: FlexTensor,
        inverse: FlexTensor,
        gradient: FlexTensor,
    ) -> [FlexTensor; 2] {
        let (x, w, gradient) = (contiguous(x), contiguous(w), contiguous(gradient));
        let (rows, width) = (x.shape()[0], x.shape()[1]);
        let mut dx = vec![0.0f32; rows * width];
        let tasks = values(&x)
            .par_chunks(ROWS * width)
            .zip(values(&gradient).par_chunks(ROWS * width));
        let tasks = tasks
            .zip(dx.par_chunks_mut(ROWS * width))
            .zip(values(&inverse).par_chunks(ROWS));
        let parts: Vec<Vec<f32>> = tasks
            .map(|(((x, g), dx), inverse)| backward_rows(x, values(&w), inverse, g, dx))
            .collect();
        let mut dw = vec![0.0f32; width];
        for part in parts {
            simd::add_scaled(&mut dw, 1.0, &part);
        }
        [cpu_tensor(dx, &[rows, width]), cpu_tensor(dw, &[width])]
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward_rows(x: &[f32], w: &[f32], epsilon: f32, y: &mut [f32], inverse: &mut [f32]) {
    let width = w.len();
    for ((x, y), inverse) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(inverse) {
        *inverse = 1.0 / (simd::dot(x, x) / width as f32 + epsilon).sqrt();
        for i in 0..width {
            y[i] = x[i] * *inverse * w[i];
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward_rows(x: &[f32], w: &[f32], inverse: &[f32], g: &[f32], dx: &mut [f32]) -> Vec<f32> {
    let width = w.len();
    let mut dw = vec![0.0f32; width];
    let mut scaled = vec![0.0f32; width];
    for (r, inverse) in inverse.iter().enumerate() {
        let row = r * width..(r + 1) * width;
        let (x, g, dx) = (&x[row.clone()], &g[row.clone()], &mut dx[row]);
        for i in 0..width {
            dw[i] += g[i] * x[i] * inverse;
            scaled[i] = g[i] * w[i];
        }
        let mean = simd::dot(&scaled, x) * inverse * inverse / width as f32;
        for i in 0..width {
            dx[i] = (scaled[i] - x[i] * mean) * inverse;
        }
    }
    dw
}

impl<B: RmsNormOp, C: CheckpointStrategy> RmsNormOp for Autodiff<B, C> {
    fn rms_norm_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct RmsNorm;
        impl<B: RmsNormOp> Backward<B, 2> for RmsNorm {
            type State = [FloatTensor<B>; 3];

            fn backward(self, ops: Step<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let [x, w, inverse] = ops.state;
                pass_on!(B, ops.parents, B::rms_norm_backward(x, w, inverse, g), grads);
            }
        }
        let nodes = [x.node.clone(), w.node.clone()];
        let (x, w) = (x.primitive, w.primitive);
        let (y, inverse) = B::rms_norm_forward(x.clone(), w.clone(), epsilon);
        let kept = <Self as burn::tensor::backend::AutodiffBackend>::from_inner(inverse.clone());
        let y = match RmsNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([x, w, inverse], y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        };
        (y, kept)
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
        for (rows, width) in [(1, 3), (300, 24)] {
            let x =
                Tensor::<A, 2>::random([rows, width], Distribution::Normal(0.5, 2.0), &device).require_grad();
            let w = Tensor::<A, 1>::random([width], Distribution::Normal(1.0, 0.2), &device).require_grad();
            let y = rms_norm(x.clone(), w.clone(), 1e-5);
            let grads = (y.clone() * y.clone().sin()).sum().backward();
            let ours = [
                x.grad(&grads).unwrap().into_data(),
                w.grad(&grads).unwrap().into_data(),
            ];
            let inverse = (x.clone().square().mean_dim(1) + 1e-5).sqrt().recip();
            let plain = x.clone() * inverse * w.clone().unsqueeze();
            let near = Tolerance::rel_abs(1e-3, 1e-4);
            y.into_data()
                .assert_approx_eq::<f32>(&plain.clone().into_data(), near);
            let grads = (plain.clone() * plain.sin()).sum().backward();
            ours[0].assert_approx_eq::<f32>(&x.grad(&grads).unwrap().into_data(), near);
            ours[1].assert_approx_eq::<f32>(&w.grad(&grads).unwrap().into_data(), near);
        }
    }
}

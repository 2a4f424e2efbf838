//! Rotary positions (2104.09864), in the half-split layout of the Llama family.
//!
//! Components `i` and `i + d/2` of each head turn by `position · θ^(-2i/d)`.

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

use super::{contiguous, cpu_tensor, into_values, unwrap, values, wrap};

/// Rotation of `x [b, n, h, d]` by tables `[n, d/2]`.
pub trait RopeOp: Backend {
    /// Turns by the angles whose cosines and sines are given; `inverse` turns back, which is also the gradient.
    fn rope_turn(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        inverse: bool,
    ) -> FloatTensor<Self> {
        let (x, cos, sin) = (wrap::<Self, 4>(x), wrap::<Self, 2>(cos), wrap::<Self, 2>(sin));
        let [b, n, h, d] = x.dims();
        let table = |t: Tensor<Self, 2>| t.reshape([1, n, 1, d / 2]);
        let (cos, sin) = (table(cos), table(if inverse { sin.neg() } else { sin }));
        let left = x.clone().slice([0..b, 0..n, 0..h, 0..d / 2]);
        let right = x.slice([0..b, 0..n, 0..h, d / 2..d]);
        let turned = [
            left.clone() * cos.clone() - right.clone() * sin.clone(),
            right * cos + left * sin,
        ];
        unwrap(Tensor::cat(turned.to_vec(), 3))
    }
}

/// Turns each position of `x [b, n, h, d]` by its row of the tables `[n, d/2]`.
pub fn rope<B: RopeOp>(x: Tensor<B, 4>, (cos, sin): (Tensor<B, 2>, Tensor<B, 2>)) -> Tensor<B, 4> {
    wrap(B::rope_turn(unwrap(x), unwrap(cos), unwrap(sin), false))
}

/// Cosines and sines for positions `0..n` and heads of `d` components.
pub fn rope_tables<B: Backend>(
    n: usize,
    d: usize,
    theta: f64,
    device: &B::Device,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let half = d / 2;
    let angles =
        (0..n).flat_map(|p| (0..half).map(move |i| p as f64 * theta.powf(-2.0 * i as f64 / d as f64)));
    let (sin, cos): (Vec<f32>, Vec<f32>) = angles.map(|a| (a.sin() as f32, a.cos() as f32)).unzip();
    let table = |values| Tensor::from_data(TensorData::new(values, [n, half]), device);
    (table(cos), table(sin))
}

impl RopeOp for Flex {
    fn rope_turn(x: FlexTensor, cos: FlexTensor, sin: FlexTensor, inverse: bool) -> FlexTensor {
        let (cos, sin, shape) = (contiguous(cos), contiguous(sin), x.shape());
        let [n, h, d] = [shape[1], shape[2], shape[3]];
        let sign = if inverse { -1.0 } else { 1.0 };
        let mut x = into_values(x);
        x.par_chunks_mut(n * h * d)
            .for_each(|x| turn_sequence(x, values(&cos), values(&sin), sign, d, h));
        cpu_tensor(x, &shape)
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn turn_sequence(x: &mut [f32], cos: &[f32], sin: &[f32], sign: f32, d: usize, heads: usize) {
    let half = d / 2;
    for (r, x) in x.chunks_exact_mut(d).enumerate() {
        let at = r / heads * half;
        let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
        let (left, right) = x.split_at_mut(half);
        for i in 0..half {
            let (l, r, s) = (left[i], right[i], sign * sin[i]);
            left[i] = l * cos[i] - r * s;
            right[i] = r * cos[i] + l * s;
        }
    }
}

impl<B: RopeOp, C: CheckpointStrategy> RopeOp for Autodiff<B, C> {
    fn rope_turn(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        inverse: bool,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Turn;
        impl<B: RopeOp> Backward<B, 1> for Turn {
            type State = (FloatTensor<B>, FloatTensor<B>, bool);

            fn backward(self, ops: Step<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (cos, sin, inverse) = ops.state;
                let [node] = ops.parents;
                if let Some(node) = node {
                    grads.register::<B>(node.id, B::rope_turn(g, cos, sin, !inverse));
                }
            }
        }
        let (cos, sin) = (cos.primitive, sin.primitive);
        let y = B::rope_turn(x.primitive, cos.clone(), sin.clone(), inverse);
        match Turn.prepare::<C>([x.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((cos, sin, inverse), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;

    #[test]
    fn the_kernel_equals_the_definition_and_turning_back_is_the_identity() {
        type A = Autodiff<Flex>;
        let device = Default::default();
        let x = Tensor::<A, 4>::random([2, 5, 3, 8], Distribution::Default, &device).require_grad();
        let tables = rope_tables::<A>(5, 8, 10_000.0, &device);
        let y = rope(x.clone(), tables.clone());
        let near = Tolerance::rel_abs(1e-4, 1e-5);
        let back = wrap::<A, 4>(A::rope_turn(
            unwrap(y.clone()),
            unwrap(tables.0.clone()),
            unwrap(tables.1.clone()),
            true,
        ));
        back.into_data().assert_approx_eq::<f32>(&x.to_data(), near);
        let left = x.clone().slice([0..2, 0..5, 0..3, 0..4]);
        let right = x.clone().slice([0..2, 0..5, 0..3, 4..8]);
        let (cos, sin) = (tables.0.reshape([1, 5, 1, 4]), tables.1.reshape([1, 5, 1, 4]));
        let plain = Tensor::cat(
            vec![
                left.clone() * cos.clone() - right.clone() * sin.clone(),
                right * cos + left * sin,
            ],
            3,
        );
        y.to_data().assert_approx_eq::<f32>(&plain.to_data(), near);
        let ours = x.grad(&(y.clone() * y.sin()).sum().backward()).unwrap();
        let theirs = x.grad(&(plain.clone() * plain.sin()).sum().backward()).unwrap();
        ours.into_data()
            .assert_approx_eq::<f32>(&theirs.into_data(), near);
    }

    #[test]
    fn products_depend_on_the_distance_alone() {
        let device = Default::default();
        let one = Tensor::<Flex, 4>::random([1, 1, 1, 8], Distribution::Default, &device);
        let same = one.expand([1, 6, 1, 8]);
        let y = rope(same, rope_tables(6, 8, 10_000.0, &device));
        let at = |i: usize| y.clone().slice([0..1, i..i + 1]);
        let product = |i, j| (at(i) * at(j)).sum().into_scalar();
        assert!((product(0, 2) - product(3, 5)).abs() < 1e-5);
    }
}

//! Mean cross-entropy of logits against token numbers, leaving out the positions that are not scored.
//!
//! The gradient `(softmax - onehot) / scored` is formed in the forward pass, while the exponentials are at hand.

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
    tensor::{
        Int, Tensor, TensorMetadata,
        activation::log_softmax,
        backend::Backend,
        ops::{FloatTensor, IntTensor},
    },
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{contiguous, cpu_tensor, simd, unwrap, values, wrap};

/// Rows for one task.
const ROWS: usize = 32;

/// Cross-entropy of `logits [n, vocabulary]` against `targets [n]`, -1 where not scored.
pub trait CrossEntropyOp: Backend {
    /// The mean over scored rows, `[1]`, and its gradient for the logits.
    fn cross_entropy_forward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let logits = wrap::<Self, 2>(logits);
        let targets = Tensor::<Self, 1, Int>::from_primitive(targets);
        let [n, vocabulary] = logits.dims();
        let scored = targets.clone().greater_equal_elem(0).float();
        let count = scored.clone().sum().clamp_min(1.0);
        let index = targets.clamp_min(0).unsqueeze_dim::<2>(1);
        let log_p = log_softmax(logits, 1);
        let picked = log_p.clone().gather(1, index.clone()).squeeze_dim::<1>(1);
        let loss = (picked * scored.clone()).sum().neg() / count.clone();
        let onehot = Tensor::<Self, 1, Int>::arange(0..vocabulary as i64, &loss.device())
            .unsqueeze::<2>()
            .expand([n, vocabulary])
            .equal(index.expand([n, vocabulary]))
            .float();
        let weight = (scored / count).unsqueeze_dim::<2>(1);
        (unwrap(loss), unwrap((log_p.exp() - onehot) * weight))
    }
}

/// Mean cross-entropy over the scored rows, `[1]`.
pub fn cross_entropy<B: CrossEntropyOp>(logits: Tensor<B, 2>, targets: Tensor<B, 1, Int>) -> Tensor<B, 1> {
    wrap(B::cross_entropy_forward(unwrap(logits), targets.into_primitive()).0)
}

impl CrossEntropyOp for Flex {
    fn cross_entropy_forward(logits: FlexTensor, targets: FlexTensor) -> (FlexTensor, FlexTensor) {
        let (logits, targets) = (contiguous(logits), contiguous(targets));
        let (n, vocabulary) = (logits.shape()[0], logits.shape()[1]);
        let targets = targets.as_slice::<i32>().expect("targets are 32-bit integers");
        let scored = targets.iter().filter(|t| **t >= 0).count().max(1);
        let mut gradient = vec![0.0f32; n * vocabulary];
        let mut losses = vec![0.0f32; n];
        let tasks = values(&logits)
            .par_chunks(ROWS * vocabulary)
            .zip(gradient.par_chunks_mut(ROWS * vocabulary));
        tasks
            .zip(targets.par_chunks(ROWS))
            .zip(losses.par_chunks_mut(ROWS))
            .for_each(|(((x, g), t), l)| {
                rows(x, t, vocabulary, 1.0 / scored as f32, g, l);
            });
        let loss = losses.iter().map(|l| f64::from(*l)).sum::<f64>() / scored as f64;
        (
            cpu_tensor(vec![loss as f32], &[1]),
            cpu_tensor(gradient, &[n, vocabulary]),
        )
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn rows(
    logits: &[f32],
    targets: &[i32],
    vocabulary: usize,
    weight: f32,
    gradient: &mut [f32],
    losses: &mut [f32],
) {
    for (r, target) in targets.iter().enumerate() {
        if *target < 0 {
            continue;
        }
        let x = &logits[r * vocabulary..(r + 1) * vocabulary];
        let g = &mut gradient[r * vocabulary..(r + 1) * vocabulary];
        let max = simd::max(x);
        for (g, x) in g.iter_mut().zip(x) {
            *g = simd::exp(x - max);
        }
        let total = simd::sum(g);
        losses[r] = total.ln() + max - x[*target as usize];
        let scale = weight / total;
        for g in g.iter_mut() {
            *g *= scale;
        }
        g[*target as usize] -= weight;
    }
}

impl<B: CrossEntropyOp, C: CheckpointStrategy> CrossEntropyOp for Autodiff<B, C> {
    fn cross_entropy_forward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct CrossEntropy;
        impl<B: CrossEntropyOp> Backward<B, 1> for CrossEntropy {
            type State = FloatTensor<B>;

            fn backward(self, ops: Step<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = wrap::<B, 1>(grads.consume::<B>(&ops.node)).unsqueeze::<2>();
                let [node] = ops.parents;
                if let Some(node) = node {
                    grads.register::<B>(node.id, unwrap(wrap::<B, 2>(ops.state) * g));
                }
            }
        }
        let (loss, gradient) = B::cross_entropy_forward(logits.primitive, targets);
        let kept = <Self as burn::tensor::backend::AutodiffBackend>::from_inner(gradient.clone());
        let loss = match CrossEntropy
            .prepare::<C>([logits.node.clone()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(gradient, loss),
            OpsKind::UnTracked(prep) => prep.finish(loss),
        };
        (loss, kept)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, TensorData, Tolerance};

    use super::*;

    #[test]
    fn the_loss_and_its_gradient_equal_the_definition() {
        type A = Autodiff<Flex>;
        let device = Default::default();
        let logits = Tensor::<A, 2>::random([70, 11], Distribution::Normal(0.0, 5.0), &device).require_grad();
        let numbers: Vec<i32> = (0..70).map(|i| if i % 5 == 0 { -1 } else { i % 11 }).collect();
        let scored = numbers.iter().filter(|t| **t >= 0).count() as f32;
        let targets = Tensor::<A, 1, Int>::from_data(TensorData::new(numbers.clone(), [70]), &device);
        let loss = cross_entropy(logits.clone(), targets.clone());
        let ours = logits.grad(&(loss.clone() * 3.0).backward()).unwrap();
        let weight: Vec<f32> = numbers
            .iter()
            .map(|t| if *t < 0 { 0.0 } else { 1.0 / scored })
            .collect();
        let weight = Tensor::<A, 1>::from_data(TensorData::new(weight, [70]), &device);
        let picked = log_softmax(logits.clone(), 1).gather(1, targets.clamp_min(0).unsqueeze_dim(1));
        let plain = (picked.squeeze_dim::<1>(1) * weight).sum().neg();
        let near = Tolerance::rel_abs(1e-4, 1e-5);
        loss.to_data().assert_approx_eq::<f32>(&plain.to_data(), near);
        let theirs = logits.grad(&(plain * 3.0).backward()).unwrap();
        ours.into_data()
            .assert_approx_eq::<f32>(&theirs.into_data(), near);
    }

    #[test]
    fn the_reference_body_agrees_with_the_kernel() {
        struct Plain;
        impl Plain {
            fn run(logits: Tensor<Flex, 2>, targets: Tensor<Flex, 1, Int>) -> (f32, Vec<f32>) {
                let scored = targets.clone().greater_equal_elem(0).float();
                let count = scored.clone().sum().clamp_min(1.0);
                let log_p = log_softmax(logits, 1);
                let index = targets.clamp_min(0).unsqueeze_dim::<2>(1);
                let picked = log_p.clone().gather(1, index).squeeze_dim::<1>(1);
                let loss = ((picked * scored).sum().neg() / count).into_scalar();
                (loss, log_p.exp().into_data().to_vec().unwrap())
            }
        }
        let device = Default::default();
        let logits = Tensor::<Flex, 2>::random([9, 5], Distribution::Normal(0.0, 3.0), &device);
        let targets = Tensor::<Flex, 1, Int>::from_data([0, 1, 2, 3, 4, -1, -1, 0, 1], &device);
        let (loss, p) = Plain::run(logits.clone(), targets.clone());
        let (ours, gradient) = Flex::cross_entropy_forward(unwrap(logits), targets.into_primitive());
        assert!((wrap::<Flex, 1>(ours).into_scalar() - loss).abs() < 1e-5);
        let gradient: Vec<f32> = wrap::<Flex, 2>(gradient).into_data().to_vec().unwrap();
        assert!((gradient[1] - p[1] / 7.0).abs() < 1e-6 && (gradient[0] - (p[0] - 1.0) / 7.0).abs() < 1e-6);
        assert!(
            gradient[25..35].iter().all(|g| *g == 0.0),
            "rows that are not scored"
        );
    }
}

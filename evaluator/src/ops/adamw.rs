//! One step of AdamW (1711.05101) on one tensor, in one pass and in place where nothing else holds it.

use burn::{
    backend::{Autodiff, Flex, autodiff::checkpoint::strategy::CheckpointStrategy, flex::FlexTensor},
    tensor::{Tensor, backend::Backend, ops::FloatTensor},
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{contiguous, unwrap, values, wrap};

/// Elements for one task.
const CHUNK: usize = 16 * 1024;

/// The numbers of one step.
#[derive(Clone, Copy, Debug)]
pub struct AdamWStep {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decay of the running mean of gradients.
    pub beta1: f32,
    /// Decay of the running mean of squared gradients.
    pub beta2: f32,
    /// Added to the denominator.
    pub epsilon: f32,
    /// Decoupled weight decay for this tensor.
    pub weight_decay: f32,
    /// Factor on the gradient, from clipping by the global norm.
    pub gradient_scale: f32,
    /// Number of this step, from 1.
    pub step: u32,
}

impl AdamWStep {
    pub(super) fn corrections(&self) -> (f32, f32) {
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(self.step as i32);
        (correction(self.beta1) as f32, correction(self.beta2) as f32)
    }
}

/// The update of one tensor. Not differentiable.
pub trait AdamWOp: Backend {
    /// Gives the new weights and the new running means, from `[w, m, v]` and the gradient, all of one shape.
    fn adamw_step(
        state: [FloatTensor<Self>; 3],
        gradient: FloatTensor<Self>,
        step: AdamWStep,
    ) -> [FloatTensor<Self>; 3] {
        let [w, m, v] = state.map(wrap::<Self, 1>);
        let g = wrap::<Self, 1>(gradient) * step.gradient_scale;
        let m = m * step.beta1 + g.clone() * (1.0 - step.beta1);
        let v = v * step.beta2 + g.square() * (1.0 - step.beta2);
        let (c1, c2) = step.corrections();
        let update = (m.clone() / c1) / ((v.clone() / c2).sqrt() + step.epsilon);
        let w = w * (1.0 - step.learning_rate * step.weight_decay) - update * step.learning_rate;
        [unwrap(w), unwrap(m), unwrap(v)]
    }
}

/// One AdamW step on a tensor of any rank; see [`AdamWOp::adamw_step`].
pub fn adamw<B: AdamWOp, const D: usize>(
    state: [Tensor<B, D>; 3],
    gradient: Tensor<B, D>,
    step: AdamWStep,
) -> [Tensor<B, D>; 3] {
    let shape = gradient.dims();
    let n = shape.iter().product::<usize>();
    let flat = |t: Tensor<B, D>| unwrap(t.reshape([n]));
    B::adamw_step(state.map(flat), flat(gradient), step).map(|t| wrap::<B, 1>(t).reshape(shape))
}

impl<B: Backend, C: CheckpointStrategy> AdamWOp for Autodiff<B, C> {}

impl AdamWOp for Flex {
    fn adamw_step(state: [FlexTensor; 3], gradient: FlexTensor, step: AdamWStep) -> [FlexTensor; 3] {
        let gradient = contiguous(gradient);
        let [mut w, mut m, mut v] = state.map(|t| t.to_contiguous());
        let tasks = w
            .storage_mut::<f32>()
            .par_chunks_mut(CHUNK)
            .zip(m.storage_mut::<f32>().par_chunks_mut(CHUNK))
            .zip(v.storage_mut::<f32>().par_chunks_mut(CHUNK));
        tasks
            .zip(values(&gradient).par_chunks(CHUNK))
            .for_each(|(((w, m), v), g)| update(w, m, v, g, step));
        [w, m, v]
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn update(w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], step: AdamWStep) {
    let (c1, c2) = step.corrections();
    let keep = 1.0 - step.learning_rate * step.weight_decay;
    let n = w.len();
    let (m, v, g) = (&mut m[..n], &mut v[..n], &g[..n]);
    for i in 0..n {
        let g = g[i] * step.gradient_scale;
        m[i] = m[i] * step.beta1 + g * (1.0 - step.beta1);
        v[i] = v[i] * step.beta2 + g * g * (1.0 - step.beta2);
        let update = (m[i] / c1) / ((v[i] / c2).sqrt() + step.epsilon);
        w[i] = w[i] * keep - update * step.learning_rate;
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tolerance};

    use super::*;

    #[test]
    fn the_kernel_equals_the_definition() {
        let device = Default::default();
        let random = || Tensor::<Flex, 2>::random([50, 7], Distribution::Default, &device);
        let (w, m, v, g) = (random(), random(), random(), random());
        let step = AdamWStep {
            learning_rate: 0.01,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.1,
            gradient_scale: 0.5,
            step: 3,
        };
        let [w2, m2, v2] = adamw([w.clone(), m.clone(), v.clone()], g.clone(), step);
        let g = g * 0.5;
        let m = m * 0.9 + g.clone() * 0.1;
        let v = v * 0.99 + g.square() * 0.01;
        let update = (m.clone() / 0.271) / ((v.clone() / 0.029_701).sqrt() + 1e-8);
        let w = w * 0.999 - update * 0.01;
        let near = Tolerance::rel_abs(1e-4, 1e-5);
        for (ours, plain) in [(w2, w), (m2, m), (v2, v)] {
            ours.into_data().assert_approx_eq::<f32>(&plain.into_data(), near);
        }
    }
}

//! One step of AdamW (1711.05101) on many tensors, each in one pass and in place where nothing else holds it.

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

/// One flat tensor of a step.
#[derive(Clone, Debug)]
pub struct AdamWUpdate<B: Backend> {
    /// Weights, running mean of gradients, running mean of squared gradients.
    pub state: [FloatTensor<B>; 3],
    /// The gradient of the weights.
    pub gradient: FloatTensor<B>,
    /// Decoupled weight decay.
    pub weight_decay: f32,
}

/// The update of tensors. Not differentiable.
pub trait AdamWOp: Backend {
    /// The new weights and the new running means of each.
    fn adamw_steps(updates: Vec<AdamWUpdate<Self>>, step: AdamWStep) -> Vec<[FloatTensor<Self>; 3]> {
        updates.into_iter().map(|update| plain(update, step)).collect()
    }
}

/// The definition.
fn plain<B: Backend>(update: AdamWUpdate<B>, step: AdamWStep) -> [FloatTensor<B>; 3] {
    let [w, m, v] = update.state.map(wrap::<B, 1>);
    let g = wrap::<B, 1>(update.gradient) * step.gradient_scale;
    let m = m * step.beta1 + g.clone() * (1.0 - step.beta1);
    let v = v * step.beta2 + g.square() * (1.0 - step.beta2);
    let (c1, c2) = step.corrections();
    let change = (m.clone() / c1) / ((v.clone() / c2).sqrt() + step.epsilon);
    let w = w * (1.0 - step.learning_rate * update.weight_decay) - change * step.learning_rate;
    [unwrap(w), unwrap(m), unwrap(v)]
}

/// One AdamW step on flat tensors, each with its `[w, m, v]`, its gradient and its weight decay.
pub fn adamw<B: AdamWOp>(
    tensors: Vec<([Tensor<B, 1>; 3], Tensor<B, 1>, f32)>,
    step: AdamWStep,
) -> Vec<[Tensor<B, 1>; 3]> {
    let updates = tensors
        .into_iter()
        .map(|(state, gradient, weight_decay)| AdamWUpdate {
            state: state.map(unwrap),
            gradient: unwrap(gradient),
            weight_decay,
        });
    let updated = B::adamw_steps(updates.collect(), step).into_iter();
    updated.map(|state| state.map(wrap)).collect()
}

impl<B: Backend, C: CheckpointStrategy> AdamWOp for Autodiff<B, C> {}

impl AdamWOp for Flex {
    fn adamw_steps(updates: Vec<AdamWUpdate<Self>>, step: AdamWStep) -> Vec<[FlexTensor; 3]> {
        updates.into_iter().map(|update| in_place(update, step)).collect()
    }
}

fn in_place(update: AdamWUpdate<Flex>, step: AdamWStep) -> [FlexTensor; 3] {
    let gradient = contiguous(update.gradient);
    let keep = 1.0 - step.learning_rate * update.weight_decay;
    let [mut w, mut m, mut v] = update.state.map(|t| t.to_contiguous());
    let tasks = w
        .storage_mut::<f32>()
        .par_chunks_mut(CHUNK)
        .zip(m.storage_mut::<f32>().par_chunks_mut(CHUNK))
        .zip(v.storage_mut::<f32>().par_chunks_mut(CHUNK));
    tasks
        .zip(values(&gradient).par_chunks(CHUNK))
        .for_each(|(((w, m), v), g)| change(w, m, v, g, keep, step));
    [w, m, v]
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn change(w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], keep: f32, step: AdamWStep) {
    let (c1, c2) = step.corrections();
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
        let random = |n: usize| Tensor::<Flex, 1>::random([n], Distribution::Default, &device);
        let step = AdamWStep {
            learning_rate: 0.01,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            gradient_scale: 0.5,
            step: 3,
        };
        let tensors = [(350, 0.1), (CHUNK + 3, 0.0)]
            .map(|(n, decay)| ([random(n), random(n), random(n)], random(n), decay));
        let updated = adamw(tensors.to_vec(), step);
        let near = Tolerance::rel_abs(1e-4, 1e-5);
        for (ours, ([w, m, v], g, decay)) in updated.into_iter().zip(tensors) {
            let g = g * 0.5;
            let m = m * 0.9 + g.clone() * 0.1;
            let v = v * 0.99 + g.square() * 0.01;
            let change = (m.clone() / 0.271) / ((v.clone() / 0.029_701).sqrt() + 1e-8);
            let w = w * (1.0 - 0.01 * decay) - change * 0.01;
            for (ours, plain) in ours.into_iter().zip([w, m, v]) {
                ours.into_data().assert_approx_eq::<f32>(&plain.into_data(), near);
            }
        }
    }
}

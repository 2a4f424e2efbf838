//! AdamW over a model's named tensors, with clipping by the norm of the whole gradient.

use std::collections::BTreeMap;

use burn::{
    module::Param,
    tensor::{
        Tensor,
        backend::{AutodiffBackend, Backend},
    },
};

use crate::{
    model::{Model, TensorMut, each_tensor},
    ops::{AdamWStep, Ops, adamw, total_norm},
    plan::TrainingPlan,
};

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.99;
const EPSILON: f32 = 1e-8;

/// Running means of one tensor, flat.
pub(super) type Moments<B> = [Tensor<B, 1>; 2];

/// AdamW's memory: two running means for each tensor that is trained, and none for frozen ones.
pub struct Optimizer<B: Backend> {
    pub(super) moments: BTreeMap<String, Moments<B>>,
    pub(super) steps: u32,
}

impl<B: Backend> Default for Optimizer<B> {
    /// An optimizer that has seen nothing.
    fn default() -> Self {
        Optimizer {
            moments: BTreeMap::new(),
            steps: 0,
        }
    }
}

impl<B: Ops> Optimizer<B> {
    /// One step with the gradients of one batch.
    pub fn step<A>(
        &mut self,
        model: &mut Model<A>,
        gradients: &mut A::Gradients,
        rate: f64,
        plan: &TrainingPlan,
    ) where
        A: AutodiffBackend<InnerBackend = B> + Ops,
    {
        let mut collected: BTreeMap<String, Tensor<B, 1>> = BTreeMap::new();
        each_tensor(model, &mut |name, tensor| {
            let gradient = match tensor {
                TensorMut::Matrix(param) => param.val().grad_remove(gradients).map(flat),
                TensorMut::Vector(param) => param.val().grad_remove(gradients),
            };
            if let Some(gradient) = gradient {
                collected.insert(name, gradient);
            }
        });
        self.steps += 1;
        let norm = total_norm(collected.values());
        let step = AdamWStep {
            learning_rate: rate as f32,
            beta1: BETA1,
            beta2: BETA2,
            epsilon: EPSILON,
            weight_decay: plan.weight_decay as f32,
            // a norm that is not a number passes through, so that the loop sees it in the loss
            gradient_scale: if norm > plan.gradient_clip {
                (plan.gradient_clip / norm) as f32
            } else {
                1.0
            },
            step: self.steps,
        };
        each_tensor(model, &mut |name, tensor| {
            let Some(gradient) = collected.remove(&name) else {
                return;
            };
            match tensor {
                TensorMut::Matrix(param) => self.update(name, param, gradient, step),
                TensorMut::Vector(param) => self.update(
                    name,
                    param,
                    gradient,
                    AdamWStep {
                        weight_decay: 0.0,
                        ..step
                    },
                ),
            }
        });
    }

    fn update<A, const D: usize>(
        &mut self,
        name: String,
        param: &mut Param<Tensor<A, D>>,
        gradient: Tensor<B, 1>,
        step: AdamWStep,
    ) where
        A: AutodiffBackend<InnerBackend = B>,
    {
        let shape = param.dims();
        let (device, inner) = (param.val().device(), gradient.device());
        // taken out of its place, so that the update finds itself the only owner and works in place
        let empty = Param::from_tensor(Tensor::<A, D>::empty([0; D], &device));
        let (id, tensor, _) = std::mem::replace(param, empty).consume();
        let zeros = || Tensor::zeros([shape.iter().product::<usize>()], &inner);
        let [m, v] = self.moments.remove(&name).unwrap_or_else(|| [zeros(), zeros()]);
        let [w, m, v] = adamw([flat(tensor.inner()), m, v], gradient, step);
        *param = Param::initialized(id, Tensor::from_inner(w.reshape(shape)).require_grad());
        self.moments.insert(name, [m, v]);
    }
}

fn flat<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Tensor<B, 1> {
    let n = tensor.shape().num_elements();
    tensor.reshape([n])
}

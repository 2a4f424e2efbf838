//! AdamW over a model's named tensors, with clipping by the norm of the whole gradient.

use std::collections::BTreeMap;

use burn::{
    module::{Param, ParamId},
    tensor::{
        Shape, Tensor,
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
            // a norm that is not a number passes through, so that the loop sees it in the loss
            gradient_scale: if norm > plan.gradient_clip {
                (plan.gradient_clip / norm) as f32
            } else {
                1.0
            },
            step: self.steps,
        };
        let (mut taken, mut tensors) = (vec![], vec![]);
        each_tensor(model, &mut |name, tensor| {
            let Some(gradient) = collected.remove(&name) else {
                return;
            };
            let ((place, w), decay) = match tensor {
                TensorMut::Matrix(param) => (take(param), plan.weight_decay as f32),
                TensorMut::Vector(param) => (take(param), 0.0),
            };
            let zeros = || Tensor::zeros(w.dims(), &w.device());
            let [m, v] = self.moments.remove(&name).unwrap_or_else(|| [zeros(), zeros()]);
            tensors.push(([w, m, v], gradient, decay));
            taken.push((name, place));
        });
        let updated = adamw(tensors, step);
        let mut updated: BTreeMap<_, _> = taken
            .into_iter()
            .zip(updated)
            .map(|((name, place), [w, m, v])| {
                self.moments.insert(name.clone(), [m, v]);
                (name, (place, w))
            })
            .collect();
        each_tensor(model, &mut |name, tensor| {
            let Some((place, w)) = updated.remove(&name) else {
                return;
            };
            match tensor {
                TensorMut::Matrix(param) => give_back(param, place, w),
                TensorMut::Vector(param) => give_back(param, place, w),
            }
        });
    }
}

/// What a parameter was, beside its values.
struct Place {
    id: ParamId,
    shape: Vec<usize>,
}

/// The weights out of their place, so that the update finds itself the only owner and works in place.
fn take<A: AutodiffBackend, const D: usize>(
    param: &mut Param<Tensor<A, D>>,
) -> (Place, Tensor<A::InnerBackend, 1>) {
    let shape = param.dims().to_vec();
    let empty = Param::from_tensor(Tensor::<A, D>::empty([0; D], &param.val().device()));
    let (id, tensor, _) = std::mem::replace(param, empty).consume();
    (Place { id, shape }, flat(tensor.inner()))
}

fn give_back<A: AutodiffBackend, const D: usize>(
    param: &mut Param<Tensor<A, D>>,
    place: Place,
    w: Tensor<A::InnerBackend, 1>,
) {
    let tensor = Tensor::from_inner(w.reshape::<D, _>(Shape::from(place.shape)));
    *param = Param::initialized(place.id, tensor.require_grad());
}

fn flat<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Tensor<B, 1> {
    let n = tensor.shape().num_elements();
    tensor.reshape([n])
}

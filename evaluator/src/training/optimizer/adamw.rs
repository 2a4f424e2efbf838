//! AdamW over whole tensors and over single weights of them.

use std::collections::BTreeMap;

use burn::tensor::{
    IndexingUpdateOp, Tensor,
    backend::{AutodiffBackend, Backend},
};

use super::{Optimizer, Place, Rates, give_back, take};
use crate::{
    model::{Parts, TensorMut, each_tensor},
    ops::{AdamWStep, Ops, adamw},
};

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.99;
const EPSILON: f32 = 1e-8;

/// A tensor whose weights are out of their place.
struct Taken<B: Backend> {
    name: String,
    place: Place,
    /// All of its weights and those that are changed, as they were, where only a part is.
    part: Option<[Tensor<B, 1>; 2]>,
}

impl<B: Ops> Optimizer<B> {
    /// One step at these rates, with gradients that are multiplied by a `scale`.
    pub(super) fn adamw<A>(
        &mut self,
        model: &mut impl Parts<A>,
        mut gradients: BTreeMap<String, Tensor<B, 1>>,
        (rates, scale): (&Rates, f64),
        weight_decay: f64,
    ) where
        A: AutodiffBackend<InnerBackend = B> + Ops,
    {
        let step_at = |rate: f64| AdamWStep {
            learning_rate: rate as f32,
            beta1: BETA1,
            beta2: BETA2,
            epsilon: EPSILON,
            gradient_scale: scale as f32,
            step: self.steps,
        };
        // tensors of one rate, which follow one another, are changed together
        let (mut taken, mut groups) = (vec![], Vec::<(f64, Vec<_>)>::new());
        each_tensor(model, &mut |name, tensor| {
            let Some(gradient) = gradients.remove(&name) else {
                return;
            };
            let ((place, w), decay) = match tensor {
                TensorMut::Matrix(param) => (take(param), weight_decay as f32),
                TensorMut::Vector(param) => (take(param), 0.0),
            };
            let (w, part) = match self.kept.get(&name) {
                Some(kept) => {
                    let part = w.clone().select(0, kept.clone());
                    (part.clone(), Some([w, part]))
                }
                None => (w, None),
            };
            let zeros = || Tensor::zeros(w.dims(), &w.device());
            let [m, v] = self.moments.remove(&name).unwrap_or_else(|| [zeros(), zeros()]);
            let (rate, one) = (rates.at(&name), ([w, m, v], gradient, decay));
            match groups.last_mut() {
                Some((of_group, group)) if *of_group == rate => group.push(one),
                _ => groups.push((rate, vec![one])),
            }
            taken.push(Taken { name, place, part });
        });
        let groups = groups.into_iter();
        let updated = groups.flat_map(|(rate, tensors)| adamw(tensors, step_at(rate)));
        let mut updated: BTreeMap<_, _> = taken
            .into_iter()
            .zip(updated)
            .map(|(Taken { name, place, part }, [w, m, v])| {
                self.moments.insert(name.clone(), [m, v]);
                let w = match (part, self.kept.get(&name)) {
                    (Some([whole, before]), Some(kept)) => {
                        whole.select_assign(0, kept.clone(), w - before, IndexingUpdateOp::Add)
                    }
                    _ => w,
                };
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

//! Gradient descent without a memory: `w ← (1 - η λ) w - η g`, with `λ` the decay of matrices.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, backend::AutodiffBackend};

use super::{Rates, change};
use crate::model::{Parts, TensorMut, each_tensor};

/// One step at these rates, with gradients that are multiplied by a `scale`; each gradient is gone once it is used.
pub(super) fn step<A: AutodiffBackend>(
    model: &mut impl Parts<A>,
    mut gradients: BTreeMap<String, Tensor<A::InnerBackend, 1>>,
    (rates, scale): (&Rates, f64),
    weight_decay: f64,
) {
    each_tensor(model, &mut |name, tensor| {
        let Some(gradient) = gradients.remove(&name) else {
            return;
        };
        let decay = match &tensor {
            TensorMut::Matrix(_) => weight_decay,
            TensorMut::Vector(_) => 0.0,
        };
        let rate = rates.at(&name);
        change(tensor, |w| {
            w * (1.0 - rate * decay) as f32 - gradient * (rate * scale) as f32
        });
    });
}

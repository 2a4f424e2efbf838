//! Masks: a part of the base's own weights is trained, and nothing is added.
//!
//! What is not trained keeps its bits, and has neither a gradient's product where a whole matrix is frozen nor an entry in
//! the optimizer's memory: of single weights it holds a number and two means each.

mod child_f;
mod fisher;
mod kept;

use std::collections::BTreeMap;

use burn::tensor::{Tensor, backend::AutodiffBackend};
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo};

pub use self::{
    child_f::mask_gradients,
    fisher::fisher_information,
    kept::{kept_weights, largest},
};
use super::{About, freeze_but};
use crate::{
    counter,
    model::{Model, ModelPlan, TensorMut, Trainable, each_tensor},
    ops::Ops,
    parameter::{Declared, Values, choice, float, int},
    training::{Batches, Beside, gradients_of},
};

pub(super) const ABOUT: About = About {
    name: "mask",
    doc: "a part of the base's own weights is trained: vectors, last blocks, or single weights",
    paper: "2106.10199, 2111.09839, 2109.05687",
};

/// The counter of weights that a mask leaves to be trained; of gradients where it is drawn anew in each step.
pub(super) const ACTIVITY: &str = "mask_trained_weights";

/// Which weights are trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mask", rename_all = "snake_case")]
pub enum MaskPlan {
    /// Vectors (BitFit, 2106.10199). Models here have no biases but those of adapters: it is the scales of norms.
    Bias,
    /// The last blocks and the final norm.
    LayerSubset {
        /// How many blocks.
        blocks: usize,
    },
    /// The weights of most Fisher information (2111.09839, and child-tuning-D of 2109.05687).
    Fisher {
        /// Their share of all weights.
        fraction: f64,
        /// Examples that the information is taken on.
        samples: u64,
    },
    /// The largest weights.
    Magnitude {
        /// Their share of all weights.
        fraction: f64,
    },
    /// Child-tuning-F (2109.05687): in each step every weight's gradient is kept with this probability, and divided by it.
    /// In time all weights are trained, so the optimizer remembers all of them.
    ChildF {
        /// The probability.
        probability: f64,
    },
}

pub(super) fn parameters() -> Vec<ParameterInfo> {
    let log = |low, high| Domain::float(low, high, true, None).expect("not empty");
    let of = |masks: &str| format!("fine_tune == 'mask' and mask in [{masks}]");
    vec![
        choice(
            "mask",
            "which weights are trained: vectors (scales of norms; there are no biases), the last blocks, those of most Fisher information, the largest, or others in each step (child_f)",
            &["bias", "layer_subset", "fisher", "magnitude", "child_f"],
        )
        .when("fine_tune == 'mask'"),
        int("mask_blocks", "blocks that are trained, the last ones", 1, 256, 1)
            .when(&of("'layer_subset'"))
            .search(Domain::int(1, 4, false, 1).expect("not empty")),
        float("mask_fraction", "share of all weights that are trained", 1e-6, 0.9, 0.02)
            .when(&of("'fisher', 'magnitude'"))
            .search(log(5e-4, 0.5)),
        int(
            "fisher_samples",
            "training examples that Fisher information is taken on",
            1,
            65_536,
            128,
        )
        .unit("examples")
        .when(&of("'fisher'"))
        .search(Domain::int(32, 2048, true, 1).expect("not empty")),
        float(
            "child_probability",
            "probability with which a weight's gradient is kept in a step",
            0.01,
            0.99,
            0.3,
        )
        .when(&of("'child_f'"))
        .search(Domain::float(0.1, 0.5, false, None).expect("not empty")),
    ]
}

impl MaskPlan {
    pub(super) fn read(values: Values) -> Self {
        let fraction = values.float("mask_fraction");
        match values.text("mask") {
            "layer_subset" => MaskPlan::LayerSubset {
                blocks: values.int("mask_blocks"),
            },
            "fisher" => MaskPlan::Fisher {
                fraction,
                samples: values.int("fisher_samples") as u64,
            },
            "magnitude" => MaskPlan::Magnitude { fraction },
            "child_f" => MaskPlan::ChildF {
                probability: values.float("child_probability"),
            },
            _ => MaskPlan::Bias,
        }
    }

    /// # Errors
    /// A sentence where it would mask nothing, or the base cannot be trained so.
    pub(super) fn check(self, base: &ModelPlan) -> Result<(), String> {
        let MaskPlan::LayerSubset { blocks } = self else {
            return Ok(());
        };
        let all = base.layers.len();
        if blocks >= all {
            return Err(format!(
                "mask_blocks {blocks} is all of the base's {all} blocks; use fewer, or fine_tune = 'full'"
            ));
        }
        if base.reversible.is_some() {
            return Err(format!(
                "mask_blocks {blocks} leaves the first blocks without a gradient, and a base of reversible layers goes back through all; use another mask, or fine_tune = 'lora'"
            ));
        }
        Ok(())
    }

    pub(super) fn trainable(self) -> Trainable {
        match self {
            MaskPlan::Bias => Trainable::Vectors,
            MaskPlan::LayerSubset { blocks } => Trainable::LastBlocks(blocks),
            // single weights lie in all matrices, and a product gives a matrix's gradient as a whole
            MaskPlan::Fisher { .. } | MaskPlan::Magnitude { .. } | MaskPlan::ChildF { .. } => Trainable::All,
        }
    }

    /// Multiply-adds of the choice of weights.
    pub(super) fn choice_macs(self, model: &ModelPlan, context: usize) -> u64 {
        match self {
            MaskPlan::Fisher { samples, .. } => {
                samples * model.training_pass(1, context, Trainable::All).total()
            }
            _ => 0,
        }
    }

    /// Freezes the tensors of which nothing is trained.
    pub(super) fn attach<A: AutodiffBackend + Ops>(self, model: &mut Model<A>, plan: &ModelPlan) {
        match self {
            MaskPlan::Bias => freeze_but(model, |_, is_vector| is_vector),
            MaskPlan::LayerSubset { blocks } => {
                let all = plan.layers.len();
                let mut paths: Vec<String> = (all - blocks..all)
                    .map(|block| format!("{}.", plan.kind.path(block)))
                    .collect();
                paths.push("model.norm.".into());
                freeze_but(model, |name, _| paths.iter().any(|path| name.starts_with(path)));
            }
            MaskPlan::Fisher { .. } | MaskPlan::Magnitude { .. } | MaskPlan::ChildF { .. } => return,
        }
        let mut trained = 0;
        each_tensor(model, &mut |_, tensor| {
            let (weights, is_trained) = match tensor {
                TensorMut::Matrix(p) => (p.shape().num_elements(), p.val().is_require_grad()),
                TensorMut::Vector(p) => (p.shape().num_elements(), p.val().is_require_grad()),
            };
            trained += if is_trained { weights } else { 0 };
        });
        counter::add_activity(ACTIVITY, trained);
    }

    /// The numbers of the single weights that are trained, by tensor, in their order; of other masks none.
    pub(super) fn kept<A>(self, model: &mut Model<A>, batches: &Batches) -> BTreeMap<String, Vec<i32>>
    where
        A: AutodiffBackend + Ops,
        A::InnerBackend: Ops,
    {
        let (scores, fraction) = match self {
            MaskPlan::Fisher { fraction, samples } => {
                let examples = Batches { batch: 1, ..*batches };
                let gradients = |model: &Model<A>, sample| {
                    let example = examples.one_beside(Beside::Information, sample);
                    gradients_of(model, example).1
                };
                (fisher_information(model, samples, gradients), fraction)
            }
            MaskPlan::Magnitude { fraction } => (magnitudes(model), fraction),
            _ => return BTreeMap::new(),
        };
        let kept = largest(&scores, fraction);
        counter::add_activity(ACTIVITY, kept.values().map(Vec::len).sum());
        kept
    }

    /// Keeps some of the gradients of a step, flat and by tensor, where the mask is drawn anew in each.
    pub(super) fn mask_step<B: Ops>(
        self,
        gradients: &mut BTreeMap<String, Tensor<B, 1>>,
        seed: u64,
        step: u64,
    ) {
        if let MaskPlan::ChildF { probability } = self {
            counter::add_activity(ACTIVITY, mask_gradients(gradients, probability, seed, step));
        }
    }
}

/// The size of every weight, by tensor.
fn magnitudes<A: AutodiffBackend>(model: &mut Model<A>) -> BTreeMap<String, Vec<f32>> {
    let mut sizes = BTreeMap::new();
    each_tensor(model, &mut |name, tensor| {
        let values = match tensor {
            TensorMut::Matrix(param) => param.val().into_data(),
            TensorMut::Vector(param) => param.val().into_data(),
        };
        sizes.insert(name, values.iter::<f32>().map(f32::abs).collect());
    });
    sizes
}

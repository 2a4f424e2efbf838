//! LP-FT (2202.10054): all weights of a base are trained, but at first the head alone, with everything before it frozen, so that
//! a head that knows nothing does not distort what the base has learnt.
//!
//! The optimizer remembers only the head at first, and begins anew with all weights.

use burn::tensor::backend::AutodiffBackend;
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo};

use crate::{
    counter,
    model::{Model, ModelPlan},
    ops::Ops,
    parameter::{Declared, Values, float},
    training::{Optimizer, Rule, choose_trained},
};

/// The counter of steps of the head alone.
pub(super) const ACTIVITY: &str = "head_first_steps";

const LP_FIRST: &str = "lp_first";

/// How all weights are trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FullPlan {
    /// Share of the steps in which the head alone is trained, from 0 to below 1.
    pub lp_first: f64,
}

impl FullPlan {
    pub(super) fn read(values: Values) -> Self {
        FullPlan {
            lp_first: values.float(LP_FIRST),
        }
    }

    /// # Errors
    /// A sentence where the base has no head of its own.
    pub(super) fn check(self, base: &ModelPlan) -> Result<(), String> {
        let own = base.kind.weights(base);
        if self.lp_first == 0.0 || own.iter().any(|weight| is_of_head(weight.name)) {
            return Ok(());
        }
        Err(format!(
            "lp_first = {} trains the head alone at first, and the head of kind '{}' is its embedding; use lp_first = 0, or a base of kind 'encoder' or 'dual_encoder'",
            self.lp_first,
            base.kind.name()
        ))
    }

    /// # Errors
    /// A sentence where the rule does not go by gradients of whichever weights are trained.
    pub(super) fn check_rule(self, rule: Rule) -> Result<(), String> {
        match rule {
            Rule::AdamW | Rule::Sgd => Ok(()),
            _ if self.lp_first == 0.0 => Ok(()),
            Rule::Badam { .. } | Rule::Lomo | Rule::Mezo { .. } => Err(format!(
                "lp_first = {} trains the head alone at first, and this optimizer chooses for itself what is trained when; use lp_first = 0, or optimizer = 'adamw' or 'sgd'",
                self.lp_first
            )),
        }
    }

    /// How many of `steps` are the head's alone.
    pub(super) fn head_steps(self, steps: u64) -> u64 {
        (self.lp_first * steps as f64).round() as u64
    }

    /// Before a step of `total`, which is not known yet in the first ones of a training by time: those are the head's.
    pub(super) fn begin_step<A>(
        self,
        model: &mut Model<A>,
        optimizer: &mut Optimizer<A::InnerBackend>,
        step: u64,
        total: Option<u64>,
    ) where
        A: AutodiffBackend + Ops,
        A::InnerBackend: Ops,
    {
        if self.lp_first == 0.0 {
            return;
        }
        let head_alone = total.is_none_or(|total| step < self.head_steps(total));
        counter::add_activity(ACTIVITY, usize::from(head_alone));
        if choose_trained(model, |name| !head_alone || is_of_head(name)) {
            optimizer.forget();
        }
    }
}

/// Whether a weight is one of the head that names a class: all others are the model's.
fn is_of_head(name: &str) -> bool {
    !name.starts_with("model.")
}

/// The parameter.
pub(super) fn parameter() -> ParameterInfo {
    float(
        LP_FIRST,
        "share of the steps in which the head of a classifier is trained alone, before all weights are (2202.10054)",
        0.0,
        0.9,
        0.0,
    )
    .when("fine_tune == 'full'")
    .search(Domain::float(0.0, 0.5, false, None).expect("not empty"))
}

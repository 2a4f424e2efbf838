//! The numbers of a training loop.

use crate::{
    data::{Form, Rows},
    parameter::Values,
    training::{Rule, layer_decay},
};

/// How long a training lasts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// A number of optimizer steps.
    Steps(u64),
    /// Wall time in seconds; turned into steps by timing the first ones.
    Seconds(f64),
}

/// The training loop's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingPlan {
    /// How long it lasts.
    pub budget: Budget,
    /// Examples of one step.
    pub batch: usize,
    /// Tokens of one row, and what is asked of it.
    pub rows: Rows,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Share of the steps in which the rate rises from 0.
    pub warmup: f64,
    /// The last rate over the highest one.
    pub final_rate: f64,
    /// Decay of matrices.
    pub weight_decay: f64,
    /// Rate of a layer over that of the next higher one.
    pub layer_decay: f64,
    /// Largest norm of the gradient of all weights together.
    pub gradient_clip: f64,
    /// How a step changes the weights.
    pub rule: Rule,
}

impl TrainingPlan {
    pub(super) fn read(values: Values, form: Form, rule: Rule) -> Self {
        let (batch, context, seconds) = (
            values.int("batch"),
            values.int("context"),
            values.float("training_time"),
        );
        TrainingPlan {
            budget: if seconds > 0.0 {
                Budget::Seconds(seconds)
            } else {
                let step = batch * form.texts() * context;
                Budget::Steps((values.int("tokens") as u64 / step as u64).max(1))
            },
            batch,
            rows: Rows { context, form },
            learning_rate: values.float("learning_rate"),
            warmup: values.float("warmup"),
            final_rate: values.float("final_rate"),
            weight_decay: values.float("weight_decay"),
            layer_decay: layer_decay(values),
            gradient_clip: values.float("gradient_clip"),
            rule,
        }
    }

    /// The factor on gradients whose norm, all together, is this.
    pub(crate) fn clipping(&self, norm: f64) -> f64 {
        // a norm that is not a number passes through, so that the loop sees it in the loss
        if norm > self.gradient_clip {
            self.gradient_clip / norm
        } else {
            1.0
        }
    }

    /// Tokens of one step, padding included.
    pub fn step_tokens(&self) -> usize {
        self.batch * self.rows.form.texts() * self.rows.context
    }
}

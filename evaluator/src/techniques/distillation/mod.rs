//! Knowledge distillation: what is left after pruning learns from the model before it, not from the data alone.
//!
//! A method is one file, a line in the list below, and the arms that the compiler then asks for.

mod logits;

use burn::tensor::{Int, Tensor, backend::Backend};
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo};

use super::About;
use crate::{
    counter,
    model::{Inputs, Model},
    ops::Ops,
    parameter::{Declared, Values, choice, float},
};

/// The counter of rows that a teacher has told something of.
pub(crate) const ACTIVITY: &str = "distilled_rows";

/// What is learnt from the teacher, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DistillationPlan {
    /// Divides the logits of both models.
    pub temperature: f64,
    /// Share of the loss that is the teacher's; the rest is that of the data.
    pub weight: f64,
}

impl DistillationPlan {
    /// Reads the parameters of the family; `None` where the data alone teaches.
    pub(crate) fn read(values: Values) -> Option<Self> {
        (values.text("distill") == logits::ABOUT.name).then(|| DistillationPlan {
            temperature: values.float("distill_temperature"),
            weight: values.float("distill_weight"),
        })
    }
}

/// A model that is learnt from.
pub struct Teacher<B: Backend> {
    /// The model.
    pub model: Model<B>,
    /// What is learnt from it.
    pub plan: DistillationPlan,
}

impl<B: Ops> Teacher<B> {
    /// The teacher's logits `[rows, outputs]` for a batch.
    pub(crate) fn logits(&self, inputs: Inputs<B>) -> Tensor<B, 2> {
        // nothing goes back through it
        let logits = counter::without_backward(|| self.model.forward(inputs).logits);
        let [b, n, outputs] = logits.dims();
        counter::add_activity(ACTIVITY, b * n);
        logits.reshape([b * n, outputs])
    }
}

impl<B: Backend> Teacher<B> {
    /// The loss of the student's logits after any of its layers, `[rows, outputs]` of which `data` is that of the data, both `[1]`.
    pub(crate) fn loss<A: Backend>(
        &self,
        data: Tensor<A, 1>,
        [student, teacher]: [Tensor<A, 2>; 2],
        targets: Tensor<A, 1, Int>,
    ) -> Tensor<A, 1> {
        let DistillationPlan { temperature, weight } = self.plan;
        data * (1.0 - weight) + logits::loss(student, teacher, targets, temperature) * weight
    }
}

/// What the methods say of themselves.
pub(super) fn about() -> Vec<About> {
    vec![
        About {
            name: "none",
            doc: "recovery learns from the data alone",
            paper: "",
        },
        logits::ABOUT,
    ]
}

/// The parameters of the family.
pub(super) fn parameters() -> Vec<ParameterInfo> {
    let names: Vec<&str> = about().iter().map(|a| a.name).collect();
    let range = |low, high, log| Domain::float(low, high, log, None).expect("not empty");
    let taught = "distill == 'logits'";
    vec![
        choice(
            "distill",
            "what recovery after pruning learns from the model before it",
            &names,
        )
        .when("prune_ratio > 0 and recovery > 0"),
        float(
            "distill_temperature",
            "divides the logits of both models, so that less likely outputs count",
            0.1,
            100.0,
            2.0,
        )
        .when(taught)
        .search(range(1.0, 8.0, true)),
        float(
            "distill_weight",
            "share of the loss that is the teacher's",
            0.01,
            1.0,
            0.5,
        )
        .when(taught)
        .search(range(0.1, 1.0, false)),
    ]
}

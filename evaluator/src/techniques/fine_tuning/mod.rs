//! Fine-tuning from a base checkpoint.
//!
//! A method is one file, a line in the list below, and the arms that the compiler then asks for.

pub mod lora;

use serde::{Deserialize, Serialize};
use spaces::ParameterInfo;

use super::About;
use crate::{
    model::Trainable,
    parameter::{Values, choice},
};

/// How a base is adapted to the data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fine_tune", rename_all = "snake_case")]
pub enum FineTuning {
    /// Not at all: the base is compressed and measured as it is.
    None,
    /// All weights are trained on.
    Full,
    /// Low-rank additions are trained.
    Lora(lora::LoraPlan),
}

impl FineTuning {
    /// Reads the parameters of the family.
    pub(crate) fn read(values: Values) -> Self {
        match values.text("fine_tune") {
            "lora" => FineTuning::Lora(lora::LoraPlan::read(values)),
            "full" => FineTuning::Full,
            _ => FineTuning::None,
        }
    }

    /// Which weights the training changes; `None` if there is no training.
    pub fn trainable(&self) -> Option<Trainable> {
        match self {
            FineTuning::None => None,
            FineTuning::Full => Some(Trainable::All),
            FineTuning::Lora(plan) => Some(plan.trainable()),
        }
    }
}

/// What the methods say of themselves.
pub(super) fn about() -> Vec<About> {
    vec![
        About {
            name: "none",
            doc: "the base is compressed and measured as it is",
            paper: "",
        },
        About {
            name: "full",
            doc: "all weights of the base are trained on",
            paper: "",
        },
        lora::ABOUT,
    ]
}

/// The parameters of the family.
pub(super) fn parameters() -> Vec<ParameterInfo> {
    let names: Vec<&str> = about().iter().map(|a| a.name).collect();
    let mut all = vec![choice(
        "fine_tune",
        "how a base checkpoint is adapted to the data; needs [base]",
        &names,
    )];
    all.extend(lora::parameters());
    all
}

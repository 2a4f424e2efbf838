//! Encoders of small ListOps, for techniques that leave out a part of what a text would be read by.

use burn::{
    backend::Flex,
    tensor::{Int, Tensor},
};
use evaluator::{
    data::{Batch, DataAccess},
    inspect,
    model::{Inputs, Model, ModelPlan},
    ops::Lengths,
    plan::Plan,
};

use crate::support::{config, random_weights, tokens};

pub(crate) const LISTOPS: &str = "[data]\ncorpus = 'listops'\nmax_depth = 3\nmax_args = 4\nmin_length = 4\nmax_length = 20\n\
                                  train_examples = 4000\nvalid_examples = 600";

/// The plan of an encoder with these values, or why there is none.
pub(crate) fn read(fixed: &str) -> Result<Plan, String> {
    let facts = inspect(&config(LISTOPS, "").data, None, &DataAccess::anywhere(), 16).unwrap();
    Plan::read(&config(LISTOPS, fixed), &facts.data, None)
}

pub(crate) fn plan(fixed: &str) -> Plan {
    read(&format!("kind = 'encoder'\n{fixed}")).unwrap()
}

/// The served model of a plan with random weights.
pub(crate) fn random(plan: &ModelPlan) -> Model<Flex> {
    let mut model = Model::<Flex>::new(plan, 3, &Default::default());
    random_weights(&mut model);
    model
}

pub(crate) fn ids(rows: usize) -> Tensor<Flex, 2, Int> {
    tokens::<Flex>(rows, 16, 5).clamp(0, 15)
}

/// Tokens of a row of [`texts`].
pub(crate) fn length(row: usize) -> usize {
    3 + row * 5 % 14
}

/// Texts of several lengths.
pub(crate) fn texts(rows: usize) -> Inputs<Flex> {
    Inputs {
        tokens: ids(rows),
        lengths: Some(Lengths::new((0..rows).map(length).collect())),
        written: None,
    }
}

/// Three texts with their classes.
pub(crate) fn batch() -> Batch {
    Batch {
        batch: 3,
        context: 16,
        inputs: (0..48).map(|i| i * 7 % 15).collect(),
        lengths: vec![16, 9, 4],
        written: vec![],
        targets: vec![1, 2, 3],
    }
}

//! The rules by which a training of all weights can change them.

use spaces::{Domain, ParameterInfo};

use super::{badam, layer_rates};
use crate::{
    model::{ModelPlan, Trainable},
    parameter::{Declared, Values, choice, float, int},
    techniques::About,
};

/// How a step changes the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// By the gradients' running means (1711.05101): two more numbers for each weight.
    AdamW,
    /// The same of one block at a time (2404.02827): two more numbers for each weight of the largest.
    Badam {
        /// Steps after which the next block is trained.
        block_steps: u64,
    },
    /// By the gradient alone: no memory.
    Sgd,
    /// The same on the way back, where each block's gradients are gone once it is changed (2306.09782).
    Lomo,
    /// By two losses, without a gradient (2305.17333): the memory of serving.
    Mezo {
        /// How far from the weights the losses are taken, along a normal direction.
        epsilon: f64,
    },
}

/// The counter of blocks that were begun.
pub(super) const BADAM_ACTIVITY: &str = "badam_blocks";
/// The counter of losses beside the weights.
pub(super) const MEZO_ACTIVITY: &str = "mezo_probes";

/// What the rules say of themselves.
pub(crate) fn about() -> Vec<About> {
    vec![
        About {
            name: "adamw",
            doc: "by running means of gradients and of their squares",
            paper: "1711.05101",
        },
        About {
            name: "badam",
            doc: "adamw of one block of layers at a time, the others frozen: running means of one block exist, and nothing goes back below it",
            paper: "2404.02827",
        },
        About {
            name: "sgd",
            doc: "by the gradient alone: the optimizer remembers nothing",
            paper: "2306.09782 (baseline)",
        },
        About {
            name: "lomo",
            doc: "the same block by block on the way back, so that only one block's gradients and activations exist; gone twice to clip",
            paper: "2306.09782",
        },
        About {
            name: "mezo",
            doc: "by two losses beside the weights and no gradient: training takes the memory of serving, and many more steps",
            paper: "2305.17333",
        },
    ]
}

/// The parameters of the rules.
pub(crate) fn parameters() -> Vec<ParameterInfo> {
    let names: Vec<&str> = about().iter().map(|a| a.name).collect();
    vec![
        choice(
            "optimizer",
            "how a training of all weights changes them; mezo needs [base]",
            &names,
        )
        .when("fine_tune in ['none', 'full']"),
        int(
            "badam_block_steps",
            "steps after which the next block of layers is trained",
            1,
            1 << 20,
            50,
        )
        .unit("steps")
        .when("fine_tune in ['none', 'full'] and optimizer == 'badam'")
        .search(Domain::int(10, 200, true, 1).expect("not empty")),
        float(
            "mezo_epsilon",
            "how far from the weights losses are taken, along a normal direction",
            1e-5,
            1e-1,
            1e-3,
        )
        .when("fine_tune in ['none', 'full'] and optimizer == 'mezo'")
        .search(Domain::float(1e-4, 1e-2, true, None).expect("not empty")),
        layer_rates::parameter(),
    ]
}

impl Rule {
    /// Reads the parameters, for a model that is trained from scratch or from a base.
    ///
    /// # Errors
    /// A sentence where a training from scratch would be left to two losses, or a model's blocks cannot be gone back
    /// through one by one from the last.
    pub(crate) fn read(values: Values, model: &ModelPlan, has_base: bool) -> Result<Rule, String> {
        let rule: Result<Rule, String> = match values.text("optimizer") {
            "sgd" => Ok(Rule::Sgd),
            "badam" if model.reversible.is_some() => Err(
                "optimizer = 'badam' goes back no further than the block it trains, and reversible layers go back through all; use optimizer = 'adamw' or 'sgd', or reversible = false"
                    .into(),
            ),
            "badam" if model.early_exit.is_some() => Err(
                "optimizer = 'badam' goes back from the last layer alone, and with early exits several are trained; use optimizer = 'sgd' or 'adamw', or early_exit = 'none'"
                    .into(),
            ),
            "badam" => Ok(Rule::Badam {
                block_steps: values.int("badam_block_steps") as u64,
            }),
            "lomo" if model.reversible.is_some() || model.kind.reading() > 0 => Err(format!(
                "optimizer = 'lomo' goes back through blocks of one stream, and this is {}; use optimizer = 'sgd' or 'adamw'",
                match model.reversible {
                    Some(_) => "a model of reversible layers".to_owned(),
                    None => format!("an {}", model.kind.words()),
                }
            )),
            "lomo" if model.early_exit.is_some() => Err(
                "optimizer = 'lomo' goes back from the last layer alone, and with early exits several are trained; use optimizer = 'sgd' or 'adamw', or early_exit = 'none'"
                    .into(),
            ),
            "lomo" if model.tokens.is_some() => Err(
                "optimizer = 'lomo' goes back through rows of one length, and with token_keep below 1 they become shorter; use optimizer = 'sgd' or 'adamw', or token_keep = 1"
                    .into(),
            ),
            "lomo" => Ok(Rule::Lomo),
            "mezo" if !has_base => Err(
                "optimizer = 'mezo' learns one number in each step, too little to train from scratch; add [base] with path = \"FOLDER\" and fine_tune = 'full', or use optimizer = 'sgd' or 'adamw'"
                    .into(),
            ),
            "mezo" => Ok(Rule::Mezo {
                epsilon: values.float("mezo_epsilon"),
            }),
            _ => Ok(Rule::AdamW),
        };
        layer_rates::check(values, rule?)
    }

    /// Multiply-adds of a training of `steps` of `batch` examples of `n` tokens a row.
    pub(crate) fn macs(
        self,
        model: &ModelPlan,
        steps: u64,
        [batch, n]: [usize; 2],
        trainable: Trainable,
    ) -> u64 {
        let pass = model.training_pass(batch, n, trainable);
        match self {
            Rule::AdamW | Rule::Sgd => steps * pass.total(),
            Rule::Badam { block_steps } => badam::macs(model, block_steps, steps, [batch, n]),
            // there, and twice back with each block and the head computed again
            Rule::Lomo => steps * (model.blocks_forward(batch, n) + 2 * pass.total()),
            Rule::Mezo { .. } => steps * 2 * pass.forward,
        }
    }

    /// The counter that is above zero once it has run.
    pub(crate) fn activity(self) -> Option<&'static str> {
        match self {
            Rule::AdamW | Rule::Sgd | Rule::Lomo => None,
            Rule::Badam { .. } => Some(BADAM_ACTIVITY),
            Rule::Mezo { .. } => Some(MEZO_ACTIVITY),
        }
    }
}

//! The parameters of a model's shape and of its training, and which of all parameters a base checkpoint fixes.

use spaces::{Domain, ParameterInfo};

use crate::{
    model::kinds,
    parameter::{Declared, choice, float, int},
    techniques::{attention, feed_forward, reversible},
};

/// The parameters of the model and its training, parents first.
pub(crate) fn parameters() -> Vec<ParameterInfo> {
    let log = |low, high| Domain::float(low, high, true, None).expect("not empty");
    let steps = |low, high, step| Domain::int(low, high, false, step).expect("not empty");
    let mut model = kinds::parameters();
    model.extend([
        int(
            "context",
            "tokens of a sequence, in training and serving",
            1,
            1 << 20,
            128,
        )
        .unit("tokens"),
        int("layers", "blocks, of each half where a kind has two", 1, 256, 2).search(steps(1, 6, 1)),
        int(
            "width",
            "components of the residual stream; heads must divide it",
            2,
            16_384,
            128,
        )
        .search(steps(64, 256, 32)),
    ]);
    let training = [
        float(
            "training_time",
            "training budget in wall time; 0 to go by tokens",
            0.0,
            1e7,
            0.0,
        )
        .unit("s"),
        int("tokens", "training budget in tokens", 1, 1 << 50, 1_000_000)
            .unit("tokens")
            .when("training_time == 0"),
        int("batch", "examples of one step", 1, 65_536, 16).unit("examples"),
        float("learning_rate", "highest learning rate", 1e-7, 1.0, 1e-3).search(log(3e-4, 1e-2)),
        float(
            "warmup",
            "share of the steps in which the learning rate rises",
            0.0,
            0.9,
            0.05,
        ),
        float(
            "final_rate",
            "last learning rate over the highest one, by a cosine",
            0.0,
            1.0,
            0.1,
        ),
        choice(
            "precision",
            "what matrices are multiplied in: 32-bit floats, or on GPUs 16-bit ones that are summed in 32 bits (bf16)",
            &["f32", "bf16"],
        ),
        float(
            "weight_decay",
            "decay of matrices in a step, over the learning rate",
            0.0,
            10.0,
            0.1,
        ),
        float(
            "gradient_clip",
            "largest norm of the whole gradient",
            1e-3,
            1e6,
            1.0,
        ),
        int(
            "validation_tokens",
            "held-out tokens that the loss is measured on, at most",
            1,
            1 << 40,
            131_072,
        )
        .unit("tokens"),
    ];
    let group = |name: &str, list: Vec<ParameterInfo>| {
        let name = name.to_owned();
        list.into_iter().map(move |p| ParameterInfo {
            group: name.clone(),
            ..p
        })
    };
    group("model", model)
        .chain(group("training", training.to_vec()))
        .collect()
}

/// Names of the parameters that a base checkpoint fixes: those of the shape.
fn fixed_by_base() -> Vec<String> {
    let families = attention::parameters()
        .into_iter()
        .chain(feed_forward::parameters())
        .chain(reversible::parameters())
        .chain(kinds::parameters());
    let own = ["layers", "width"].map(String::from);
    own.into_iter().chain(families.map(|p| p.name)).collect()
}

/// Where a study opens or fixes what its base fixes: one sentence for each.
pub fn conflicts_with_base<'a>(names: impl Iterator<Item = &'a String>) -> Vec<(String, String)> {
    let fixed = fixed_by_base();
    names
        .filter(|name| fixed.contains(name))
        .map(|name| {
            (
                name.clone(),
                format!("'{name}' is fixed by the checkpoint of [base]; remove it"),
            )
        })
        .collect()
}

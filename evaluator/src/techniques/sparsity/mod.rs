//! Unstructured and N:M pruning of a trained model: single weights are removed, and what is left is stored and multiplied as nonzeros.
//!
//! A method is one file, a line in the list below, and the arms that the compiler then asks for. The sparse form it leaves is
//! shared, and how many weights stay follows from the plan alone, whatever the method.

mod cost;
mod form;
mod magnitude;
mod select;
pub mod sparse;
mod sparsegpt;
#[cfg(test)]
mod tests;
mod wanda;

use std::collections::BTreeMap;

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

pub use self::form::{Pattern, SparseForm};
use self::sparse::{Sparse, SparseShape, SparseWeights};
use super::{
    About,
    calibration::{InputStatistics, calibrate, check_rows_are_known},
};
use crate::{
    counter,
    model::{Matrix, Model, ModelPlan, Part, Parts, is_block_matrix},
    ops::Ops,
    parameter::{Declared, Values, choice, float, int},
    training::Batches,
};

/// The counters that are above zero once weights were removed and the rest was multiplied.
pub(crate) const ACTIVITY: [&str; 2] = ["removed_weights", "sparse_products"];

/// How the weights to remove are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// By their size and that of their inputs.
    Wanda,
    /// By their size.
    Magnitude,
    /// By what their removal costs after the rest of their row has made up for it.
    Sparsegpt,
}

/// What is removed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SparsityPlan {
    /// How many weights stay, and how they are stored.
    pub form: SparseForm,
    /// How the weights to remove are found.
    pub method: Method,
    /// Batches that inputs are seen on; 0 for methods that look at weights alone.
    pub batches: u64,
}

impl SparsityPlan {
    /// Reads the parameters of the family for a model as it is before; `None` if nothing is removed.
    ///
    /// # Errors
    /// A sentence if a share is too small to remove anything, a pattern does not fit a matrix, or weights are packed too.
    pub(crate) fn read(values: Values, model: &ModelPlan) -> Result<Option<Self>, String> {
        let share = values.float("sparsity");
        if share == 0.0 {
            return Ok(None);
        }
        let bits = values.int("bits");
        if bits < 32 {
            return Err(format!(
                "sparsity = {share} and bits = {bits}: weights are stored sparse or packed, not yet both; use sparsity = 0 or bits = 32"
            ));
        }
        let form = SparseForm {
            share,
            pattern: Pattern::read(values),
        };
        check_rows_are_known(model, &format!("sparsity = {share}"), "sparsity = 0")?;
        for matrix in model.block_matrices() {
            form.check(matrix.input)?;
        }
        Ok(Some(SparsityPlan {
            form,
            method: match values.text("sparsity_method") {
                "magnitude" => Method::Magnitude,
                "sparsegpt" => Method::Sparsegpt,
                _ => Method::Wanda,
            },
            batches: values.int("sparsity_batches") as u64,
        }))
    }
}

/// Removes weights of every matrix of the blocks but the routers, and stores what is left sparse; embedding, head, adapters and
/// what a kind has of its own stay dense.
pub fn sparsify<B: Ops>(model: &mut Model<B>, plan: &SparsityPlan, batches: &Batches) {
    let statistics = if plan.batches > 0 {
        calibrate(model, batches, plan.batches, is_block_matrix)
    } else {
        BTreeMap::new()
    };
    sparsify_by(model, plan, &statistics);
}

/// The same by what matrices are known to be given; one that is missing is taken to be given inputs of one size.
pub fn sparsify_by<B: Ops>(
    model: &mut Model<B>,
    plan: &SparsityPlan,
    statistics: &BTreeMap<String, InputStatistics>,
) {
    model.each_part("", &mut |path, part| {
        if let Part::Matrix(matrix) = part
            && is_block_matrix(path)
            && let Some(weight) = matrix.as_dense()
        {
            let sparse = pruned(weight, plan.form, plan.method, statistics.get(path));
            let weights = matrix.weights();
            *matrix = Matrix::Sparse(sparse);
            counter::add_activity(ACTIVITY[0], weights - matrix.weights());
        }
    });
}

/// A matrix `[rows, columns]` without its smallest weights.
pub(crate) fn of_smallest<B: Backend>(weight: Tensor<B, 2>, form: SparseForm) -> Sparse<B> {
    pruned(weight, form, Method::Magnitude, None)
}

/// A matrix `[rows, columns]` without the weights that a method removes for inputs like these.
fn pruned<B: Backend>(
    weight: Tensor<B, 2>,
    form: SparseForm,
    method: Method,
    inputs: Option<&InputStatistics>,
) -> Sparse<B> {
    let ([rows, columns], device) = (weight.dims(), weight.device());
    let weights: Vec<f32> = weight.into_data().iter::<f32>().collect();
    prune(weights, form.shape(rows, columns), form.pattern, method, inputs).into_module(&device)
}

fn prune(
    mut weights: Vec<f32>,
    shape: SparseShape,
    pattern: Pattern,
    method: Method,
    inputs: Option<&InputStatistics>,
) -> SparseWeights {
    let kept = match method {
        Method::Magnitude => magnitude::kept(&weights, shape, pattern),
        Method::Wanda => wanda::kept(&weights, shape, pattern, inputs),
        Method::Sparsegpt => sparsegpt::prune(&mut weights, shape, pattern, inputs),
    };
    SparseWeights::new(shape, &weights, &kept)
}

/// What the methods say of themselves.
pub(super) fn about() -> Vec<About> {
    vec![wanda::ABOUT, magnitude::ABOUT, sparsegpt::ABOUT]
}

/// The parameters of the family.
pub(super) fn parameters() -> Vec<ParameterInfo> {
    let names: Vec<&str> = about().iter().map(|a| a.name).collect();
    let shares = [0.0, 0.5, 0.75, 0.9].map(Value::Float).to_vec();
    vec![
        float(
            "sparsity",
            "share of single weights of the blocks' matrices removed after training; the rest is stored and multiplied as nonzeros",
            0.0,
            0.95,
            0.0,
        )
        .search(Domain::categorical(shares).expect("not empty")),
        choice("sparsity_method", "how the weights to remove are found", &names).when("sparsity > 0"),
        choice(
            "sparsity_pattern",
            "which weights may stay: any, or so many of each few that follow one another in a row (2104.08378)",
            &Pattern::names(),
        )
        .when("sparsity == 0.5"),
        int(
            "sparsity_batches",
            "batches of training data on which matrices' inputs are seen",
            1,
            256,
            8,
        )
        .unit("batches")
        .when("sparsity > 0 and sparsity_method in ['wanda', 'sparsegpt']"),
    ]
}

//! Unstructured and N:M pruning of a trained model: single weights are removed, and what is left is stored and multiplied as nonzeros,
//! in floats or packed to few bits.
//!
//! A method is one file, a line in the list below, and the arms that the compiler then asks for. The sparse form it leaves is
//! shared, and how many weights stay follows from the plan alone, whatever the method. Between removal and storage there may be
//! a training, in which what is removed stays removed (`recovery.rs`).

pub mod coded;
mod cost;
mod form;
mod judge;
pub mod layers;
mod magnitude;
pub(crate) mod movement;
pub(crate) mod recovery;
mod remove;
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
pub(crate) use self::remove::{Known, remove};
use self::{
    judge::{Judge, Seen, pruned},
    layers::{LayerShares, NONE},
    recovery::SparseRecovery,
    sparse::Sparse,
};
use super::{
    About,
    calibration::{InputStatistics, Statistics, calibrate, check_rows_are_known},
    quantization::{Method as PackingMethod, QuantizationPlan},
};
use crate::{
    counter,
    model::{BlockMatrix, Matrix, Model, ModelPlan, Part, Parts, is_block_matrix},
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
    /// By whether a training moves them towards zero.
    Movement,
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
    /// The training in which they are removed; `None` where nothing is trained after it.
    pub recovery: Option<SparseRecovery>,
}

impl SparsityPlan {
    /// Reads the parameters of the family for a model as it is before; `None` if nothing is removed, of no layer.
    ///
    /// # Errors
    /// A sentence if a share is too small to remove anything, a pattern does not fit a matrix, or a training cannot hold what it removes.
    pub(crate) fn read(values: Values, model: &ModelPlan) -> Result<Option<Self>, String> {
        let share = values.float("sparsity");
        if share == 0.0 {
            return Ok(None);
        }
        let form = SparseForm {
            share,
            pattern: Pattern::read(values),
            layers: LayerShares::read(values, model)?,
        };
        if form.pattern != Pattern::Free && form.layers.asked().next().is_some() {
            return Err(format!(
                "sparsity_pattern = '{}' keeps half of the weights of every layer; use sparsity_layer_1 and so on 0 or {NONE}, or sparsity_pattern = 'free'",
                form.pattern.name()
            ));
        }
        let is_removed = |m: BlockMatrix| form.at_layer(m.place(model)).is_some();
        if !model.block_matrices().any(is_removed) {
            return Ok(None);
        }
        check_rows_are_known(model, &format!("sparsity = {share}"), "sparsity = 0")?;
        form.check_matrices(model)?;
        let method = match values.text("sparsity_method") {
            "magnitude" => Method::Magnitude,
            "movement" => Method::Movement,
            "sparsegpt" => Method::Sparsegpt,
            _ => Method::Wanda,
        };
        Ok(Some(SparsityPlan {
            form,
            method,
            batches: values.int("sparsity_batches") as u64,
            recovery: SparseRecovery::read(values, method, form.pattern)?,
        }))
    }
}

impl SparsityPlan {
    /// A layer, counted from 0 in its half, of whose matrices nonzeros are packed.
    pub(crate) fn packed_layer(&self, packing: &QuantizationPlan, model: &ModelPlan) -> Option<usize> {
        let mut layers = model.block_matrices().map(|m| m.place(model));
        layers.find(|layer| self.form.at_layer(*layer).is_some() && packing.at_layer(*layer).is_some())
    }

    /// Refuses packing that needs dense matrices, beside sparse ones or of their nonzeros.
    ///
    /// # Errors
    /// A sentence that says what of it does.
    pub(crate) fn check_beside(
        &self,
        values: Values,
        packing: &QuantizationPlan,
        model: &ModelPlan,
    ) -> Result<(), String> {
        let (share, method) = (self.form.share, values.text("quant_method"));
        if matches!(
            packing.method,
            PackingMethod::Awq
                | PackingMethod::Smooth { .. }
                | PackingMethod::Int8Outlier { .. }
                | PackingMethod::IntegerOnly
        ) {
            return Err(format!(
                "sparsity = {share} and quant_method = '{method}', which works on dense matrices alone; use quant_method = 'gptq' or 'rtn', or sparsity = 0"
            ));
        }
        let Some(layer) = self.packed_layer(packing, model) else {
            return Ok(());
        };
        let refused = |what: &str, instead: &str| {
            let number = layer + 1;
            Err(format!(
                "sparsity = {share} and {what}; use {instead}, or for layer {number} and others bits_layer_{number} = 32 or sparsity_layer_{number} = {NONE}"
            ))
        };
        if packing.method == PackingMethod::Nf4 {
            return refused(
                "quant_method = 'nf4': nonzeros of sparse matrices are packed on evenly spaced levels",
                "quant_method = 'gptq' or 'rtn'",
            );
        }
        if packing.activation_bits < 32 {
            return refused(
                &format!(
                    "activation_bits = {}: whole numbers are multiplied with dense packed matrices alone",
                    packing.activation_bits
                ),
                "activation_bits = 32",
            );
        }
        Ok(())
    }
}

/// Stores every matrix of the blocks but the routers sparse; embedding, head, adapters and what a kind has of its own stay dense.
/// Weights are removed here, unless a training has removed them.
pub fn sparsify<B: Ops>(model: &mut Model<B>, plan: &SparsityPlan, batches: &Batches) {
    let statistics = match plan.recovery {
        Some(_) => Statistics::new(),
        None => observe(model, plan, batches),
    };
    sparsify_by(model, plan, &statistics);
}

/// What matrices are given on batches of training data; empty where the method does not ask.
pub(crate) fn observe<B: Ops>(model: &mut Model<B>, plan: &SparsityPlan, batches: &Batches) -> Statistics {
    if plan.batches > 0 {
        calibrate(model, batches, plan.batches, is_block_matrix)
    } else {
        Statistics::new()
    }
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
            && let Some(form) = plan.form.at(path)
            && let Some(weight) = matrix.as_dense()
        {
            let seen = Seen {
                inputs: statistics.get(path),
                ..Seen::default()
            };
            let judge = match plan.recovery {
                Some(_) => Judge::Left(plan.method),
                None => Judge::Method(plan.method),
            };
            let sparse = pruned(weight, form, judge, seen);
            let weights = matrix.weights();
            *matrix = Matrix::Sparse(sparse);
            counter::add_activity(ACTIVITY[0], weights - matrix.weights());
        }
    });
}

/// A matrix `[rows, columns]` without its smallest weights.
pub(crate) fn of_smallest<B: Backend>(weight: Tensor<B, 2>, form: SparseForm) -> Sparse<B> {
    pruned(weight, form, Judge::Method(Method::Magnitude), Seen::default())
}

/// What the methods say of themselves.
pub(super) fn about() -> Vec<About> {
    let mut all = methods();
    all.extend(recovery::about());
    all
}

fn methods() -> Vec<About> {
    vec![wanda::ABOUT, magnitude::ABOUT, sparsegpt::ABOUT, movement::ABOUT]
}

/// The parameters of the family.
pub(super) fn parameters() -> Vec<ParameterInfo> {
    let names: Vec<&str> = methods().iter().map(|a| a.name).collect();
    // movement has a meaning only beside sparsity_recovery, so it is searched where it is asked for
    let searched = names.iter().filter(|name| **name != movement::ABOUT.name);
    let searched: Vec<Value> = searched.map(|name| Value::from(*name)).collect();
    let shares = [0.0, 0.5, 0.75, 0.9].map(Value::Float).to_vec();
    let mut all = vec![
        float(
            "sparsity",
            "share of single weights of the blocks' matrices removed after training; the rest is stored and multiplied as nonzeros, of so many bits each as bits says",
            0.0,
            0.95,
            0.0,
        )
        .search(Domain::categorical(shares).expect("not empty")),
        choice("sparsity_method", "how the weights to remove are found", &names)
            .when("sparsity > 0")
            .search(Domain::categorical(searched).expect("not empty")),
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
    ];
    all.extend(recovery::parameters());
    all.extend(layers::parameters());
    all
}

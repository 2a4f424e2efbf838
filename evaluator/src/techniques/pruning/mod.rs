//! Structured pruning after training: whole feed-forward neurons and whole key/value head groups are removed.
//!
//! A criterion is one file, a line in the list below, and the arms that the compiler then asks for. What is
//! removed leaves smaller tensors.

mod importance;
mod magnitude;
mod shrink;
mod taylor;

use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo};

pub use self::{
    importance::{Importance, LayerImportance},
    shrink::shrink,
};
pub(crate) use self::{magnitude::importance as by_magnitude, taylor::add_batch as add_taylor_batch};
use super::About;
use crate::{
    model::ModelPlan,
    parameter::{Declared, Values, choice, float},
    techniques::feed_forward::FeedForwardPlan,
};

/// How importance is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// By the loss a structure's removal would cost, to first order.
    Taylor,
    /// By the size of its weights.
    Magnitude,
}

/// What is removed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PruningPlan {
    /// Share of feed-forward neurons.
    pub neurons: f64,
    /// Share of key/value heads, each with its query heads.
    pub heads: f64,
    /// How importance is judged.
    pub criterion: Criterion,
    /// Training after pruning, as a share of the training before.
    pub recovery: f64,
}

impl PruningPlan {
    /// Reads the parameters of the family; `None` if nothing is removed.
    pub(crate) fn read(values: Values) -> Option<Self> {
        let (neurons, heads) = (values.float("prune_ratio"), values.float("head_prune_ratio"));
        (neurons > 0.0 || heads > 0.0).then(|| PruningPlan {
            neurons,
            heads,
            criterion: match values.text("prune_criterion") {
                "magnitude" => Criterion::Magnitude,
                _ => Criterion::Taylor,
            },
            recovery: values.float("recovery"),
        })
    }

    /// Whether importance is judged on batches of training data.
    pub fn judges_by_gradient(&self) -> bool {
        self.criterion == Criterion::Taylor
    }

    /// The plan of the pruned model.
    ///
    /// # Errors
    /// A sentence if a share is too small to remove anything or would leave nothing.
    pub fn pruned(&self, plan: &ModelPlan) -> Result<ModelPlan, String> {
        let mut pruned = plan.clone();
        for layer in &mut pruned.layers {
            if self.neurons > 0.0 && matches!(layer.feed_forward, FeedForwardPlan::ChannelMix { .. }) {
                return Err(format!(
                    "prune_ratio = {} removes neurons of gated networks, not of channel_mix; use prune_ratio = 0 or feed_forward = 'gated'",
                    self.neurons
                ));
            }
            let hidden = layer.feed_forward.hidden();
            layer.feed_forward =
                layer
                    .feed_forward
                    .with_hidden(keep("prune_ratio", self.neurons, hidden, "neurons")?);
            for attention in std::iter::once(&mut layer.attention).chain(&mut layer.cross) {
                let share = attention.share();
                attention.kv_heads = keep(
                    "head_prune_ratio",
                    self.heads,
                    attention.kv_heads,
                    "key/value heads",
                )?;
                attention.heads = attention.kv_heads * share;
            }
        }
        Ok(pruned)
    }
}

fn keep(name: &str, ratio: f64, n: usize, what: &str) -> Result<usize, String> {
    let removed = (ratio * n as f64 + 1e-9).floor() as usize;
    if ratio > 0.0 && removed == 0 {
        let least = 1.0 / n as f64;
        return Err(format!(
            "{name} = {ratio} removes none of {n} {what}; use 0 or at least {least:.3}"
        ));
    }
    if removed == n {
        return Err(format!(
            "{name} = {ratio} removes all of {n} {what}; use less than 1"
        ));
    }
    Ok(n - removed)
}

/// What the criteria say of themselves.
pub(super) fn about() -> Vec<About> {
    vec![taylor::ABOUT, magnitude::ABOUT]
}

/// The parameters of the family.
pub(super) fn parameters() -> Vec<ParameterInfo> {
    let names: Vec<&str> = about().iter().map(|a| a.name).collect();
    let shares = |high| Domain::float(0.0, high, false, None).expect("not empty");
    let halves = [0.0, 0.25, 0.5].map(spaces::Value::Float).to_vec();
    vec![
        float(
            "prune_ratio",
            "share of feed-forward neurons removed after training",
            0.0,
            0.95,
            0.0,
        )
        .search(shares(0.8)),
        float(
            "head_prune_ratio",
            "share of key/value heads removed after training, each with its query heads",
            0.0,
            0.95,
            0.0,
        )
        .search(Domain::categorical(halves).expect("not empty")),
        choice(
            "prune_criterion",
            "how the least important structures are found",
            &names,
        ),
        float(
            "recovery",
            "training after pruning, as a share of the training before",
            0.0,
            1.0,
            0.1,
        )
        .search(shares(0.3)),
    ]
}

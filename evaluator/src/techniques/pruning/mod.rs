//! Structured pruning after training: whole feed-forward neurons, key/value head groups, blocks, and components of the residual
//! stream are removed, by shares that are asked, or as many neurons and heads of each block as a time asks.
//!
//! A criterion is one file, a line in the list below, and the arms that the compiler then asks for. What is
//! removed leaves smaller tensors, or fewer.

mod activation;
mod eigen;
mod importance;
mod influence;
mod judge;
pub mod latency;
mod magnitude;
mod shrink;
mod slice;
mod taylor;
mod watched;

use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo};

pub(crate) use self::watched::Watched;
pub use self::{
    importance::{Importance, LayerImportance},
    judge::judge,
    shrink::shrink,
    slice::slice,
};
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
    /// By the size of its outputs on training data.
    Activation,
}

/// What is removed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PruningPlan {
    /// Share of feed-forward neurons.
    pub neurons: f64,
    /// Share of key/value heads, each with its query heads.
    pub heads: f64,
    /// Share of blocks, of each half where there are halves.
    pub layers: f64,
    /// Share of the components of the residual stream.
    pub width: f64,
    /// The time that sizes of layers are found for after training, where there is such a target.
    pub latency: Option<latency::Target>,
    /// How importance of neurons and heads is judged.
    pub criterion: Criterion,
    /// Training after pruning, as a share of the training before.
    pub recovery: f64,
}

impl PruningPlan {
    /// Reads the parameters of the family; `None` if nothing is removed.
    ///
    /// # Errors
    /// A sentence where there are two targets for one time.
    pub(crate) fn read(values: Values) -> Result<Option<Self>, String> {
        let latency = latency::Target::read(values)?;
        let names = [
            "prune_ratio",
            "head_prune_ratio",
            "layer_prune_ratio",
            "width_prune_ratio",
        ];
        let shares = names.map(|name| values.float(name));
        let [neurons, heads, layers, width] = shares;
        let removes = latency.is_some() || shares.iter().any(|share| *share > 0.0);
        Ok(removes.then(|| PruningPlan {
            neurons,
            heads,
            layers,
            width,
            latency,
            criterion: match values.text("prune_criterion") {
                "magnitude" => Criterion::Magnitude,
                "activation" => Criterion::Activation,
                _ => Criterion::Taylor,
            },
            recovery: values.float("recovery"),
        }))
    }

    /// The counters that are above zero once everything was removed.
    pub(crate) fn activity(&self) -> impl Iterator<Item = &'static str> {
        let counters = [
            (self.neurons, "pruned_neurons"),
            (self.heads, "pruned_heads"),
            (self.layers, influence::ACTIVITY),
            (self.width, slice::ACTIVITY),
        ];
        let removed = counters.into_iter().filter(|(share, _)| *share > 0.0);
        let for_latency = self.latency.map(|_| latency::ACTIVITY);
        removed.map(|(_, counter)| counter).chain(for_latency)
    }

    /// The plan of the pruned model; that of the unpruned one where sizes are found later.
    ///
    /// # Errors
    /// A sentence if a share is too small to remove anything or would leave nothing, or the model has no form without it.
    pub fn pruned(&self, plan: &ModelPlan) -> Result<ModelPlan, String> {
        let mut pruned = plan.clone();
        if let Some(target) = self.latency {
            let shares = [
                ("prune_ratio", self.neurons),
                ("head_prune_ratio", self.heads),
                ("layer_prune_ratio", self.layers),
                ("width_prune_ratio", self.width),
            ];
            target.check(plan, &shares)?;
            return Ok(pruned);
        }
        self.remove_layers(&mut pruned)?;
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
        if self.width > 0.0 {
            slice::narrow(&mut pruned, self.width)?;
        }
        Ok(pruned)
    }

    /// Takes blocks out of a plan; which ones does not matter, since they are alike.
    fn remove_layers(&self, plan: &mut ModelPlan) -> Result<(), String> {
        if self.layers == 0.0 {
            return Ok(());
        }
        let reading = plan.kind.reading();
        let mut halves = vec![plan.layers.split_off(reading)];
        if reading > 0 {
            halves.insert(0, std::mem::take(&mut plan.layers));
        }
        for half in &mut halves {
            if half.iter().any(|layer| *layer != half[0]) {
                return Err(format!(
                    "layer_prune_ratio = {} finds out after training which layers go, and these differ, so costs would not be known before; use layer_prune_ratio = 0, or layers alike: attention_layer_1 and so on 'same', moe_every = 1",
                    self.layers
                ));
            }
            half.truncate(keep("layer_prune_ratio", self.layers, half.len(), "layers")?);
        }
        if reading > 0 {
            plan.kind = plan.kind.with_reading(halves[0].len());
        }
        plan.layers = halves.concat();
        match plan.early_exit {
            Some(exits) if exits.every >= plan.layers.len() => Err(format!(
                "layer_prune_ratio = {} leaves {} layers, and exit_every {} no exit before the last of them; use a smaller layer_prune_ratio or exit_every",
                self.layers,
                plan.layers.len(),
                exits.every
            )),
            _ if plan.tokens.is_some_and(|keep| !keep.layers.is_same()) => Err(format!(
                "layer_prune_ratio = {} finds out after training which layers go, and token_keep_layer_1 and so on name single ones; use layer_prune_ratio = 0 or token_keep alone",
                self.layers
            )),
            _ if plan.tokens.is_some() && plan.layers.len() == 1 => Err(format!(
                "layer_prune_ratio = {} leaves one layer, and token_keep below 1 leaves tokens out of later ones; use a smaller layer_prune_ratio or token_keep = 1",
                self.layers
            )),
            _ => Ok(()),
        }
    }
}

fn keep(name: &str, ratio: f64, n: usize, what: &str) -> Result<usize, String> {
    let removed = (ratio * n as f64 + 1e-9).floor() as usize;
    if ratio > 0.0 && removed == 0 {
        return Err(match n {
            1 => format!("{name} = {ratio} would remove from 1 of {what}, which has to stay; use {name} = 0"),
            _ => format!(
                "{name} = {ratio} removes none of {n} {what}; use 0 or at least {:.3}",
                1.0 / n as f64
            ),
        });
    }
    if removed == n {
        return Err(format!(
            "{name} = {ratio} removes all of {n} {what}; use less than 1"
        ));
    }
    Ok(n - removed)
}

/// What the criteria say of themselves.
fn criteria() -> Vec<About> {
    vec![taylor::ABOUT, magnitude::ABOUT, activation::ABOUT]
}

/// What the techniques say of themselves.
pub(super) fn about() -> Vec<About> {
    let mut all = criteria();
    all.extend([influence::ABOUT, slice::ABOUT, latency::ABOUT]);
    all
}

/// The parameters of the family.
pub(super) fn parameters() -> Vec<ParameterInfo> {
    let names: Vec<&str> = criteria().iter().map(|a| a.name).collect();
    let shares = |high| Domain::float(0.0, high, false, None).expect("not empty");
    let few = Domain::categorical([0.0, 0.25, 0.5].map(spaces::Value::Float).to_vec()).expect("not empty");
    let [share, ms] = latency::parameters();
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
        .search(few.clone()),
        float(
            "layer_prune_ratio",
            "share of layers removed after training, of each half where a kind has two: those that change the residual stream least",
            0.0,
            0.95,
            0.0,
        )
        .search(few.clone()),
        float(
            "width_prune_ratio",
            "share of the residual stream's components removed after training, once it is turned into its principal ones; as many stay as the next multiple of 8 says",
            0.0,
            0.95,
            0.0,
        )
        .search(few),
        share,
        ms,
        choice(
            "prune_criterion",
            "how the least important neurons and heads are found",
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

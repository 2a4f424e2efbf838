//! A latency target (`ZipLM`, 2302.04089): how many neurons and heads each layer keeps is found after training, from times
//! that were measured on this device and losses that were measured on training data.
//!
//! What remains in a layer is not adapted to what is gone, as the paper does layer by layer; recovery trains it.

mod losses;
mod sizes;
mod table;

use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

pub(super) use self::losses::macs;
pub use self::{
    losses::losses,
    sizes::{LayerSize, Structure, give},
    table::{Losses, TimeTable, TimedPart},
};
use super::About;
use crate::{
    model::{Kind, ModelPlan},
    parameter::{Declared, Values, float},
    techniques::{
        feed_forward::{FeedForwardPlan, HIDDEN_MULTIPLE},
        sparsity::{Pattern, SparsityPlan},
    },
};

pub(super) const ABOUT: About = About {
    name: "latency_target",
    doc: "each layer keeps as many neurons and heads as lose least within a time that is measured (prune_latency)",
    paper: "2302.04089",
};

/// The counter that is above zero once structures were removed for a target.
pub(crate) const ACTIVITY: &str = "pruned_for_latency";

/// Times that a choice is made: times of parts do not quite add up, and a choice that turns out too slow is made again.
const TRIES: usize = 3;

/// Milliseconds for a token of the unpruned model, and of one of the asked shape.
pub type Times<'a, E> = dyn FnMut(&ModelPlan) -> Result<[f64; 2], E> + 'a;

/// What a token of the pruned model may take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Target {
    /// A share of what it takes the unpruned model on the same device.
    Share(f64),
    /// Milliseconds.
    Ms(f64),
}

impl Target {
    /// Reads the parameters; `None` where there is no target.
    ///
    /// # Errors
    /// A sentence where there are two.
    pub(super) fn read(values: Values) -> Result<Option<Self>, String> {
        let (share, ms) = (values.float("prune_latency"), values.float("prune_latency_ms"));
        let has_share = share > 0.0 && share < 1.0;
        match (has_share, ms > 0.0) {
            (true, true) => Err(format!(
                "prune_latency = {share} and prune_latency_ms = {ms} are two targets for one time; use prune_latency = 1 or prune_latency_ms = 0"
            )),
            (true, false) => Ok(Some(Target::Share(share))),
            (false, true) => Ok(Some(Target::Ms(ms))),
            (false, false) => Ok(None),
        }
    }

    fn asked(self) -> String {
        match self {
            Target::Share(share) => format!("prune_latency = {share}"),
            Target::Ms(ms) => format!("prune_latency_ms = {ms}"),
        }
    }

    fn off(self) -> &'static str {
        match self {
            Target::Share(_) => "prune_latency = 1",
            Target::Ms(_) => "prune_latency_ms = 0",
        }
    }

    /// Whether a model can be cut to a time, where these shares are removed too.
    ///
    /// # Errors
    /// A sentence on what it cannot be combined with, or cut from, and what to use instead.
    pub(super) fn check(self, plan: &ModelPlan, shares: &[(&str, f64)]) -> Result<(), String> {
        let (asked, off) = (self.asked(), self.off());
        if let Some((name, share)) = shares.iter().find(|(_, share)| *share > 0.0) {
            return Err(format!(
                "{asked} finds the sizes of layers by their time, and {name} = {share} says what goes beforehand; use {name} = 0 or {off}"
            ));
        }
        if matches!(plan.kind, Kind::EncoderDecoder(_)) {
            return Err(format!(
                "{asked} is the time of one token, and kind 'encoder_decoder' reads with one half and writes with another; use prune_ratio and head_prune_ratio, or {off}"
            ));
        }
        let mixes = |plan: &FeedForwardPlan| matches!(plan, FeedForwardPlan::ChannelMix { .. });
        if plan.layers.iter().any(|layer| mixes(&layer.feed_forward)) {
            return Err(format!(
                "{asked} cuts neurons of gated networks, not of channel_mix; use {off} or feed_forward = 'gated'"
            ));
        }
        if sizes::parts(plan).is_empty() {
            return Err(format!(
                "{asked} has nothing to cut in layers of one key/value head and {} neurons; use {off}, or more of them",
                HIDDEN_MULTIPLE
            ));
        }
        Ok(())
    }

    /// Whether what is done to weights afterwards goes with sizes that are not known yet.
    ///
    /// # Errors
    /// A sentence on what does not.
    pub(crate) fn check_beside(
        self,
        sparsity: Option<&SparsityPlan>,
        chooses_neurons: bool,
    ) -> Result<(), String> {
        let (asked, off) = (self.asked(), self.off());
        if chooses_neurons {
            return Err(format!(
                "{asked} finds the number of neurons of each layer, of which context_keep would be a share; use context_keep = 1, or prune_ratio in place of {}",
                self.name()
            ));
        }
        match sparsity {
            Some(plan) if plan.form.pattern != Pattern::Free => Err(format!(
                "{asked} finds the lengths of rows after training, and a sparsity_pattern of groups wants to know them before; use sparsity_pattern = 'free' or {off}"
            )),
            _ => Ok(()),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Target::Share(_) => "prune_latency",
            Target::Ms(_) => "prune_latency_ms",
        }
    }

    /// The share of the unpruned model's time that is aimed at.
    ///
    /// # Errors
    /// A sentence where no sizes reach it, with the lowest that some do, or where nothing needs to be removed.
    pub fn share(self, table: &TimeTable) -> Result<f64, String> {
        let (asked, off, least, whole) = (self.asked(), self.off(), table.least(), table.whole_ms);
        let share = match self {
            Target::Share(share) => share,
            Target::Ms(ms) => ms / whole,
        };
        if share >= 1.0 {
            return Err(format!(
                "{asked} is no less than the {whole:.4} ms that a token takes the unpruned model on this device; use less, or {off}"
            ));
        }
        if share < least {
            // rounded up, so that what is named can be reached
            let up = |x: f64, unit: f64| (x / unit).ceil() * unit;
            let lowest = match self {
                Target::Share(_) => format!("{:.3}", up(least, 1e-3)),
                Target::Ms(_) => format!("{:.4}", up(least * whole, 1e-4)),
            };
            return Err(format!(
                "{asked} cannot be met: with the fewest neurons and heads a token still takes {:.1} % of {whole:.4} ms on this device; use at least {} = {lowest}",
                100.0 * least,
                self.name()
            ));
        }
        Ok(share)
    }
}

/// The sizes that were found for a target, and what they rest on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundSizes {
    /// What each layer keeps.
    pub layers: Vec<LayerSize>,
    /// The share of the unpruned model's time that was aimed at.
    pub target: f64,
    /// The share that the times of the parts add up to.
    pub predicted: f64,
    /// The share that a token took with all sizes together.
    pub measured: f64,
    /// What the loss rises by before recovery if what layers lose alone adds up, in nats for each target.
    pub loss_increase: f64,
    /// The times.
    pub table: TimeTable,
}

impl FoundSizes {
    /// Finds the sizes that lose least within a share of the time; `None` where none are within it.
    ///
    /// # Errors
    /// Those of `times`.
    pub fn find<E>(
        plan: &ModelPlan,
        table: &TimeTable,
        losses: &Losses,
        share: f64,
        times: &mut Times<E>,
    ) -> Result<Option<Self>, E> {
        let (mut best, mut aim): (Option<FoundSizes>, f64) = (None, share);
        for _ in 0..TRIES {
            let Some(chosen) = table.choose(plan, losses, aim) else {
                break;
            };
            let mut cut = plan.clone();
            give(&mut cut, &chosen.layers);
            let [whole, ms] = times(&cut)?;
            let (measured, predicted) = (ms / whole, chosen.share);
            if best.as_ref().is_none_or(|best| measured < best.measured) {
                best = Some(FoundSizes {
                    layers: chosen.layers,
                    target: share,
                    predicted,
                    measured,
                    loss_increase: chosen.loss,
                    table: table.clone(),
                });
            }
            if measured <= share {
                break;
            }
            // as much as it took more than was foretold is taken off
            aim = share - (measured - predicted);
        }
        Ok(best)
    }

    /// Neurons and key/value heads that a model of this shape loses.
    pub fn removed(&self, plan: &ModelPlan) -> usize {
        let layers = plan.layers.iter().zip(&self.layers);
        let removed = layers.map(|(whole, kept)| {
            let neurons = whole.feed_forward.hidden() - kept.neurons;
            neurons + whole.attention.kv_heads - kept.kv_heads
        });
        removed.sum()
    }

    /// The sizes in a few words.
    pub(crate) fn words(&self) -> String {
        let range = |of: fn(&LayerSize) -> usize| {
            let sizes = self.layers.iter().map(of);
            match (sizes.clone().min(), sizes.max()) {
                (Some(least), Some(most)) if least < most => format!("{least} to {most}"),
                (least, _) => least.unwrap_or(0).to_string(),
            }
        };
        format!(
            "{} neurons and {} key/value heads a layer for {:.2} of its time",
            range(|size| size.neurons),
            range(|size| size.kv_heads),
            self.measured
        )
    }

    /// What is told of them beside a model, by name.
    pub(crate) fn provenance(&self) -> [(&'static str, String); 3] {
        let list = |of: fn(&LayerSize) -> usize| {
            let sizes: Vec<String> = self.layers.iter().map(|size| of(size).to_string()).collect();
            sizes.join(", ")
        };
        [
            (
                "pruned_sizes",
                format!(
                    "neurons {}; key/value heads {}",
                    list(|size| size.neurons),
                    list(|size| size.kv_heads)
                ),
            ),
            (
                "pruned_time",
                format!(
                    "{:.4} of {:.4} ms a token predicted, {:.4} measured, at most {:.4} asked; the loss was foretold to rise by {:.4} before recovery",
                    self.predicted, self.table.whole_ms, self.measured, self.target, self.loss_increase
                ),
            ),
            (
                "pruned_time_table",
                serde_json::to_string(&self.table).expect("plain data serialises"),
            ),
        ]
    }
}

/// The parameters.
pub(super) fn parameters() -> [ParameterInfo; 2] {
    let shares = [1.0, 0.8, 0.6, 0.4].map(Value::Float).to_vec();
    [
        float(
            "prune_latency",
            "share of its time a token that the pruned model may take on this device; how many neurons and heads each layer keeps for that is found after training; 1 for no target",
            0.01,
            1.0,
            1.0,
        )
        .search(Domain::categorical(shares).expect("not empty")),
        float(
            "prune_latency_ms",
            "the same in time a token on this device, in place of a share; 0 for no target",
            0.0,
            1e6,
            0.0,
        )
        .unit("ms"),
    ]
}

#[cfg(test)]
mod tests;

//! Contextual pruning (Deja Vu, 2310.17157): each token of a decoder goes through the share of the feed-forward neurons that
//! is foretold to be most active for it. The rows of weights of the others are neither read nor multiplied.
//!
//! The paper prunes networks of rectifiers, where what is left out is zero. Networks here are gated (`silu(gate) · up`), so
//! the neurons of the largest `|silu(gate) · up|` are taken and the rest, which is small and not zero, is lost: less can be
//! left out for the same loss. Several texts at once need the union of their neurons, `1 - (1 - share)^texts` of all: at a
//! tenth, 0.10 of them for one text, 0.34 for four, 0.81 for sixteen. A long batch therefore saves multiply-adds, and no
//! reading of weights. Predictors learn after training and pruning; see `context_keep/learning.rs`.

mod learning;

use spaces::{Domain, ParameterInfo};

pub(crate) use self::learning::learn;
use crate::{
    device::Device,
    model::{Initial, Kind, Model, ModelPlan},
    ops::Ops,
    parameter::{Declared, Values, float, int},
    techniques::{
        About,
        feed_forward::{
            CONTEXTUAL_ACTIVITY, Contextual, ContextualPlan, FeedForward, FeedForwardPlan, Predictor,
        },
    },
};

/// The counters of neurons that are left out, and of those that a predictor was to find and found in its last lessons.
pub(crate) const ACTIVITY: [&str; 3] = [
    CONTEXTUAL_ACTIVITY,
    "context_neurons_sought",
    "context_neurons_found",
];

/// How neurons are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContextKeep {
    /// The share of them, above 0 and below 1.
    pub share: f64,
    /// Hidden units of a predictor.
    pub rank: usize,
    /// Batches of training data that predictors learn from.
    pub batches: u64,
}

impl ContextKeep {
    /// Reads the parameters for a model as it is served otherwise; `None` where each token goes through all neurons.
    ///
    /// # Errors
    /// A sentence about a model whose neurons cannot be chosen.
    pub(crate) fn read(values: Values, model: &ModelPlan) -> Result<Option<Self>, String> {
        let share = values.float("context_keep");
        // configurations from before there was a choice do not say it
        if share == 0.0 || share == 1.0 {
            return Ok(None);
        }
        let refused = |why: String| {
            Err(format!(
                "context_keep = {share} chooses neurons for each token, and {why}; use context_keep = 1"
            ))
        };
        if !matches!(model.kind, Kind::Decoder(_)) {
            return refused(format!("kind '{}' reads texts at once", model.kind.name()));
        }
        let is_dense = |plan: &FeedForwardPlan| matches!(plan, FeedForwardPlan::Dense { .. });
        if !model.layers.iter().all(|layer| is_dense(&layer.feed_forward)) {
            return refused(
                "mixtures of experts and channel_mix have no neurons of one gated network".into(),
            );
        }
        if model.sparsity.is_some() {
            return refused(format!(
                "sparsity = {} stores weights without rows of their own",
                values.float("sparsity")
            ));
        }
        let bits = values.int("bits");
        if bits > 0 && bits < 32 {
            return refused(format!(
                "bits = {bits} packs weights, which no kernel chooses rows of yet"
            ));
        }
        let keep = ContextKeep {
            share,
            rank: values.int("context_predictor_rank"),
            batches: values.int("context_batches") as u64,
        };
        let most = model.layers.iter().map(|layer| layer.feed_forward.hidden()).max();
        let most = most.unwrap_or(0);
        if keep.neurons(most) == most {
            return refused(format!("of {most} neurons that leaves none out"));
        }
        Ok(Some(keep))
    }

    /// How many of so many neurons a token goes through.
    fn neurons(self, hidden: usize) -> usize {
        ((self.share * hidden as f64).round() as usize).clamp(1, hidden)
    }

    /// The plan of a model whose neurons are chosen.
    pub(crate) fn given(self, model: &ModelPlan) -> ModelPlan {
        let mut model = model.clone();
        for layer in &mut model.layers {
            let hidden = layer.feed_forward.hidden();
            layer.feed_forward = FeedForwardPlan::Contextual(ContextualPlan {
                hidden,
                kept: self.neurons(hidden),
                rank: self.rank,
            });
        }
        model
    }

    /// Multiply-adds of all lessons, on batches of so many examples of `n` tokens a row, for the plan with chosen neurons.
    pub(crate) fn macs(self, model: &ModelPlan, batch: usize, n: usize) -> u64 {
        let width = model.width as u64;
        let lessons = model.layers.iter().enumerate().map(|(i, layer)| {
            let rows = (batch * model.kind.form().texts() * model.seen(i, n)) as u64;
            let plan = layer.feed_forward.contextual();
            plan.map_or(0, |plan| rows * plan.learning_macs(width))
        });
        self.batches * (model.forward_macs(batch, n) + lessons.sum::<u64>())
    }
}

impl ModelPlan {
    /// The same model before neurons are chosen.
    pub(crate) fn with_all_neurons(&self) -> ModelPlan {
        let mut plan = self.clone();
        for layer in &mut plan.layers {
            if let Some(ContextualPlan { hidden, .. }) = layer.feed_forward.contextual() {
                layer.feed_forward = FeedForwardPlan::Dense { hidden };
            }
        }
        plan
    }

    /// Whether tokens go through chosen neurons.
    pub(crate) fn chooses_neurons(&self) -> bool {
        self.layers
            .iter()
            .any(|layer| layer.feed_forward.contextual().is_some())
    }

    /// Whether a device has a kernel for what is chosen.
    ///
    /// # Errors
    /// A sentence where it would compute all neurons.
    pub(crate) fn check_choice(&self, device: &Device) -> Result<(), String> {
        if self.chooses_neurons() && *device != Device::Cpu {
            return Err(
                "context_keep below 1 reads rows of weights one by one, which is done on processors alone yet; use context_keep = 1, or device cpu"
                    .into(),
            );
        }
        Ok(())
    }
}

/// Has random predictors choose, for timing: what is computed does not depend on which neurons they take.
pub(crate) fn choose_unseen<B: Ops>(model: &mut Model<B>, plan: &ModelPlan) {
    let mut initial = Initial::new(0, plan.layers.len(), model.device());
    for (block, layer) in model.blocks.iter_mut().zip(&plan.layers) {
        if let (FeedForward::Dense(network), Some(chosen)) =
            (&block.feed_forward, layer.feed_forward.contextual())
        {
            let predictor = Predictor::new(chosen, plan.width, &mut initial);
            block.feed_forward = FeedForward::Contextual(Contextual::of(network, predictor, chosen.kept));
        }
    }
}

/// What it says of itself.
pub(crate) fn about() -> Vec<About> {
    vec![About {
        name: "context_keep",
        doc: "each token goes through the feed-forward neurons that a predictor takes for the most active ones",
        paper: "2310.17157",
    }]
}

/// The parameters of the family.
pub(crate) fn parameters() -> Vec<ParameterInfo> {
    vec![
        float(
            "context_keep",
            "share of the feed-forward neurons that each token goes through, those a predictor takes for the most active",
            0.01,
            1.0,
            1.0,
        )
        .search(Domain::float(0.1, 1.0, false, Some(0.1)).expect("not empty")),
        int("context_predictor_rank", "hidden units of each layer's predictor of active neurons", 1, 4096, 32)
            .when("context_keep < 1")
            .search(Domain::int(8, 128, true, 1).expect("not empty")),
        int("context_batches", "batches of training data that predictors learn from", 1, 65_536, 64)
            .unit("batches")
            .when("context_keep < 1"),
    ]
}

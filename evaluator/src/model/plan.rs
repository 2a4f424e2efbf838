//! The shape of a model: what is built, counted, exported and read back.

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::techniques::{
    attention::{Core, Own, Place},
    dynamic::{draft::DraftPlan, early_exit::EarlyExit, token_keep::TokenKeep},
    feed_forward::FeedForwardPlan,
    fine_tuning::adapter::AdapterPlan,
    quantization::cache::CacheForm,
    reversible::Reversible,
    sparsity::SparseForm,
};

/// Base of the rotary angles.
pub const ROPE_THETA: f64 = 10_000.0;

/// Added to mean squares before the root.
pub const NORM_EPSILON: f64 = 1e-5;

/// The shape of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelPlan {
    /// What the blocks are put to; files that do not say it hold decoders.
    #[serde(default, skip_serializing_if = "Kind::is_default")]
    pub kind: Kind,
    /// Number of different tokens.
    pub vocabulary: usize,
    /// Tokens of a full-length sequence.
    pub context: usize,
    /// Components of the residual stream.
    pub width: usize,
    /// The blocks, from the input on; where there are halves, those of the half that reads first.
    pub layers: Vec<LayerPlan>,
    /// The form of two residual streams, where layers are reversible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reversible: Option<Reversible>,
    /// How many weights of the blocks' matrices are stored, where they are stored sparse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<SparseForm>,
    /// Whether the residual stream is in a basis of its own in which a tied head's norm has a matrix for its scale.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rotated: bool,
    /// Where a text can leave before the last layer, if it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_exit: Option<EarlyExit>,
    /// How many tokens each layer passes on, where not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenKeep>,
    /// What guesses ahead where text is written, if something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<DraftPlan>,
}

impl ModelPlan {
    /// Positions of a full-length sequence: its tokens and those that the kind puts before them, or what is written if that is more.
    pub fn positions(&self) -> usize {
        let form = self.kind.form();
        let read = form.read(self.context) + self.kind.leading();
        read.max(form.written(self.context))
    }

    /// Whether a layer is of a half that writes from what another half has read.
    pub(super) fn looks_across(&self, layer: usize) -> bool {
        self.kind.reading() > 0 && layer >= self.kind.reading()
    }

    /// Positions of a row that a layer sees, for texts of `n` tokens.
    pub(crate) fn seen(&self, layer: usize, n: usize) -> usize {
        if self.looks_across(layer) {
            self.kind.form().written(n)
        } else {
            let whole = self.kind.form().read(n) + self.kind.leading();
            self.tokens.map_or(whole, |keep| keep.read_by(layer, whole))
        }
    }

    /// Tokens that a model which writes can take in one after the other: the context, or what is written for it.
    pub fn capacity(&self) -> usize {
        match self.kind.form().written(self.context) {
            0 => self.context,
            written => written,
        }
    }

    /// Where a layer stands in its half.
    pub fn place(&self, layer: usize) -> Place {
        let reading = self.kind.reading();
        let (layer, layers) = match reading {
            0 => (layer, self.layers.len()),
            _ if layer < reading => (layer, reading),
            _ => (layer - reading, self.layers.len() - reading),
        };
        Place {
            layer,
            layers,
            width: self.width,
            context: self.positions(),
        }
    }
}

/// The shape of one block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerPlan {
    /// The attention.
    pub attention: AttentionPlan,
    /// The attention to what another half has read, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross: Option<AttentionPlan>,
    /// The feed-forward part.
    pub feed_forward: FeedForwardPlan,
    /// The adapters that stay in the served model, where a base was adapted by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapters: Option<AdapterPlan>,
}

/// A matrix `[out, input]` around an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Projection {
    /// Its name in files.
    pub name: &'static str,
    /// Components of its input.
    pub input: usize,
    /// Components of its output.
    pub out: usize,
}

impl Projection {
    /// Whether it is one of keys or values.
    pub fn is_of_keys(&self) -> bool {
        ["k_proj", "v_proj"].contains(&self.name)
    }
}

/// The shape of one attention.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionPlan {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Components of one head.
    pub depth: usize,
    /// How queries, keys and values become the output.
    pub core: Core,
    /// How keys and values are remembered, where it is in few bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheForm>,
}

impl AttentionPlan {
    /// Query heads that share one key/value head.
    pub fn share(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Input and output of each projection, those of queries, keys and values first.
    pub fn projections(&self, width: usize) -> Vec<Projection> {
        let (queries, keys) = (self.heads * self.depth, self.kv_heads * self.depth);
        let key = (!self.core.shares_keys()).then_some(("k_proj", width, keys));
        let mut all = vec![("q_proj", width, queries)];
        all.extend(key);
        all.extend([("v_proj", width, keys), ("o_proj", queries, width)]);
        let projection = |(name, input, out)| Projection { name, input, out };
        all.into_iter().map(projection).collect()
    }

    /// Weights of the core's own.
    pub fn own(&self, place: Place) -> Vec<Own> {
        self.core.weights(self, place)
    }
}

//! The shape of a decoder: what is built, counted, exported and read back.

use serde::{Deserialize, Serialize};

use crate::techniques::{attention::Core, feed_forward::FeedForwardPlan};

/// Base of the rotary angles.
pub const ROPE_THETA: f64 = 10_000.0;

/// Added to mean squares before the root.
pub const NORM_EPSILON: f64 = 1e-5;

/// The shape of a decoder language model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelPlan {
    /// Number of different tokens.
    pub vocabulary: usize,
    /// Tokens of a full-length sequence.
    pub context: usize,
    /// Components of the residual stream.
    pub width: usize,
    /// The blocks, from the input on.
    pub layers: Vec<LayerPlan>,
}

/// The shape of one block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerPlan {
    /// The attention.
    pub attention: AttentionPlan,
    /// The feed-forward part.
    pub feed_forward: FeedForwardPlan,
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
}

impl AttentionPlan {
    /// Query heads that share one key/value head.
    pub fn share(&self) -> usize {
        self.heads / self.kv_heads
    }
}

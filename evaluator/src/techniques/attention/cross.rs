//! Cross attention (1706.03762 §3.2.3): queries of one sequence over the keys and values of another, all of which are there.
//!
//! It is softmax attention whatever the attention within a sequence is: in blocks where that one is `tiled`, so that no
//! matrix of all pairs is kept there either, and `full` otherwise.

use burn::tensor::Tensor;

use super::{Core, tiled::with_scores_again};
use crate::{
    model::{AttentionPlan, Pass},
    ops::{Band, Lengths, Ops, attention, tiled_attention},
};

impl Core {
    /// The form that a block with this attention has over another sequence.
    pub(crate) fn across(self) -> Core {
        match self {
            Core::Tiled(_) => self,
            _ => Core::full(),
        }
    }

    /// `q [b, n, h, d]` over `k` and `v` `[b, keys, g, d]`, of which so many are no padding, to `[b, n, h, d]`.
    pub(crate) fn over_another<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        lengths: Option<&Lengths>,
    ) -> Tensor<B, 4> {
        let (n, keys) = (q.dims()[1], k.dims()[1]);
        let band = Band::across(keys, lengths.cloned());
        match self {
            Core::Tiled(tiled) => {
                tiled.note(n, keys);
                tiled_attention(q, k, v, band, tiled.tiles())
            }
            _ => attention(q, k, v, band),
        }
    }

    /// Multiply-adds of [`Core::over_another`] for one sequence without padding, forward and backward.
    pub(crate) fn pass_over_another(&self, plan: &AttentionPlan, n: usize, keys: usize) -> Pass {
        let forward = 2 * (plan.heads * plan.depth * n * keys) as u64;
        let pass = Pass {
            forward,
            backward: 2 * forward,
        };
        match self {
            Core::Tiled(_) => with_scores_again(pass),
            _ => pass,
        }
    }
}

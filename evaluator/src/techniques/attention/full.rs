//! Full softmax attention (1706.03762), causal or in both directions, with grouped key/value heads (2305.13245).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    About, State, Variant,
    variant::{attend_to_cache, cache, extend_cache},
};
use crate::{
    model::{AttentionPlan, Pass},
    ops::{Band, Lengths, Ops, attention},
    parameter::Values,
};

/// Every token sees every earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Full {}

impl Variant for Full {
    const ABOUT: About = About {
        name: "full",
        doc: "every token sees every earlier one; cost grows with the context",
        paper: "1706.03762",
    };

    const REMEMBERS_EACH_TOKEN: bool = true;

    const KEEPS_KEYS_AND_VALUES: bool = true;

    const BOTH_WAYS: Option<&'static str> = Some("full");

    fn read(_: Values) -> Self {
        Full {}
    }

    fn band(&self, all: Band) -> Option<Band> {
        Some(all)
    }

    fn training_pass(&self, plan: &AttentionPlan, n: usize) -> Pass {
        // scores and weighted sum for each pair of a token with itself or an earlier one; twice that backwards
        let forward = 2 * (plan.heads * plan.depth * n * (n + 1) / 2) as u64;
        Pass {
            forward,
            backward: 2 * forward,
        }
    }

    fn decoding_macs(&self, plan: &AttentionPlan, position: usize) -> u64 {
        2 * (plan.heads * plan.depth * (position + 1)) as u64
    }

    fn state_values(&self, plan: &AttentionPlan, capacity: usize) -> u64 {
        2 * (plan.kv_heads * plan.depth * capacity) as u64
    }

    fn whole<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        _: &[Tensor<B, 2>],
    ) -> Tensor<B, 4> {
        let n = q.dims()[1];
        attention(q, k, v, Band::causal(n))
    }

    fn training_pass_both_ways(&self, plan: &AttentionPlan, n: usize) -> Pass {
        let forward = 2 * (plan.heads * plan.depth * n * n) as u64;
        Pass {
            forward,
            backward: 2 * forward,
        }
    }

    fn whole_both_ways<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        lengths: Option<&Lengths>,
    ) -> Tensor<B, 4> {
        let n = q.dims()[1];
        attention(q, k, v, Band::whole(n, lengths.cloned()))
    }

    fn state<B: Ops>(
        &self,
        plan: &AttentionPlan,
        batch: usize,
        capacity: usize,
        device: &B::Device,
    ) -> State<B> {
        cache(plan, batch, capacity, device)
    }

    fn extend<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        _: &[Tensor<B, 2>],
        state: &mut State<B>,
    ) -> Tensor<B, 4> {
        let band = extend_cache(k, v, state);
        attend_to_cache(q, state, band, |[q, k, v], band| attention(q, k, v, band))
    }

    fn append<B: Ops>(&self, k: Tensor<B, 4>, v: Tensor<B, 4>, state: &mut State<B>) {
        extend_cache(k, v, state);
    }
}

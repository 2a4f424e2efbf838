//! Full attention by FlashAttention's algorithm (2205.14135, 2307.08691): the same outputs, without the matrix of scores.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use super::{
    About, State, Variant,
    full::Full,
    variant::{attend_to_cache, extend_cache},
};
use crate::{
    counter,
    model::{AttentionPlan, Pass},
    ops::{Band, Lengths, Ops, Tiles, tiled_attention},
    parameter::{Declared, Values, int},
};

/// Every token sees every earlier one, block by block.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tiled {
    block_queries: usize,
    block_keys: usize,
}

impl Tiled {
    pub(super) fn tiles(&self) -> Tiles {
        Tiles {
            queries: self.block_queries,
            keys: self.block_keys,
        }
    }

    pub(super) fn note(&self, queries: usize, keys: usize) {
        let tiles = queries.div_ceil(self.block_queries) * keys.div_ceil(self.block_keys);
        counter::add_activity("attention_tiles", tiles);
    }
}

/// The pass of the form that keeps its scores, which are computed again backwards.
pub(super) fn with_scores_again(Pass { forward, backward }: Pass) -> Pass {
    Pass {
        forward,
        backward: backward + forward / 2,
    }
}

impl Variant for Tiled {
    const ABOUT: About = About {
        name: "tiled",
        doc: "full attention in blocks: memory grows with the context, not with its square; a product more backwards",
        paper: "2205.14135, 2307.08691",
    };

    const ACTIVITY: Option<&'static str> = Some("attention_tiles");

    const REMEMBERS_EACH_TOKEN: bool = true;

    const KEEPS_KEYS_AND_VALUES: bool = true;

    const BOTH_WAYS: Option<&'static str> = Some("tiled");

    fn parameters() -> Vec<ParameterInfo> {
        let sizes = Domain::categorical([16, 32, 64, 128].map(Value::Int).to_vec()).expect("not empty");
        let block = |name: &str, doc: &str| {
            int(name, doc, 1, 4096, 64)
                .unit("tokens")
                .when("attention == 'tiled'")
                .search(sizes.clone())
        };
        vec![
            block("attention_block_q", "queries of a block"),
            block("attention_block_k", "keys of a block"),
        ]
    }

    fn read(values: Values) -> Self {
        Tiled {
            block_queries: values.int("attention_block_q"),
            block_keys: values.int("attention_block_k"),
        }
    }

    fn band(&self, all: Band) -> Option<Band> {
        Some(all)
    }

    fn training_pass(&self, plan: &AttentionPlan, n: usize) -> Pass {
        with_scores_again(Full {}.training_pass(plan, n))
    }

    fn decoding_macs(&self, plan: &AttentionPlan, position: usize) -> u64 {
        Full {}.decoding_macs(plan, position)
    }

    fn state_values(&self, plan: &AttentionPlan, capacity: usize) -> u64 {
        Full {}.state_values(plan, capacity)
    }

    fn whole<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        _: &[Tensor<B, 2>],
    ) -> Tensor<B, 4> {
        let n = q.dims()[1];
        self.note(n, n);
        tiled_attention(q, k, v, Band::causal(n), self.tiles())
    }

    fn training_pass_both_ways(&self, plan: &AttentionPlan, n: usize) -> Pass {
        with_scores_again(Full {}.training_pass_both_ways(plan, n))
    }

    fn whole_both_ways<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        lengths: Option<&Lengths>,
    ) -> Tensor<B, 4> {
        let n = q.dims()[1];
        self.note(n, n);
        tiled_attention(q, k, v, Band::whole(n, lengths.cloned()), self.tiles())
    }

    fn state<B: Ops>(
        &self,
        plan: &AttentionPlan,
        batch: usize,
        capacity: usize,
        device: &B::Device,
    ) -> State<B> {
        Full {}.state(plan, batch, capacity, device)
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
        attend_to_cache(q, state, band, |[q, k, v], band| {
            tiled_attention(q, k, v, band, self.tiles())
        })
    }

    fn append<B: Ops>(&self, k: Tensor<B, 4>, v: Tensor<B, 4>, state: &mut State<B>) {
        extend_cache(k, v, state);
    }
}

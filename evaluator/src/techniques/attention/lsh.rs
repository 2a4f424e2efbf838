//! Attention among tokens that hash alike (Reformer, 2001.04451), with chunks aligned to buckets.
//!
//! Queries and keys are one projection. Positions turn both before they are hashed. The number of buckets is a
//! parameter, not `2 ⌈n / chunk / 2⌉` as in the paper, because it must be the same for a token whatever comes after.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use super::{About, State, Variant, variant::one_by_one};
use crate::{
    counter,
    model::{AttentionPlan, Pass},
    ops::{Hashing, Ops, lsh_attention, lsh_attention_step, lsh_places, unit_length, write_rows},
    parameter::{Declared, Values, choice, int},
};

/// Every token sees the recent ones of its buckets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lsh {
    rounds: usize,
    chunk: usize,
    buckets: usize,
}

impl Lsh {
    fn hashing(&self) -> Hashing {
        Hashing {
            rounds: self.rounds,
            buckets: self.buckets,
            chunk: self.chunk,
        }
    }

    /// Multiply-adds of the hashes of one token.
    fn hash_macs(&self, plan: &AttentionPlan) -> usize {
        plan.heads * self.rounds * plan.depth * self.buckets / 2
    }

    fn places<B: Ops>(&self, q: Tensor<B, 4>, past: Option<(Tensor<B, 4>, usize)>) -> Tensor<B, 4> {
        counter::add_activity("lsh_tokens_hashed", self.rounds * q.dims()[1]);
        lsh_places(q, past, self.hashing())
    }

    fn attend<B: Ops>(&self, q: Tensor<B, 4>, v: Tensor<B, 4>) -> (Tensor<B, 4>, Tensor<B, 4>) {
        let places = self.places(q.clone(), None);
        (lsh_attention(q, v, places.clone(), self.hashing()), places)
    }
}

impl Variant for Lsh {
    const ABOUT: About = About {
        name: "lsh",
        doc: "every token sees recent ones that hash alike; cost stops growing with the context, the cache does not",
        paper: "2001.04451",
    };

    const ACTIVITY: Option<&'static str> = Some("lsh_tokens_hashed");

    const SHARED_KEYS: bool = true;

    const REMEMBERS_EACH_TOKEN: bool = true;

    const OWN_KEYS: bool = true;

    fn parameters() -> Vec<ParameterInfo> {
        let chunks = [8, 16, 32, 64, 128].map(Value::Int).to_vec();
        let buckets = [16, 2, 4, 8, 32, 64, 128].map(Value::Int);
        let all = [
            int("lsh_rounds", "independent hashes of each token", 1, 8, 2),
            int(
                "lsh_chunk",
                "tokens of a bucket that see each other, and the chunk before",
                1,
                4096,
                16,
            )
            .unit("tokens")
            .search(Domain::categorical(chunks).expect("not empty")),
            choice("lsh_buckets", "values of a hash", &buckets),
        ];
        all.map(|parameter| parameter.when("attention == 'lsh'")).to_vec()
    }

    fn read(values: Values) -> Self {
        Lsh {
            rounds: values.int("lsh_rounds"),
            chunk: values.int("lsh_chunk"),
            buckets: values.int("lsh_buckets"),
        }
    }

    fn check(&self, context: usize) -> Result<(), String> {
        let chunk = self.chunk;
        if 2 * chunk < context {
            return Ok(());
        }
        Err(format!(
            "two chunks of lsh_chunk {chunk} cover context {context}, so a round would cost as much as full attention; use a smaller lsh_chunk or attention = 'full'"
        ))
    }

    fn training_pass(&self, plan: &AttentionPlan, n: usize) -> Pass {
        let slots: usize = (0..n).map(|i| self.hashing().slots(i)).sum();
        let once = plan.heads * self.rounds * slots * plan.depth;
        Pass {
            // scores and weighted sum for each slot
            forward: (n * self.hash_macs(plan) + 2 * once) as u64,
            // the scores again, and gradients of probabilities, queries, keys and values
            backward: 5 * once as u64,
        }
    }

    fn decoding_macs(&self, plan: &AttentionPlan, position: usize) -> u64 {
        let once = plan.heads * self.rounds * self.hashing().slots(position) * plan.depth;
        (self.hash_macs(plan) + 2 * once) as u64
    }

    fn state_values(&self, plan: &AttentionPlan, capacity: usize) -> u64 {
        // keys, values, places
        (plan.heads * capacity * (2 * plan.depth + self.rounds)) as u64
    }

    fn whole<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        _: Tensor<B, 4>,
        v: Tensor<B, 4>,
        _: &[Tensor<B, 2>],
    ) -> Tensor<B, 4> {
        self.attend(q, v).0
    }

    fn state<B: Ops>(
        &self,
        plan: &AttentionPlan,
        batch: usize,
        capacity: usize,
        device: &B::Device,
    ) -> State<B> {
        let empty = |width| Tensor::zeros([batch, capacity, plan.heads, width], device);
        State::new(vec![empty(plan.depth), empty(plan.depth), empty(self.rounds)])
    }

    fn extend<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        own: &[Tensor<B, 2>],
        state: &mut State<B>,
    ) -> Tensor<B, 4> {
        let n = q.dims()[1];
        let now = state.taken;
        if n > 1 && now > 0 {
            return one_by_one([q, k, v], |[q, k, v]| self.extend(q, k, v, own, state));
        }
        let keys = unit_length(q.clone());
        if n > 1 {
            let (output, places) = self.attend(q, v.clone());
            remember(state, [keys, v, places]);
            return output;
        }
        let past = (state.parts[2].clone(), now);
        let places = self.places(q.clone(), Some(past));
        remember(state, [keys, v, places]);
        let caches = [0, 1, 2].map(|part| state.parts[part].clone());
        lsh_attention_step(q, caches, now, self.hashing())
    }
}

/// Appends keys, values and places.
fn remember<B: Ops>(state: &mut State<B>, rows: [Tensor<B, 4>; 3]) {
    let (now, n) = (state.taken, rows[0].dims()[1]);
    for (part, rows) in rows.into_iter().enumerate() {
        state.replace(part, |cache| write_rows(cache, rows, now));
    }
    state.taken += n;
}

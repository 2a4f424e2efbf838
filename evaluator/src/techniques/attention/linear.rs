//! Linear attention (2006.16236): softmax replaced by a product of features, so that the past is a sum.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo};

use super::{About, State, Variant, variant::one_by_one};
use crate::{
    counter,
    model::{AttentionPlan, Pass},
    ops::{Lengths, Ops, linear_attention, linear_attention_both_ways, linear_attention_step},
    parameter::{Declared, Values, int},
};

/// The past is a sum of features of constant size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    chunk: usize,
}

impl Variant for Linear {
    const ABOUT: About = About {
        name: "linear",
        doc: "the past is a sum of constant size; cost and state do not grow with the context",
        paper: "2006.16236",
    };

    const ACTIVITY: Option<&'static str> = Some("linear_attention_chunks");

    const BOTH_WAYS: Option<&'static str> = Some("linear");

    fn parameters() -> Vec<ParameterInfo> {
        let search = Domain::categorical([16, 32, 64].map(spaces::Value::Int).to_vec()).expect("not empty");
        let chunk = int(
            "linear_chunk",
            "tokens trained at once between updates of the sum",
            1,
            4096,
            32,
        );
        vec![chunk.unit("tokens").when("attention == 'linear'").search(search)]
    }

    fn read(values: Values) -> Self {
        Linear {
            chunk: values.int("linear_chunk"),
        }
    }

    fn training_pass(&self, plan: &AttentionPlan, n: usize) -> Pass {
        let (h, g, d) = (plan.heads as u64, plan.kv_heads as u64, plan.depth as u64);
        let (n, chunk) = (n as u64, self.chunk.min(n) as u64);
        let (whole, rest) = (n / chunk, n % chunk);
        let pairs = whole * (chunk * (chunk + 1) / 2) + rest * (rest + 1) / 2;
        // the first chunk has nothing before it to read, the last one nothing after it to write for
        let last = if rest > 0 { rest } else { chunk };
        let (reading, writing) = (n - chunk, n - last);
        Pass {
            forward: 2 * h * pairs * d + d * d * (h * reading + g * writing),
            // six products for each pair (two of them repeated from the forward pass); the state is summed again,
            // read for queries, summed backwards, and read for keys and for values
            backward: 6 * h * pairs * d + d * d * (2 * h * reading + 3 * g * writing),
        }
    }

    fn decoding_macs(&self, plan: &AttentionPlan, _: usize) -> u64 {
        ((plan.heads + plan.kv_heads) * plan.depth * plan.depth) as u64
    }

    fn state_values(&self, plan: &AttentionPlan, _: usize) -> u64 {
        (plan.kv_heads * (plan.depth * plan.depth + plan.depth)) as u64
    }

    fn whole<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        _: &[Tensor<B, 2>],
    ) -> Tensor<B, 4> {
        counter::add_activity("linear_attention_chunks", q.dims()[1].div_ceil(self.chunk));
        linear_attention(q, k, v, self.chunk)
    }

    fn training_pass_both_ways(&self, plan: &AttentionPlan, n: usize) -> Pass {
        // the sum over all tokens is written once and read once; two products backwards for each of them
        let forward = ((plan.heads + plan.kv_heads) * plan.depth * plan.depth * n) as u64;
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
        // one chunk: the sum holds all tokens before any of them reads it
        counter::add_activity("linear_attention_chunks", 1);
        linear_attention_both_ways(q, k, v, lengths)
    }

    fn state<B: Ops>(&self, plan: &AttentionPlan, batch: usize, _: usize, device: &B::Device) -> State<B> {
        // `Σ φ(k) vᵀ [b, g, d, d]` and `Σ φ(k) [b, g, 1, d]`
        let (g, d) = (plan.kv_heads, plan.depth);
        State::new(vec![
            Tensor::zeros([batch, g, d, d], device),
            Tensor::zeros([batch, g, 1, d], device),
        ])
    }

    fn extend<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        _: &[Tensor<B, 2>],
        state: &mut State<B>,
    ) -> Tensor<B, 4> {
        let [b, _, g, d] = k.dims();
        one_by_one([q, k, v], |[q, k, v]| {
            let past = (state.take(0), state.take(1).reshape([b, g, d]));
            let (o, (s, z)) = linear_attention_step(q, k, v, past);
            state.parts = vec![s, z.reshape([b, g, 1, d])];
            state.taken += 1;
            o
        })
    }
}

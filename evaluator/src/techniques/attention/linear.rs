//! Linear attention (2006.16236): softmax replaced by a product of features, so that the past is a sum.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use super::{About, State, Variant, variant::one_by_one};
use crate::{
    counter,
    model::{AttentionPlan, Pass},
    ops::{
        FeatureMap, Lengths, Ops, Side, favor_features, linear_attention, linear_attention_both_ways,
        linear_attention_step,
    },
    parameter::{Declared, Values, choice, int},
};

/// The past is a sum of features of constant size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    chunk: usize,
    // files from before there was a choice have none
    #[serde(default)]
    features: Features,
}

/// What queries and keys become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Features {
    #[default]
    Elu1,
    Relu,
    /// So many random features.
    Favor(usize),
}

impl Linear {
    /// Features of a head.
    fn features(&self, plan: &AttentionPlan) -> usize {
        match self.features {
            Features::Elu1 | Features::Relu => plan.depth,
            Features::Favor(m) => m,
        }
    }

    /// Multiply-adds that turn a query and a key of each head into features.
    fn projection_macs(&self, plan: &AttentionPlan) -> u64 {
        match self.features {
            Features::Elu1 | Features::Relu => 0,
            Features::Favor(m) => ((plan.heads + plan.kv_heads) * plan.depth * m) as u64,
        }
    }

    /// What the products are of, and the map that is left to them.
    fn mapped<B: Ops>(&self, q: Tensor<B, 4>, k: Tensor<B, 4>) -> (Tensor<B, 4>, Tensor<B, 4>, FeatureMap) {
        match self.features {
            Features::Elu1 => (q, k, FeatureMap::Elu1),
            Features::Relu => (q, k, FeatureMap::Relu),
            Features::Favor(m) => {
                let [b, n, h, _] = q.dims();
                counter::add_activity("linear_random_features", b * n * (h + k.dims()[2]) * m);
                let (q, k) = (favor_features(q, m, Side::Query), favor_features(k, m, Side::Key));
                (q, k, FeatureMap::Given)
            }
        }
    }
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
        let of = |values: &[i64]| {
            let values = values.iter().copied().map(Value::Int).collect();
            Domain::categorical(values).expect("not empty")
        };
        vec![
            int(
                "linear_chunk",
                "tokens trained at once between updates of the sum",
                1,
                4096,
                32,
            )
            .unit("tokens")
            .when("attention == 'linear'")
            .search(of(&[16, 32, 64])),
            choice(
                "linear_features",
                "what queries and keys become: elu + 1, relu and a little, or random features of the softmax (2009.14794)",
                &["elu1", "relu", "favor"],
            )
            .when("attention == 'linear'"),
            int(
                "linear_random_features",
                "random features of a head; more are nearer to the softmax",
                16,
                256,
                64,
            )
            .when("linear_features == 'favor'")
            .search(of(&[32, 64, 128, 256])),
        ]
    }

    fn read(values: Values) -> Self {
        Linear {
            chunk: values.int("linear_chunk"),
            features: match values.text("linear_features") {
                "relu" => Features::Relu,
                "favor" => Features::Favor(values.int("linear_random_features")),
                _ => Features::Elu1,
            },
        }
    }

    fn training_pass(&self, plan: &AttentionPlan, n: usize) -> Pass {
        let (h, g, d) = (plan.heads as u64, plan.kv_heads as u64, plan.depth as u64);
        let f = self.features(plan) as u64;
        let (n, chunk) = (n as u64, self.chunk.min(n) as u64);
        let (whole, rest) = (n / chunk, n % chunk);
        let pairs = whole * (chunk * (chunk + 1) / 2) + rest * (rest + 1) / 2;
        // the first chunk has nothing before it to read, the last one nothing after it to write for
        let last = if rest > 0 { rest } else { chunk };
        let (reading, writing) = (n - chunk, n - last);
        let projections = n * self.projection_macs(plan);
        Pass {
            forward: projections + h * pairs * (f + d) + f * d * (h * reading + g * writing),
            // three products of each width for each pair (one of each repeated from the forward pass); the state is
            // summed again, read for queries, summed backwards, and read for keys and for values
            backward: projections + 3 * h * pairs * (f + d) + f * d * (2 * h * reading + 3 * g * writing),
        }
    }

    fn backward_of_queries(&self, plan: &AttentionPlan, n: usize) -> u64 {
        match self.features {
            // queries are projected on their own
            Features::Favor(m) => (n * plan.heads * plan.depth * m) as u64,
            Features::Elu1 | Features::Relu => 0,
        }
    }

    fn decoding_macs(&self, plan: &AttentionPlan, _: usize) -> u64 {
        let sums = (plan.heads + plan.kv_heads) * self.features(plan) * plan.depth;
        self.projection_macs(plan) + sums as u64
    }

    fn prompt_macs(&self, plan: &AttentionPlan, n: usize) -> u64 {
        // token by token
        n as u64 * self.decoding_macs(plan, 0)
    }

    fn state_values(&self, plan: &AttentionPlan, _: usize) -> u64 {
        (plan.kv_heads * self.features(plan) * (plan.depth + 1)) as u64
    }

    fn whole<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        _: &[Tensor<B, 2>],
    ) -> Tensor<B, 4> {
        counter::add_activity("linear_attention_chunks", q.dims()[1].div_ceil(self.chunk));
        let (q, k, map) = self.mapped(q, k);
        linear_attention(q, k, v, map, self.chunk)
    }

    fn training_pass_both_ways(&self, plan: &AttentionPlan, n: usize) -> Pass {
        // the sum over all tokens is written once and read once; two products backwards for each of them
        let sums = ((plan.heads + plan.kv_heads) * self.features(plan) * plan.depth * n) as u64;
        let projections = n as u64 * self.projection_macs(plan);
        Pass {
            forward: projections + sums,
            backward: projections + 2 * sums,
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
        let (q, k, map) = self.mapped(q, k);
        linear_attention_both_ways(q, k, v, map, lengths)
    }

    fn state<B: Ops>(&self, plan: &AttentionPlan, batch: usize, _: usize, device: &B::Device) -> State<B> {
        // `Σ φ(k) vᵀ [b, g, f, d]` and `Σ φ(k) [b, g, 1, f]`
        let (g, f) = (plan.kv_heads, self.features(plan));
        State::new(vec![
            Tensor::zeros([batch, g, f, plan.depth], device),
            Tensor::zeros([batch, g, 1, f], device),
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
        let (q, k, map) = self.mapped(q, k);
        let [b, _, g, f] = k.dims();
        one_by_one([q, k, v], |[q, k, v]| {
            let past = (state.take(0), state.take(1).reshape([b, g, f]));
            let (o, (s, z)) = linear_attention_step(q, k, v, past, map);
            state.parts = vec![s, z.reshape([b, g, 1, f])];
            state.taken += 1;
            o
        })
    }
}

//! The Attention-Free Transformer (2105.14103): for each channel a mean of values, weighted by keys and by biases of
//! pairs of positions, and gated by the query. No query meets a key.

use burn::tensor::{Tensor, activation::sigmoid};
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use super::{About, Heads, Own, Place, Start, State, Variant};
use crate::{
    counter,
    model::{AttentionPlan, Pass},
    ops::{AftBias, Ops, aft, aft_add_to_sums, aft_mean_of_sums, aft_no_sums, aft_recall, write_rows},
    parameter::{Declared, Values, choice, int},
};

/// Standard deviation of the bias of a pair at the start, small enough that keys decide.
const BIAS_DEVIATION: f32 = 0.1;

/// Weighted means of values, gated by queries.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Aft {
    form: Form,
    window: usize,
    rank: usize,
}

/// Which pairs have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    /// All, from factors.
    Full,
    /// Near ones, from factors; those further apart take part with a bias of 0.
    Local,
    /// None.
    Simple,
    /// Near ones, by their distance and head.
    Conv,
}

impl Aft {
    fn bias(&self) -> AftBias {
        match self.form {
            Form::Full => AftBias::Full,
            Form::Local => AftBias::Local(self.window),
            Form::Simple => AftBias::None,
            Form::Conv => AftBias::Conv(self.window),
        }
    }

    /// Pairs with a bias, over a whole sequence.
    fn pairs(&self, n: usize) -> u64 {
        let ramp = self.bias().window().min(n);
        (ramp * (ramp + 1) / 2 + (n - ramp) * ramp) as u64
    }

    /// Components of the product that is a bias.
    fn factors(&self) -> u64 {
        match self.form {
            Form::Full | Form::Local => self.rank as u64,
            Form::Simple | Form::Conv => 0,
        }
    }

    /// Positions whose keys and values are remembered one by one.
    fn remembered(&self, capacity: usize) -> usize {
        self.bias().window().min(capacity)
    }

    /// Whether positions beyond those are remembered as sums.
    fn has_sums(&self) -> bool {
        self.form != Form::Full
    }
}

fn channels(plan: &AttentionPlan) -> u64 {
    (plan.heads * plan.depth) as u64
}

impl Variant for Aft {
    const ABOUT: About = About {
        name: "aft",
        doc: "a mean of values for each channel, weighted by keys and biases of positions, gated by the query",
        paper: "2105.14103",
    };

    const ACTIVITY: Option<&'static str> = Some("aft_positions");

    const ROTARY: bool = false;

    const OWN_KEYS: bool = true;

    fn parameters() -> Vec<ParameterInfo> {
        let ranks = Domain::categorical([8, 16, 32, 64].map(Value::Int).to_vec()).expect("not empty");
        vec![
            choice(
                "aft_variant",
                "which pairs of positions have a bias: all, near ones, none, or near ones by their distance",
                &["full", "local", "simple", "conv"],
            )
            .when("attention == 'aft'"),
            int(
                "aft_window",
                "positions that have a bias, the token itself included; older ones have none",
                1,
                128,
                32,
            )
            .unit("tokens")
            .when("aft_variant in ['local', 'conv']")
            .search(Domain::int(4, 128, true, 1).expect("not empty")),
            int("aft_rank", "components of the product that is a bias", 8, 128, 32)
                .when("aft_variant in ['full', 'local']")
                .search(ranks),
        ]
    }

    fn read(values: Values) -> Self {
        Aft {
            form: match values.text("aft_variant") {
                "local" => Form::Local,
                "simple" => Form::Simple,
                "conv" => Form::Conv,
                _ => Form::Full,
            },
            window: values.int("aft_window"),
            rank: values.int("aft_rank"),
        }
    }

    fn check(&self, context: usize) -> Result<(), String> {
        let window = self.window;
        match self.form {
            Form::Local if window >= context => Err(format!(
                "aft_window {window} is not below context {context}, so every pair would have a bias; use a smaller window or aft_variant = 'full'"
            )),
            Form::Conv if window > context => Err(format!(
                "aft_window {window} is above context {context}, so biases would never be used; use a window of at most {context}"
            )),
            _ => Ok(()),
        }
    }

    fn weights(&self, plan: &AttentionPlan, place: Place) -> Vec<Own> {
        let own = |name, shape, heads, deviation| Own {
            name,
            shape,
            heads,
            start: Start::Normal(deviation),
        };
        // a sum of `rank` products of two factors has this deviation
        let factor = (BIAS_DEVIATION / (self.rank as f32).sqrt()).sqrt();
        match self.form {
            Form::Full | Form::Local => ["aft_u", "aft_v"]
                .map(|name| own(name, [place.context, self.rank], Heads::None, factor))
                .to_vec(),
            Form::Simple => vec![],
            Form::Conv => vec![own(
                "aft_conv",
                [plan.heads, self.window],
                Heads::Rows,
                BIAS_DEVIATION,
            )],
        }
    }

    fn training_pass(&self, plan: &AttentionPlan, n: usize) -> Pass {
        let (pairs, channels, factors) = (self.pairs(n), channels(plan), self.factors());
        Pass {
            // the bias, then numerator and denominator
            forward: pairs * (factors + 2 * channels),
            // the bias again and its two factors; sums for keys and for values, and two products for the bias
            backward: pairs * (3 * factors + 4 * channels),
        }
    }

    fn decoding_macs(&self, plan: &AttentionPlan, position: usize) -> u64 {
        self.remembered(position + 1) as u64 * (self.factors() + 2 * channels(plan))
    }

    fn state_values(&self, plan: &AttentionPlan, capacity: usize) -> u64 {
        let sums = if self.has_sums() { 3 } else { 0 };
        (sums + 2 * self.remembered(capacity) as u64) * channels(plan)
    }

    fn whole<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        own: &[Tensor<B, 2>],
    ) -> Tensor<B, 4> {
        let [b, n, _, _] = q.dims();
        counter::add_activity("aft_positions", b * n);
        sigmoid(q) * aft(k, v, own, self.bias())
    }

    fn state<B: Ops>(
        &self,
        plan: &AttentionPlan,
        batch: usize,
        capacity: usize,
        device: &B::Device,
    ) -> State<B> {
        // keys and values of the latest positions `[b, rows, h, d]`, in a ring, and sums over older ones if there can
        // be any
        let (h, d) = (plan.heads, plan.depth);
        let empty = || Tensor::zeros([batch, self.remembered(capacity), h, d], device);
        let sums = self.has_sums().then(|| aft_no_sums([batch, h, d], device));
        State::new([empty(), empty()].into_iter().chain(sums).collect())
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
        if n > 1 && state.taken == 0 {
            self.take_in(&k, &v, state);
            return self.whole(q, k, v, own);
        }
        let outputs = (0..n).map(|i| {
            let [q, k, v] = [&q, &k, &v].map(|x| x.clone().narrow(1, i, 1));
            self.step(q, k, v, own, state)
        });
        Tensor::cat(outputs.collect(), 1)
    }
}

impl Aft {
    /// One token.
    fn step<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        own: &[Tensor<B, 2>],
        state: &mut State<B>,
    ) -> Tensor<B, 4> {
        let (now, rows) = (state.taken, state.parts[0].dims()[1]);
        state.taken += 1;
        if rows == 0 {
            state.replace(2, |sums| aft_add_to_sums(sums, k, v));
            return sigmoid(q) * aft_mean_of_sums(state.parts[2].clone());
        }
        let row = now % rows;
        if now >= rows {
            // the one that is written over
            let [old_k, old_v] = [0, 1].map(|part| state.parts[part].clone().narrow(1, row, 1));
            state.replace(2, |sums| aft_add_to_sums(sums, old_k, old_v));
        }
        state.replace(0, |ring| write_rows(ring, k, row));
        state.replace(1, |ring| write_rows(ring, v, row));
        let [k, v] = [0, 1].map(|part| state.parts[part].clone());
        sigmoid(q) * aft_recall([k, v], state.parts.get(2).cloned(), own, self.bias(), now)
    }

    /// Remembers the first tokens.
    fn take_in<B: Ops>(&self, k: &Tensor<B, 4>, v: &Tensor<B, 4>, state: &mut State<B>) {
        let n = k.dims()[1];
        let rows = state.parts[0].dims()[1];
        let older = n.saturating_sub(rows);
        if older > 0 {
            let (k, v) = (k.clone().narrow(1, 0, older), v.clone().narrow(1, 0, older));
            state.replace(2, |sums| aft_add_to_sums(sums, k, v));
        }
        if older == 0 {
            state.replace(0, |ring| write_rows(ring, k.clone(), 0));
            state.replace(1, |ring| write_rows(ring, v.clone(), 0));
            state.taken = n;
            return;
        }
        for i in older..n {
            for (part, x) in [(0, k), (1, v)] {
                let x = x.clone().narrow(1, i, 1);
                state.replace(part, |ring| write_rows(ring, x, i % rows));
            }
        }
        state.taken = n;
    }
}

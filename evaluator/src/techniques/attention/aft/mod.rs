//! The Attention-Free Transformer (2105.14103): for each channel a mean of values, weighted by keys and by biases of
//! pairs of positions, and gated by the query. No query meets a key.

mod decoding;
mod form;

use burn::tensor::{Tensor, activation::sigmoid};
use spaces::{Domain, ParameterInfo, Value};

pub(super) use self::form::Aft;
use self::form::Form;
use super::{About, Heads, Own, Place, Start, State, Variant, variant::one_by_one};
use crate::{
    counter,
    model::{AttentionPlan, Pass},
    ops::{Lengths, Ops, aft, aft_both_ways, aft_no_sums},
    parameter::{Declared, Values, choice, int},
};

/// Standard deviation of the bias of a pair at the start, small enough that keys decide.
const BIAS_DEVIATION: f32 = 0.1;

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

    // forms with biases would need pairs of later tokens too, and their kernel passes over positions once
    const BOTH_WAYS: Option<&'static str> = Some("aft with aft_variant = 'simple'");

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

    fn sees_both_ways(&self) -> bool {
        self.form == Form::Simple
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

    fn training_pass_both_ways(&self, _: &AttentionPlan, _: usize) -> Pass {
        // means without biases multiply no matrix
        Pass::default()
    }

    fn whole_both_ways<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        lengths: Option<&Lengths>,
    ) -> Tensor<B, 4> {
        let [b, n, _, _] = q.dims();
        counter::add_activity("aft_positions", b * n);
        sigmoid(q) * aft_both_ways(k, v, lengths)
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
        let rows = self.remembered(capacity);
        // a GPU cannot fill a tensor without elements
        let empty = || match rows {
            0 => Tensor::empty([batch, 0, h, d], device),
            _ => Tensor::zeros([batch, rows, h, d], device),
        };
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
        one_by_one([q, k, v], |[q, k, v]| self.step(q, k, v, own, state))
    }
}

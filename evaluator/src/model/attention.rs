//! Attention with its projections, and where tokens stand that look at each other.

use std::sync::{Arc, OnceLock};

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

use super::{
    Initial, Matrix, Part, Parts,
    cross::{Crossed, Source},
    join,
    plan::AttentionPlan,
};
use crate::{
    counter,
    ops::{Band, Lengths, Ops, attention_received, rope, tracks},
    techniques::{
        attention::{Core, Place, Start, State, as_remembered},
        quantization::cache::CacheForm,
    },
};

/// Projections around an attention core.
#[derive(Module, Debug)]
pub struct Attention<B: Backend> {
    /// `[heads * depth, width]`
    pub query: Matrix<B>,
    /// `[kv_heads * depth, width]`; `None` where queries and keys share one projection
    pub key: Option<Matrix<B>>,
    /// `[kv_heads * depth, width]`
    pub value: Matrix<B>,
    /// `[width, heads * depth]`
    pub output: Matrix<B>,
    /// Weights of the core's own, in the order of [`Core::weights`].
    pub own: Vec<Matrix<B>>,
    #[module(skip)]
    names: Vec<&'static str>,
    #[module(skip)]
    pub(super) core: Core,
    depth: usize,
    #[module(skip)]
    cache: Option<CacheForm>,
}

/// Where the tokens at hand stand, and which of them see each other.
#[derive(Clone)]
pub(crate) struct Angles<B: Backend> {
    /// Cosines and sines of their positions, `[n, depth / 2]`, or `[b * n, depth / 2]` where rows have positions of their own.
    pub(super) turns: (Tensor<B, 2>, Tensor<B, 2>),
    /// Which other tokens each one sees.
    pub(super) sight: Sight,
    /// What another half has read, where there is one and no state that remembers it.
    pub(super) source: Option<Source<B>>,
    /// Who wants to know what attention each token of a row is given.
    pub(super) asked: Option<Asked<B>>,
}

/// Receives the attention that tokens are given, `[b, n]`.
pub(super) type Asked<B> = Arc<OnceLock<Tensor<B, 2>>>;

/// Which other tokens a token sees.
#[derive(Clone)]
pub(crate) enum Sight {
    /// Earlier ones.
    Back,
    /// All of its row, of which so many are no padding.
    BothWays(Option<Lengths>),
}

impl Sight {
    /// How many tokens of each row are no padding, where that is known.
    pub(crate) fn lengths(&self) -> Option<&Lengths> {
        match self {
            Sight::Back => None,
            Sight::BothWays(lengths) => lengths.as_ref(),
        }
    }

    /// The same of rows of `n`.
    pub(super) fn band(&self, n: usize) -> Band {
        match self {
            Sight::Back => Band::causal(n),
            Sight::BothWays(lengths) => Band::whole(n, lengths.clone()),
        }
    }
}

impl<B: Ops> Attention<B> {
    pub(super) fn new(plan: &AttentionPlan, place: Place, initial: &mut Initial<B>) -> Self {
        let (core, width) = (&plan.core, place.width);
        let query = initial.matrix(plan.heads * plan.depth, width);
        let key = (!core.shares_keys()).then(|| initial.matrix(plan.kv_heads * plan.depth, width));
        let value = initial.matrix(plan.kv_heads * plan.depth, width);
        let output = initial.residual_matrix(width, plan.heads * plan.depth);
        let weights = core.weights(plan, place);
        Attention {
            query,
            key,
            value,
            output,
            names: weights.iter().map(|weight| weight.name).collect(),
            own: weights
                .into_iter()
                .map(|weight| match weight.start {
                    Start::Normal(deviation) => {
                        let [rows, columns] = weight.shape;
                        Matrix::dense(initial.normal(rows, columns, deviation))
                    }
                    Start::Values(values) => Matrix::dense(initial.given(values, weight.shape)),
                })
                .collect(),
            core: plan.core,
            depth: plan.depth,
            cache: plan.cache,
        }
    }

    /// A fresh attention.
    pub(crate) fn seeded(plan: &AttentionPlan, place: Place, device: &B::Device) -> Self {
        Attention::new(plan, place, &mut Initial::new(0, place.layers, device.clone()))
    }

    /// The core alone on projected queries, keys and values of whole sequences.
    pub(crate) fn core_alone(&self, q: Tensor<B, 4>, k: Tensor<B, 4>, v: Tensor<B, 4>) -> Tensor<B, 4> {
        let own: Vec<Tensor<B, 2>> = self.own.iter().filter_map(Matrix::as_dense).collect();
        self.core.whole(q, k, v, &own)
    }

    /// Whether what decoding remembers holds each token in a place of its own.
    pub(super) fn remembers_each_token(&self) -> bool {
        self.core.remembers_each_token()
    }

    /// `x [b, n, width]` through a projection to heads, `[b, n, heads, depth]`.
    fn heads(&self, matrix: &Matrix<B>, x: Tensor<B, 3>) -> Tensor<B, 4> {
        let [b, n, _] = x.dims();
        matrix
            .apply(x)
            .reshape([b as i32, n as i32, -1, self.depth as i32])
    }

    /// Keys and values of a sequence `x [b, n, width]` without its positions: for [`Attention::across`] they are those of another
    /// one.
    pub(super) fn keys_and_values(&self, x: Tensor<B, 3>) -> [Tensor<B, 4>; 2] {
        let key = self.key.as_ref().unwrap_or(&self.query);
        [self.heads(key, x.clone()), self.heads(&self.value, x)]
    }

    /// `x [b, n, width]` to its attention output over another sequence.
    pub(super) fn across(&self, x: Tensor<B, 3>, over: &Crossed<B>) -> Tensor<B, 3> {
        let [b, n, _] = x.dims();
        let q = self.heads(&self.query, x);
        let [k, v] = over.keys_and_values.clone();
        let goes_back = [&q, &k, &v].into_iter().any(tracks);
        let attend = || self.core.over_another(q, k, v, over.lengths.as_ref());
        let o = counter::back_where(goes_back, attend);
        self.output.apply(o.reshape([b as i32, n as i32, -1]))
    }

    /// The values of whole sequences `x [b, n, width]`, `[b, n, kv_heads, depth]`.
    pub(super) fn values(&self, x: Tensor<B, 3>) -> Tensor<B, 4> {
        let own: Vec<Tensor<B, 2>> = self.own.iter().filter_map(Matrix::as_dense).collect();
        let [_, _, for_value] = self.core.inputs(x, &own, None);
        self.heads(&self.value, for_value)
    }

    /// Queries `[b, n, heads, depth]` and keys `[b, n, kv_heads, depth]` as the core is given them, of what they are projected
    /// from, `[b, n, width]` each.
    pub(super) fn queries_and_keys(
        &self,
        [for_query, for_key]: [Tensor<B, 3>; 2],
        turns: &(Tensor<B, 2>, Tensor<B, 2>),
    ) -> [Tensor<B, 4>; 2] {
        let q = self.turned(self.heads(&self.query, for_query), turns);
        let k = match &self.key {
            Some(key) => self.turned(self.heads(key, for_key), turns),
            None => q.clone(),
        };
        [q, k]
    }

    /// Queries or keys `x [b, n, h, d]` turned by their positions, where the core wants them so.
    fn turned(&self, x: Tensor<B, 4>, turns: &(Tensor<B, 2>, Tensor<B, 2>)) -> Tensor<B, 4> {
        if !self.core.is_rotary() {
            return x;
        }
        let [b, n, heads, depth] = x.dims();
        if turns.0.dims()[0] == n {
            return rope(x, turns.clone());
        }
        let rows = x.reshape([1, b * n, heads, depth]);
        rope(rows, turns.clone()).reshape([b, n, heads, depth])
    }

    /// Has a state remember the next token, `x [b, 1, width]`, which looks at nothing itself.
    pub(super) fn append(&self, x: Tensor<B, 3>, angles: &Angles<B>, state: &mut State<B>) {
        let [k, v] = self.keys_and_values(x);
        self.core.append(self.turned(k, &angles.turns), v, state);
    }

    /// `x [b, n, width]` to its attention output; with a state, `x` continues what the state remembers.
    pub(super) fn forward(
        &self,
        x: Tensor<B, 3>,
        angles: Angles<B>,
        state: Option<&mut State<B>>,
    ) -> Tensor<B, 3> {
        let [b, n, _] = x.dims();
        let own: Vec<Tensor<B, 2>> = self.own.iter().filter_map(Matrix::as_dense).collect();
        let (mut state, core) = (state, &self.core);
        let [for_query, for_key, for_value] = core.inputs(x, &own, state.as_deref_mut());
        let [q, k] = self.queries_and_keys([for_query, for_key], &angles.turns);
        let v = self.heads(&self.value, for_value);
        if let Some(asked) = &angles.asked
            && let Some(band) = core.band(angles.sight.band(n))
        {
            let received = attention_received(q.clone(), k.clone(), band);
            asked.set(received).expect("each layer is asked anew");
        }
        let goes_back = [&q, &k, &v].into_iter().any(tracks);
        let attend = || match (state, &angles.sight) {
            (Some(state), _) => core.extend(q, k, v, &own, state),
            (None, Sight::Back) => {
                let [k, v] = match self.cache {
                    Some(form) => [k, v].map(|x| as_remembered(x, form.bits)),
                    None => [k, v],
                };
                core.whole(q, k, v, &own)
            }
            (None, Sight::BothWays(lengths)) => core.whole_both_ways(q, k, v, lengths.as_ref()),
        };
        let o = counter::back_where(goes_back, attend);
        self.output.apply(o.reshape([b as i32, n as i32, -1]))
    }
}

impl<B: Backend> Parts<B> for Attention<B> {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, B>)) {
        visitor(&join(path, "q_proj"), Part::Matrix(&mut self.query));
        if let Some(key) = &mut self.key {
            visitor(&join(path, "k_proj"), Part::Matrix(key));
        }
        visitor(&join(path, "v_proj"), Part::Matrix(&mut self.value));
        visitor(&join(path, "o_proj"), Part::Matrix(&mut self.output));
        for (name, own) in self.names.iter().zip(&mut self.own) {
            visitor(&join(path, name), Part::Small(own));
        }
    }
}

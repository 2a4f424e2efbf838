//! One block: attention and feed-forward, each on the normalised residual stream.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::{
    Initial, Matrix, NORM_EPSILON, Part, Parts,
    cross::{Cross, Crossed, Source},
    join,
    plan::{AttentionPlan, LayerPlan},
};
use crate::{
    counter,
    ops::{Band, Lengths, Ops, rms_norm, rope, tracks},
    techniques::{
        attention::{Core, Place, Start, State, as_remembered},
        feed_forward::{FeedForward, Last},
        fine_tuning::adapter::Adapters,
        pruning::Watched,
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
    core: Core,
    depth: usize,
    #[module(skip)]
    cache: Option<CacheForm>,
}

/// One block.
#[derive(Module, Debug)]
pub struct Block<B: Backend> {
    pub(super) attention_norm: Param<Tensor<B, 1>>,
    /// The attention.
    pub attention: Attention<B>,
    /// The attention to what another half has read, where there is one.
    pub cross: Option<Cross<B>>,
    pub(super) feed_forward_norm: Param<Tensor<B, 1>>,
    /// The feed-forward part.
    pub feed_forward: FeedForward<B>,
    /// Small networks beside or behind both parts, where a base was adapted by them.
    pub adapters: Option<Adapters<B>>,
    /// What is seen of the stream around it, while somebody wants to know.
    #[module(skip)]
    pub(crate) watched: Option<Watched>,
}

/// What decoding remembers of the tokens that one block has seen.
#[derive(Clone, Debug)]
pub(crate) struct BlockState<B: Backend> {
    /// Of the attention.
    pub(super) attention: State<B>,
    /// Keys and values of what another half has read.
    pub(super) crossed: Option<Crossed<B>>,
    /// Of the feed-forward part.
    pub(super) feed_forward: Last<B>,
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
}

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
    fn band(&self, n: usize) -> Band {
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

    /// Keys and values of another sequence `x [b, n, width]`, for [`Attention::across`].
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
    fn values(&self, x: Tensor<B, 3>) -> Tensor<B, 4> {
        let own: Vec<Tensor<B, 2>> = self.own.iter().filter_map(Matrix::as_dense).collect();
        let [_, _, for_value] = self.core.inputs(x, &own, None);
        self.heads(&self.value, for_value)
    }

    /// Queries `[b, n, heads, depth]` and keys `[b, n, kv_heads, depth]` as the core is given them, of what they are projected
    /// from, `[b, n, width]` each.
    fn queries_and_keys(
        &self,
        [for_query, for_key]: [Tensor<B, 3>; 2],
        turns: &(Tensor<B, 2>, Tensor<B, 2>),
    ) -> [Tensor<B, 4>; 2] {
        let turn = |x: Tensor<B, 4>| {
            if !self.core.is_rotary() {
                return x;
            }
            let [b, n, heads, depth] = x.dims();
            if turns.0.dims()[0] == n {
                return rope(x, turns.clone());
            }
            let rows = x.reshape([1, b * n, heads, depth]);
            rope(rows, turns.clone()).reshape([b, n, heads, depth])
        };
        let q = turn(self.heads(&self.query, for_query));
        let k = match &self.key {
            Some(key) => turn(self.heads(key, for_key)),
            None => q.clone(),
        };
        [q, k]
    }

    /// `x [b, n, width]` to its attention output; with a state, `x` continues what the state remembers.
    fn forward(&self, x: Tensor<B, 3>, angles: Angles<B>, state: Option<&mut State<B>>) -> Tensor<B, 3> {
        let [b, n, _] = x.dims();
        let own: Vec<Tensor<B, 2>> = self.own.iter().filter_map(Matrix::as_dense).collect();
        let (mut state, core) = (state, &self.core);
        let [for_query, for_key, for_value] = core.inputs(x, &own, state.as_deref_mut());
        let [q, k] = self.queries_and_keys([for_query, for_key], &angles.turns);
        let v = self.heads(&self.value, for_value);
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

impl<B: Ops> Block<B> {
    pub(super) fn new(plan: &LayerPlan, place: Place, initial: &mut Initial<B>) -> Self {
        let width = place.width;
        Block {
            attention_norm: initial.ones(width),
            attention: Attention::new(&plan.attention, place, initial),
            cross: plan.cross.as_ref().map(|plan| Cross::new(plan, place, initial)),
            feed_forward_norm: initial.ones(width),
            feed_forward: FeedForward::new(&plan.feed_forward, place, initial),
            adapters: plan.adapters.map(|plan| Adapters::new(plan, width, initial)),
            watched: None,
        }
    }

    /// The residual stream after this block, and the auxiliary loss of its router if it has one.
    pub(super) fn forward(
        &self,
        x: Tensor<B, 3>,
        angles: Angles<B>,
        state: Option<&mut BlockState<B>>,
    ) -> (Tensor<B, 3>, Option<Tensor<B, 1>>) {
        let (state, before, crossed) = match state {
            Some(BlockState {
                attention,
                feed_forward,
                crossed,
            }) => (Some(attention), Some(feed_forward), crossed.as_ref()),
            None => (None, None, None),
        };
        let (source, sight) = (angles.source.clone(), angles.sight.clone());
        let mut x = x.clone() + self.attended(x, angles, state);
        if let Some(cross) = &self.cross {
            let looked_at = source.map(|source| cross.look_at(source));
            let over = crossed
                .or(looked_at.as_ref())
                .expect("a half that writes is given what was read");
            x = x.clone() + cross.attended(x, over);
        }
        let (y, auxiliary) = self.fed(x.clone(), before, sight.lengths());
        (x + y, auxiliary)
    }

    /// What the attention adds, for the stream `x [b, n, width]`.
    pub(crate) fn attended(
        &self,
        x: Tensor<B, 3>,
        angles: Angles<B>,
        state: Option<&mut State<B>>,
    ) -> Tensor<B, 3> {
        let normal = rms_norm(x, self.attention_norm.val(), NORM_EPSILON as f32);
        let y = self.attention.forward(normal, angles, state);
        match &self.adapters {
            Some(adapters) => adapters.after_attention(y),
            None => y,
        }
    }

    /// The values that the attention has of the stream `x [b, n, width]`, `[b, n, kv_heads, depth]`.
    pub(crate) fn values(&self, x: Tensor<B, 3>) -> Tensor<B, 4> {
        let normal = rms_norm(x, self.attention_norm.val(), NORM_EPSILON as f32);
        self.attention.values(normal)
    }

    /// What the attention's softmax is of, for the stream `x [b, n, width]`: queries `[b, n, heads, depth]`, keys
    /// `[b, n, kv_heads, depth]`, and which of them see each other. `None` where there is no softmax.
    pub(crate) fn looks(&self, x: Tensor<B, 3>, angles: &Angles<B>) -> Option<([Tensor<B, 4>; 2], Band)> {
        let attention = &self.attention;
        let band = attention.core.band(angles.sight.band(x.dims()[1]))?;
        let normal = rms_norm(x, self.attention_norm.val(), NORM_EPSILON as f32);
        // no core of this form has weights that change what it is given
        let projected = [normal.clone(), normal];
        Some((attention.queries_and_keys(projected, &angles.turns), band))
    }

    /// What the feed-forward part adds, for the stream `x [b, n, width]` of rows of these lengths, and its auxiliary loss.
    pub(crate) fn fed(
        &self,
        x: Tensor<B, 3>,
        before: Option<&mut Last<B>>,
        lengths: Option<&Lengths>,
    ) -> (Tensor<B, 3>, Option<Tensor<B, 1>>) {
        let normal = rms_norm(x, self.feed_forward_norm.val(), NORM_EPSILON as f32);
        self.fed_normal(normal, before, lengths)
    }

    /// [`Block::fed`] of all rows but the first `seen`, which are only looked back at.
    pub(crate) fn fed_after(
        &self,
        x: Tensor<B, 3>,
        seen: usize,
        lengths: Option<&Lengths>,
    ) -> (Tensor<B, 3>, Option<Tensor<B, 1>>) {
        if seen == 0 {
            return self.fed(x, None, lengths);
        }
        let [b, n, width] = x.dims();
        let normal = rms_norm(x, self.feed_forward_norm.val(), NORM_EPSILON as f32);
        let mut before = Some(normal.clone().slice([0..b, seen - 1..seen, 0..width]));
        let rest = normal.slice([0..b, seen..n, 0..width]);
        self.fed_normal(rest, Some(&mut before), lengths)
    }

    /// The feed-forward part and its adapter on the normalised stream.
    fn fed_normal(
        &self,
        normal: Tensor<B, 3>,
        before: Option<&mut Last<B>>,
        lengths: Option<&Lengths>,
    ) -> (Tensor<B, 3>, Option<Tensor<B, 1>>) {
        let goes_back = tracks(&normal);
        let beside = self.adapters.as_ref().map(|adapters| (adapters, normal.clone()));
        let feed = || self.feed_forward.forward(normal, before, lengths);
        let (y, auxiliary) = counter::back_where(goes_back, feed);
        match beside {
            Some((adapters, normal)) => (adapters.after_feed_forward(normal, y), auxiliary),
            None => (y, auxiliary),
        }
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

impl<B: Backend> Parts<B> for Block<B> {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, B>)) {
        visitor(
            &join(path, "input_layernorm"),
            Part::Vector(&mut self.attention_norm),
        );
        self.attention.each_part(&join(path, "self_attn"), visitor);
        if let Some(cross) = &mut self.cross {
            cross.each_part(path, visitor);
        }
        visitor(
            &join(path, "post_attention_layernorm"),
            Part::Vector(&mut self.feed_forward_norm),
        );
        self.feed_forward.each_part(path, visitor);
        if let Some(adapters) = &mut self.adapters {
            adapters.each_part(path, visitor);
        }
    }
}

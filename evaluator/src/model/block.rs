//! One block: attention and feed-forward, each on the normalised residual stream.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::{
    Attention, Initial, NORM_EPSILON, Part, Parts,
    attention::Angles,
    cross::{Cross, Crossed},
    join,
    plan::LayerPlan,
};
use crate::{
    counter,
    ops::{Band, Lengths, Ops, rms_norm, tracks},
    techniques::{
        attention::{Place, State},
        feed_forward::{FeedForward, Last},
        fine_tuning::adapter::Adapters,
        pruning::Watched,
    },
};

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

    /// Has the attention remember the next token, of which it is given the stream `x [b, 1, width]` and which goes no further.
    pub(super) fn append(&self, x: Tensor<B, 3>, angles: &Angles<B>, state: &mut BlockState<B>) {
        let normal = rms_norm(x, self.attention_norm.val(), NORM_EPSILON as f32);
        self.attention.append(normal, angles, &mut state.attention);
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

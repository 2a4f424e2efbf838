//! The part of a block that looks at what another half of the model has read, between attention and feed-forward part.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::{Attention, AttentionPlan, Initial, NORM_EPSILON, Part, Parts, join};
use crate::{
    ops::{Lengths, Ops, rms_norm},
    techniques::attention::Place,
};

/// A norm and an attention over another sequence.
#[derive(Module, Debug)]
pub struct Cross<B: Backend> {
    pub(super) norm: Param<Tensor<B, 1>>,
    /// Queries from the stream, keys and values from what was read.
    pub attention: Attention<B>,
}

/// What a half of the model has read.
#[derive(Clone, Debug)]
pub(crate) struct Source<B: Backend> {
    /// Its normalised outputs, `[rows, n, width]`.
    pub(super) x: Tensor<B, 3>,
    /// How many of each row are no padding, where there is padding.
    pub(super) lengths: Option<Lengths>,
}

/// Keys and values of a [`Source`], computed once for all that is written from it.
#[derive(Clone, Debug)]
pub(crate) struct Crossed<B: Backend> {
    /// `[rows, n, kv_heads, depth]` each
    pub(super) keys_and_values: [Tensor<B, 4>; 2],
    pub(super) lengths: Option<Lengths>,
}

impl<B: Ops> Cross<B> {
    pub(super) fn new(plan: &AttentionPlan, place: Place, initial: &mut Initial<B>) -> Self {
        Cross {
            norm: initial.ones(place.width),
            attention: Attention::new(plan, place, initial),
        }
    }

    /// Keys and values of what was read.
    pub(super) fn look_at(&self, source: Source<B>) -> Crossed<B> {
        Crossed {
            keys_and_values: self.attention.keys_and_values(source.x),
            lengths: source.lengths,
        }
    }

    /// What is added to the stream `x [rows, n, width]`.
    pub(super) fn attended(&self, x: Tensor<B, 3>, over: &Crossed<B>) -> Tensor<B, 3> {
        let normal = rms_norm(x, self.norm.val(), NORM_EPSILON as f32);
        self.attention.across(normal, over)
    }
}

impl<B: Backend> Parts<B> for Cross<B> {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, B>)) {
        visitor(
            &join(path, "encoder_attn_layer_norm"),
            Part::Vector(&mut self.norm),
        );
        self.attention.each_part(&join(path, "encoder_attn"), visitor);
    }
}

//! The decoder language model: RMSNorm, rotary positions, gated feed-forward, tied head.

mod block;
mod cost;
mod decoder;
mod initial;
mod matrix;
mod parts;
mod plan;
mod reversible;

pub(crate) use self::{
    block::Angles,
    cost::{Form, matrix_pass},
    reversible::{Stream, rounded},
};
pub use self::{
    block::{Attention, Block},
    cost::{Pass, Trainable},
    decoder::{Decoder, Forward, Memory},
    initial::Initial,
    matrix::{Dense, Matrix},
    parts::{Part, Parts, TensorMut, each_tensor, join, make_trainable},
    plan::{AttentionPlan, LayerPlan, ModelPlan, NORM_EPSILON, Projection, ROPE_THETA},
};

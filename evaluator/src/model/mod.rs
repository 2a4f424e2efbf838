//! Models of several kinds from the same blocks: RMSNorm, rotary positions, attention, feed-forward.

mod block;
mod cost;
mod cross;
mod halves;
mod initial;
mod inputs;
pub(crate) mod kinds;
mod matrix;
mod parts;
mod plan;
mod reversible;
mod trainable;
mod whole;

pub(crate) use self::{
    block::Angles,
    reversible::{Stream, rounded},
    trainable::{Form, matrix_pass},
    whole::Entered,
};
pub use self::{
    block::{Attention, Block},
    cost::Pass,
    cross::Cross,
    initial::Initial,
    inputs::Inputs,
    kinds::{Kind, KindWeight},
    matrix::{Dense, Matrix},
    parts::{Part, Parts, TensorMut, each_tensor, join, make_trainable},
    plan::{AttentionPlan, LayerPlan, ModelPlan, NORM_EPSILON, Projection, ROPE_THETA},
    trainable::Trainable,
    whole::{Forward, Memory, Model},
};

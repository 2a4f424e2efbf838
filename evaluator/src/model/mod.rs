//! Models of several kinds from the same blocks: RMSNorm, rotary positions, attention, feed-forward.

mod attention;
mod block;
mod block_matrices;
mod cost;
mod cross;
mod exit_cost;
mod exits;
mod halves;
mod initial;
mod inputs;
mod integer;
pub(crate) mod kinds;
mod matrix;
mod parts;
mod plan;
mod reversible;
mod rollback;
mod rotate;
mod tokens;
mod trainable;
mod whole;

pub(crate) use self::{
    attention::Angles,
    block_matrices::{BlockMatrix, is_block_matrix, layer_of},
    halves::both,
    integer::ACTIVITY as INTEGER_ONLY_ACTIVITY,
    reversible::{Stream, rounded},
    rotate::Basis,
    trainable::{Form, matrix_pass},
    whole::Entered,
};
pub use self::{
    attention::Attention,
    block::Block,
    cost::Pass,
    cross::Cross,
    exits::Exited,
    initial::Initial,
    inputs::Inputs,
    integer::{BlockSteps, Integer, Steps},
    kinds::{Kind, KindWeight},
    matrix::{Dense, Matrix},
    parts::{Part, Parts, TensorMut, each_tensor, join, make_trainable},
    plan::{AttentionPlan, LayerPlan, ModelPlan, NORM_EPSILON, Projection, ROPE_THETA},
    trainable::Trainable,
    whole::{Forward, Memory, Model},
};

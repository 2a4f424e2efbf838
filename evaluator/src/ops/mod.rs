//! Operations that burn lacks or decomposes: each with its own backward pass and its count of executed work.
//!
//! One file per operation, or a folder where it is long. It holds the trait with a reference body in plain tensor
//! operations (used as it stands on a GPU), the CPU kernel, the autodiff rule, and a test of the kernel against the
//! reference.

/// Hands each gradient to the parent that wants it. A macro, because burn's type of parents has no public name.
macro_rules! pass_on {
    ($backend:ident, $parents:expr, $gradients:expr, $all:expr) => {
        for (parent, gradient) in $parents.into_iter().zip($gradients) {
            if let Some(parent) = parent {
                $all.register::<$backend>(parent.id, gradient);
            }
        }
    };
}

mod adamw;
mod aft;
mod attention;
mod cache;
mod chosen_neurons;
mod cross_entropy;
#[cfg(feature = "cuda")]
mod cuda;
mod embedding;
mod favor;
mod heads;
pub mod integer;
mod kde;
mod lengths;
mod linear;
mod linear_attention;
mod lsh;
mod norm;
mod packed_cache;
mod packed_linear;
mod precision;
mod rms_norm;
mod rope;
mod simd;
mod sparse_linear;
mod swiglu;
mod tile;
mod wkv;

use burn::{
    backend::flex::FlexTensor,
    tensor::{Tensor, TensorData, TensorPrimitive, backend::Backend, ops::FloatTensor},
};

pub use self::{
    adamw::{AdamWOp, AdamWStep, AdamWUpdate, adamw},
    aft::{AftBias, AftOp, aft, aft_add_to_sums, aft_both_ways, aft_mean_of_sums, aft_no_sums, aft_recall},
    attention::{
        AttentionOp, AttentionReceivedOp, Band, TiledAttentionOp, Tiles, attention, attention_received,
        tiled_attention,
    },
    cache::{CacheOp, write_rows},
    chosen_neurons::{ChosenNeuronsOp, NeuronRows, chosen_neurons},
    cross_entropy::{CrossEntropyOp, cross_entropy},
    embedding::{EmbeddingOp, embedding},
    favor::{FavorOp, Side, favor_features},
    kde::{KdeBlocks, KdeBothWays, KdeBothWaysOp, KdeOp, kde_attention, kde_both_ways, kde_draw},
    lengths::Lengths,
    linear::{LinearOp, linear, matmul, tracks},
    linear_attention::{
        FeatureMap, LinearAttentionOp, linear_attention, linear_attention_both_ways, linear_attention_step,
    },
    lsh::{Hashing, LshOp, lsh_attention, lsh_attention_step, lsh_places, unit_length},
    norm::{NormOp, total_norm},
    packed_cache::{PackedCacheOp, PackedRows, packed_attention, row_bytes},
    packed_linear::{
        Levels, PackedLinearOp, PackedMatrixParts, packed_linear, streams, unpack_rows, words_per_row,
    },
    precision::{Precision, set_precision},
    rms_norm::{RmsNormOp, rms_norm},
    rope::{RopeOp, rope, rope_tables},
    sparse_linear::{
        COLUMNS_PER_WORD, CodeParts, NonzeroParts, SparseLayout, SparseLinearOp, SparseMatrixParts,
        sparse_linear, with_zeros,
    },
    swiglu::{SwigluOp, swiglu},
    wkv::{WkvOp, WkvState, empty_state, wkv, wkv_extend},
};
pub(crate) use self::{
    attention::{outside, spread},
    chosen_neurons::largest,
};

/// Everything a model needs of a backend.
pub trait Ops:
    Backend
    + AdamWOp
    + AftOp
    + AttentionOp
    + AttentionReceivedOp
    + CacheOp
    + ChosenNeuronsOp
    + CrossEntropyOp
    + EmbeddingOp
    + FavorOp
    + KdeBothWaysOp
    + KdeOp
    + LinearAttentionOp
    + LinearOp
    + LshOp
    + NormOp
    + PackedCacheOp
    + PackedLinearOp
    + RmsNormOp
    + RopeOp
    + SparseLinearOp
    + SwigluOp
    + TiledAttentionOp
    + WkvOp
{
}

impl<B> Ops for B where
    B: Backend
        + AdamWOp
        + AftOp
        + AttentionOp
        + AttentionReceivedOp
        + CacheOp
        + ChosenNeuronsOp
        + CrossEntropyOp
        + EmbeddingOp
        + FavorOp
        + KdeBothWaysOp
        + KdeOp
        + LinearAttentionOp
        + LinearOp
        + LshOp
        + NormOp
        + PackedCacheOp
        + PackedLinearOp
        + RmsNormOp
        + RopeOp
        + SparseLinearOp
        + SwigluOp
        + TiledAttentionOp
        + WkvOp
{
}

fn wrap<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn unwrap<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// The tensor with its elements in row-major order; free where they are already.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// The elements of a contiguous CPU tensor.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("a contiguous f32 tensor")
}

/// The elements of a CPU tensor to write over: in its own memory where nobody else reads it, else copied.
fn into_values(tensor: FlexTensor) -> Vec<f32> {
    let tensor = contiguous(tensor);
    if tensor.is_unique() {
        tensor.into_data().into_vec().expect("an f32 tensor")
    } else {
        values(&tensor).to_vec()
    }
}

fn cpu_tensor(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.to_vec()))
}

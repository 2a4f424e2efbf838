//! A weight matrix in one of its forms.

use burn::{
    module::{Module, Param},
    tensor::{Int, Tensor, backend::Backend},
};

use super::{Form, Integer, Pass, matrix_pass};
use crate::{
    ops::{Ops, embedding, linear},
    techniques::{
        calibration::Tapped,
        fine_tuning::{ia3::Scaled, lora::LowRank},
        quantization::{int8_outlier::Mixed, packed::Packed},
        sparsity::sparse::Sparse,
    },
};

/// A matrix `[out, in]`: dense, packed to few bits, stored as its nonzeros, or frozen with something trained beside it.
#[derive(Module, Debug)]
pub enum Matrix<B: Backend> {
    /// 32-bit weights.
    Dense(Dense<B>),
    /// Frozen weights and a trained low-rank addition.
    LowRank(LowRank<B>),
    /// Frozen weights and a trained vector that multiplies their rows or columns.
    Scaled(Scaled<B>),
    /// Packed weights, for serving and below additions.
    Packed(Packed<B>),
    /// Packed weights of which a few columns are floats, for serving.
    Mixed(Mixed<B>),
    /// Weights of a model in whole numbers, for serving.
    Integer(Integer<B>),
    /// Weights stored as their nonzeros, in floats or in few bits, for serving.
    Sparse(Sparse<B>),
    /// Dense or sparse weights that remember what they are given, for calibration.
    Tapped(Tapped<B>),
}

/// 32-bit weights `[out, in]`.
#[derive(Module, Debug)]
pub struct Dense<B: Backend> {
    /// The weights.
    pub weight: Param<Tensor<B, 2>>,
}

impl<B: Backend> Matrix<B> {
    /// Wraps weights `[out, in]`.
    pub fn dense(weight: Tensor<B, 2>) -> Self {
        Matrix::Dense(Dense {
            weight: Param::from_tensor(weight),
        })
    }

    /// The 32-bit weights `[out, in]`, if that is the form.
    pub fn as_dense(&self) -> Option<Tensor<B, 2>> {
        match self {
            Matrix::Dense(dense) => Some(dense.weight.val()),
            Matrix::Tapped(tapped) => tapped.as_dense(),
            _ => None,
        }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Matrix::Dense(dense) => dense.weight.dims(),
            Matrix::Tapped(tapped) => tapped.dims(),
            Matrix::LowRank(low_rank) => low_rank.dims(),
            Matrix::Scaled(scaled) => scaled.weight.dims(),
            Matrix::Packed(packed) => packed.dims(),
            Matrix::Mixed(mixed) => mixed.dims(),
            Matrix::Integer(integer) => integer.dims(),
            Matrix::Sparse(sparse) => sparse.dims(),
        }
    }

    /// Weights that are stored: all, or those that are not left out as zeros.
    pub fn weights(&self) -> usize {
        match self {
            Matrix::Sparse(sparse) => sparse.nonzeros(),
            _ => self.dims().iter().product(),
        }
    }

    /// Multiply-adds of one row in a training, where the input wants a gradient.
    pub(crate) fn row_pass(&self) -> Pass {
        let [out, input] = self.dims();
        let form = match self {
            Matrix::Dense(dense) if dense.weight.val().is_require_grad() => Form::Trained,
            Matrix::Dense(_)
            | Matrix::Scaled(_)
            | Matrix::Packed(_)
            | Matrix::Mixed(_)
            | Matrix::Integer(_)
            | Matrix::Sparse(_)
            | Matrix::Tapped(_) => Form::Frozen,
            Matrix::LowRank(low_rank) => Form::LowRank(low_rank.a.dims()[0] as u64),
        };
        matrix_pass(1, input as u64, out as u64, true, form)
    }
}

impl<B: Ops> Matrix<B> {
    /// `x wᵀ` for `x: [.., in]`.
    ///
    /// # Panics
    /// If it is one of a model in whole numbers, which no tensor of floats enters.
    pub fn apply<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            Matrix::Dense(dense) => linear(x, dense.weight.val()),
            Matrix::LowRank(low_rank) => low_rank.apply(x),
            Matrix::Scaled(scaled) => scaled.apply(x),
            Matrix::Packed(packed) => packed.apply(x),
            Matrix::Mixed(mixed) => mixed.apply(x),
            Matrix::Integer(_) => unreachable!("a model in whole numbers multiplies by itself"),
            Matrix::Sparse(sparse) => sparse.apply(x),
            Matrix::Tapped(tapped) => tapped.apply(x),
        }
    }

    /// The rows of the given numbers, `[n, in]`.
    ///
    /// # Panics
    /// If something is trained beside the weights, or some columns are floats: tables are never among these; and as
    /// [`Matrix::apply`].
    pub fn rows(&self, ids: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        match self {
            Matrix::Dense(dense) => embedding(dense.weight.val(), ids),
            Matrix::Packed(packed) => packed.rows(ids),
            Matrix::Sparse(sparse) => embedding(sparse.with_zeros(), ids),
            Matrix::Tapped(tapped) => tapped.rows(ids),
            Matrix::LowRank(_) | Matrix::Scaled(_) | Matrix::Mixed(_) => {
                unreachable!("a table has no addition, and no inputs to judge")
            }
            Matrix::Integer(_) => unreachable!("a model in whole numbers looks up by itself"),
        }
    }
}

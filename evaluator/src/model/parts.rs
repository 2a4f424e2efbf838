//! Walking a model's weights under the names that Hugging Face's tools use.

use burn::{
    module::Param,
    tensor::{Tensor, backend::Backend},
};

use super::Matrix;
use crate::techniques::fine_tuning::lora::Base;

/// One named weight.
pub enum Part<'a, B: Backend> {
    /// A matrix that multiplies activations.
    Matrix(&'a mut Matrix<B>),
    /// A small matrix that others hang on, a router or a table of positions, and so is never compressed.
    Small(&'a mut Matrix<B>),
    /// The scale of a norm, or a bias.
    Vector(&'a mut Param<Tensor<B, 1>>),
}

/// Something that holds named weights.
pub trait Parts<B: Backend> {
    /// Visits every weight once, in a fixed order, with its path (without the final `.weight`).
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, B>));
}

/// A tensor that may be trained.
pub enum TensorMut<'a, B: Backend> {
    /// A matrix.
    Matrix(&'a mut Param<Tensor<B, 2>>),
    /// A vector, which weight decay leaves alone.
    Vector(&'a mut Param<Tensor<B, 1>>),
}

impl<B: Backend> TensorMut<'_, B> {
    /// Its number of elements.
    pub(crate) fn elements(&self) -> usize {
        match self {
            TensorMut::Matrix(param) => param.dims().iter().product(),
            TensorMut::Vector(param) => param.dims()[0],
        }
    }
}

/// Visits every 32-bit tensor once, in a fixed order, with its full name; packed and sparse matrices are left out.
pub fn each_tensor<B: Backend>(model: &mut impl Parts<B>, visitor: &mut dyn FnMut(String, TensorMut<'_, B>)) {
    model.each_part("", &mut |path, part| match part {
        Part::Matrix(matrix) | Part::Small(matrix) => match matrix {
            Matrix::Dense(dense) => visitor(join(path, "weight"), TensorMut::Matrix(&mut dense.weight)),
            Matrix::LowRank(low_rank) => {
                if let Base::Dense(dense) = &mut low_rank.base {
                    visitor(join(path, "weight"), TensorMut::Matrix(&mut dense.weight));
                }
                visitor(join(path, "lora_a"), TensorMut::Matrix(&mut low_rank.a));
                visitor(join(path, "lora_b"), TensorMut::Matrix(&mut low_rank.b));
            }
            Matrix::Scaled(scaled) => {
                visitor(join(path, "weight"), TensorMut::Matrix(&mut scaled.weight));
                visitor(join(path, "ia3"), TensorMut::Vector(&mut scaled.scale));
            }
            Matrix::Packed(_)
            | Matrix::Mixed(_)
            | Matrix::Integer(_)
            | Matrix::Sparse(_)
            | Matrix::Tapped(_) => {}
        },
        Part::Vector(scale) => visitor(join(path, "weight"), TensorMut::Vector(scale)),
    });
}

/// Lets every 32-bit tensor be trained, as leaves of a new graph.
pub fn make_trainable<B: Backend>(model: &mut impl Parts<B>) {
    each_tensor(model, &mut |_, tensor| match tensor {
        TensorMut::Matrix(param) => *param = Param::from_tensor(param.val().detach()),
        TensorMut::Vector(param) => *param = Param::from_tensor(param.val().detach()),
    });
}

/// `path.name`, or `name` at the root.
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

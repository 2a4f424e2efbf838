//! What matrices are given on text of the training data: what GPTQ, AWQ, Wanda and `SparseGPT` judge weights by, `SmoothQuant`
//! inputs, and pruning heads and neurons.
//!
//! A matrix, dense or sparse, is tapped, the model reads some batches, and the tap is taken out again with the sums it has made.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use burn::{
    module::Module,
    tensor::{Int, Tensor, backend::Backend},
};

use crate::{
    counter,
    data::Batch,
    model::{Dense, Matrix, Model, ModelPlan, Part, Parts},
    ops::{Ops, linear},
    techniques::sparsity::sparse::Sparse,
    training::{Batches, Beside, to_device},
};

/// What matrices were given, by path.
pub type Statistics = BTreeMap<String, InputStatistics>;

/// Sums over the rows `x [rows, in]` that a matrix was given, on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputStatistics {
    /// How many rows.
    pub rows: usize,
    /// `Σ x xᵀ`, `[in, in]` row by row; its diagonal holds the squared norms of the inputs. Empty where sizes are enough.
    pub second_moment: Vec<f64>,
    /// `Σ |x|`, `[in]`.
    pub absolute: Vec<f64>,
    /// `max |x|`, `[in]`.
    pub largest: Vec<f32>,
}

impl InputStatistics {
    /// Adds rows `x [rows, in]`.
    pub fn add<B: Backend>(&mut self, x: Tensor<B, 2>) {
        let [rows, input] = x.dims();
        counter::add_macs(rows * input * input);
        let second_moment = x.clone().transpose().matmul(x.clone());
        add_to(&mut self.second_moment, second_moment);
        self.add_sizes(x);
    }

    /// Adds rows `x [rows, in]` to all but the second moment, which costs a product.
    fn add_sizes<B: Backend>(&mut self, x: Tensor<B, 2>) {
        let [rows, input] = x.dims();
        self.rows += rows;
        let size = x.abs();
        let largest = size.clone().max_dim(0).into_data();
        self.largest.resize(input, 0.0);
        for (most, x) in self.largest.iter_mut().zip(largest.iter::<f32>()) {
            *most = most.max(x);
        }
        add_to(&mut self.absolute, size.sum_dim(0));
    }
}

/// What is summed up of a matrix's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sums {
    /// Everything.
    Moments,
    /// Everything but the second moment.
    Sizes,
}

fn add_to<B: Backend>(sums: &mut Vec<f64>, more: Tensor<B, 2>) {
    sums.resize(more.shape().num_elements(), 0.0);
    for (sum, x) in sums.iter_mut().zip(more.into_data().iter::<f64>()) {
        *sum += x;
    }
}

/// A matrix that remembers what it is given.
#[derive(Module, Debug)]
pub struct Tapped<B: Backend> {
    weights: Weights<B>,
    #[module(skip)]
    seen: Arc<Mutex<InputStatistics>>,
    #[module(skip)]
    sums: Sums,
}

/// The weights of a matrix that is tapped.
#[derive(Module, Debug)]
enum Weights<B: Backend> {
    Dense(Dense<B>),
    Sparse(Sparse<B>),
}

impl<B: Backend> Tapped<B> {
    /// Rows and columns.
    pub(crate) fn dims(&self) -> [usize; 2] {
        match &self.weights {
            Weights::Dense(dense) => dense.weight.dims(),
            Weights::Sparse(sparse) => sparse.dims(),
        }
    }

    /// The 32-bit weights `[out, in]`, if the matrix is dense.
    pub(crate) fn as_dense(&self) -> Option<Tensor<B, 2>> {
        match &self.weights {
            Weights::Dense(dense) => Some(dense.weight.val()),
            Weights::Sparse(_) => None,
        }
    }

    /// The matrix without the tap.
    fn untapped(&self) -> Matrix<B> {
        match &self.weights {
            Weights::Dense(dense) => Matrix::Dense(dense.clone()),
            Weights::Sparse(sparse) => Matrix::Sparse(sparse.clone()),
        }
    }
}

impl<B: Ops> Tapped<B> {
    /// The rows of the given numbers, `[n, in]`; looking them up is no product.
    pub(crate) fn rows(&self, ids: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        self.untapped().rows(ids)
    }

    /// `x wᵀ` for `x: [.., in]`.
    pub(crate) fn apply<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let [_, input] = self.dims();
        let rows = x.shape().num_elements() / input;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let given = x.clone().reshape([rows, input]);
        match self.sums {
            Sums::Moments => seen.add(given),
            Sums::Sizes => seen.add_sizes(given),
        }
        match &self.weights {
            Weights::Dense(dense) => linear(x, dense.weight.val()),
            Weights::Sparse(sparse) => sparse.apply(x),
        }
    }
}

/// Has a dense or sparse matrix remember what it is given from now on.
pub(crate) fn tap<B: Backend>(matrix: &mut Matrix<B>, sums: Sums) {
    let weights = match matrix {
        Matrix::Dense(dense) => Weights::Dense(dense.clone()),
        Matrix::Sparse(sparse) => Weights::Sparse(sparse.clone()),
        _ => return,
    };
    *matrix = Matrix::Tapped(Tapped {
        weights,
        seen: Arc::default(),
        sums,
    });
}

/// What a tapped matrix was given; `None` of one that was given nothing.
pub(crate) fn seen<B: Backend>(matrix: &Matrix<B>) -> Option<InputStatistics> {
    let Matrix::Tapped(tapped) = matrix else {
        return None;
    };
    let seen = tapped.seen.lock().unwrap_or_else(PoisonError::into_inner);
    (seen.rows > 0).then(|| seen.clone())
}

/// Whether a formula tells how many rows each matrix of a block is given.
///
/// # Errors
/// A sentence that names `asked`, which needs it, and `instead`, where a router tells no such number.
pub(crate) fn check_rows_are_known(model: &ModelPlan, asked: &str, instead: &str) -> Result<(), String> {
    let mut mixtures = model
        .layers
        .iter()
        .filter_map(|layer| layer.feed_forward.mixture());
    match mixtures.find(|mixture| mixture.router.looks_ahead()) {
        None => Ok(()),
        Some(mixture) => Err(format!(
            "{asked} counts the networks that each token meets, and router '{}' tells no such number; use {instead} or another router",
            mixture.router.name()
        )),
    }
}

/// Has the model read `steps` batches and gives, by path, what the chosen matrices were given. A matrix that was given
/// nothing, such as an expert that no token reached, is left out.
pub fn calibrate<B: Ops>(
    model: &mut Model<B>,
    batches: &Batches,
    steps: u64,
    chosen: impl Fn(&str) -> bool,
) -> Statistics {
    sums_of(model, batches, steps, chosen, Sums::Moments)
}

/// The same without second moments, which cost products.
pub(crate) fn calibrate_sizes<B: Ops>(
    model: &mut Model<B>,
    batches: &Batches,
    steps: u64,
    chosen: impl Fn(&str) -> bool,
) -> Statistics {
    sums_of(model, batches, steps, chosen, Sums::Sizes)
}

fn sums_of<B: Ops>(
    model: &mut Model<B>,
    batches: &Batches,
    steps: u64,
    chosen: impl Fn(&str) -> bool,
    sums: Sums,
) -> Statistics {
    tapped(model, chosen, sums, |model| {
        read(model, batches.beside(Beside::Calibration, steps));
    })
}

/// What the chosen dense matrices are given while something is done with the model, without second moments.
pub(crate) fn watch<B: Ops>(
    model: &mut Model<B>,
    chosen: impl Fn(&str) -> bool,
    work: impl FnOnce(&Model<B>),
) -> Statistics {
    tapped(model, chosen, Sums::Sizes, work)
}

fn tapped<B: Ops>(
    model: &mut Model<B>,
    chosen: impl Fn(&str) -> bool,
    sums: Sums,
    work: impl FnOnce(&Model<B>),
) -> Statistics {
    model.each_part("", &mut |path, part| {
        if let Part::Matrix(matrix) = part
            && chosen(path)
        {
            tap(matrix, sums);
        }
    });
    work(model);
    let mut statistics = Statistics::new();
    model.each_part("", &mut |path, part| {
        if let Part::Matrix(matrix) = part {
            statistics.extend(seen(matrix).map(|seen| (path.to_owned(), seen)));
            if let Matrix::Tapped(tapped) = matrix {
                *matrix = tapped.untapped();
            }
        }
    });
    statistics
}

/// Has the model read batches.
pub(super) fn read<B: Ops>(model: &Model<B>, batches: impl Iterator<Item = Batch>) {
    for batch in batches {
        drop(model.forward(to_device::<B>(batch, &model.device()).0));
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::Flex,
        tensor::{Tensor, TensorData},
    };

    use super::*;

    #[test]
    fn sums_are_those_of_all_rows() {
        let mut sums = InputStatistics::default();
        for rows in [[[1.0f32, -2.0], [3.0, 0.5]], [[-1.0, 0.0], [2.0, 1.0]]] {
            sums.add(Tensor::<Flex, 2>::from_data(
                TensorData::from(rows),
                &Default::default(),
            ));
        }
        let expected = InputStatistics {
            rows: 4,
            second_moment: vec![15.0, 1.5, 1.5, 5.25],
            absolute: vec![7.0, 3.5],
            largest: vec![3.0, 2.0],
        };
        assert_eq!(sums, expected);
    }
}

//! What a product with a sparse matrix takes beside the dense one, for `parsimony bench sparse`.

use std::time::Instant;

use burn::tensor::{Distribution, Tensor};

use crate::{
    EvaluationError,
    model::Matrix,
    ops::Ops,
    techniques::sparsity::{SparseForm, of_smallest},
};

/// Products of each kind that are timed at least.
const LEAST_PRODUCTS: usize = 5;

/// A square matrix of random weights, dense and sparse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SparseProduct {
    /// The shortest time of a dense product in seconds.
    pub dense_s: f64,
    /// The shortest time of a sparse product in seconds.
    pub sparse_s: f64,
    /// Bytes of the dense matrix.
    pub dense_bytes: usize,
    /// Bytes of the sparse matrix.
    pub sparse_bytes: usize,
}

pub(crate) fn sparse_product<B: Ops>(
    form: SparseForm,
    width: usize,
    inputs: usize,
    seconds: f64,
    device: &B::Device,
) -> Result<SparseProduct, EvaluationError> {
    B::seed(device, 0);
    let random = |rows| Tensor::<B, 2>::random([rows, width], Distribution::Normal(0.0, 1.0), device);
    let (x, weights) = (random(inputs), random(width));
    let sparse = Matrix::Sparse(of_smallest(weights.clone(), form));
    let dense = Matrix::dense(weights);
    let timed = |matrix: &Matrix<B>| {
        let started = Instant::now();
        drop(matrix.apply(x.clone()));
        B::sync(device).map_err(EvaluationError::device)?;
        Ok::<_, EvaluationError>(started.elapsed().as_secs_f64())
    };
    // they take turns, so that what else the machine does falls on both
    let (mut best, mut rounds, begun) = ([f64::INFINITY; 2], 0, Instant::now());
    while rounds <= LEAST_PRODUCTS || begun.elapsed().as_secs_f64() < seconds {
        for (best, matrix) in best.iter_mut().zip([&dense, &sparse]) {
            *best = best.min(timed(matrix)?);
        }
        rounds += 1;
    }
    Ok(SparseProduct {
        dense_s: best[0],
        sparse_s: best[1],
        dense_bytes: 4 * width * width,
        sparse_bytes: form.shape(width, width).bytes(),
    })
}

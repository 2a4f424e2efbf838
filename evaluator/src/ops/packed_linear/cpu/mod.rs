//! The kernel for processors: few inputs are multiplied with the codes themselves, for many a block of rows is unpacked once.

mod decode;
mod integer;
mod product;
#[cfg(test)]
mod tests;
mod view;

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::{TensorMetadata, ops::FloatTensorOps},
};
use rayon::prelude::*;

use self::{
    integer::Rounded,
    product::{Input, multiply},
    view::{Matrix, unpack_rows},
};
use super::{PackedLinearOp, PackedMatrixParts};
use crate::{
    counter,
    ops::{contiguous, cpu_tensor, linear::product, simd, values},
};

/// Multiply-adds of one task at least.
const MACS_PER_TASK: usize = 64 * 1024;
/// The same of whole numbers, which are multiplied faster.
const WHOLE_MACS_PER_TASK: usize = 128 * 1024;

/// Weights that are unpacked at once: as many as stay in a core's own cache.
const WEIGHTS_PER_BLOCK: usize = 64 * 1024;

/// Inputs from which on weights are worth unpacking once for all of them.
const UNPACK_FROM: usize = 4;

impl PackedLinearOp for Flex {
    fn packed_linear_forward(x: FlexTensor, w: PackedMatrixParts<FlexTensor, FlexTensor>) -> FlexTensor {
        let x = contiguous(x);
        let matrix = Matrix::of(&w);
        let (n, rows, columns) = (x.shape()[0], matrix.rows, matrix.columns);
        let turned = if w.integer {
            let inputs: Vec<Rounded> = values(&x)
                .par_chunks_exact(columns)
                .map(|x| Rounded::of(x, matrix))
                .collect();
            by_rows(matrix, n, WHOLE_MACS_PER_TASK, |first, y| {
                integer::multiply(matrix, first, &inputs, y)
            })
        } else if n < UNPACK_FROM {
            let inputs: Vec<Input> = values(&x)
                .chunks_exact(columns)
                .map(|x| Input::of(x, matrix))
                .collect();
            by_rows(matrix, n, MACS_PER_TASK, |first, y| {
                multiply(matrix, first, &inputs, y)
            })
        } else {
            multiply_blocks(matrix, rows, x)
        };
        counter::add_macs(n * rows * columns);
        if n == 1 {
            return cpu_tensor(turned, &[n, rows]);
        }
        let mut y = vec![0.0f32; n * rows];
        simd::transpose(&turned, n, rows, n, &mut y);
        cpu_tensor(y, &[n, rows])
    }

    fn packed_rows(w: PackedMatrixParts<FlexTensor, FlexTensor>) -> FlexTensor {
        let matrix = Matrix::of(&w);
        let mut out = vec![0.0f32; matrix.rows * matrix.columns];
        unpack_rows(matrix, 0, &mut out);
        cpu_tensor(out, &[matrix.rows, matrix.columns])
    }
}

/// Products `[rows, n]`, made by tasks that own whole rows of the matrix, and work enough to be worth a task.
fn by_rows(
    m: Matrix,
    n: usize,
    macs_per_task: usize,
    multiply: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let rows_per_task = (macs_per_task / (n * m.columns)).max(1);
    let mut turned = vec![0.0f32; m.rows * n];
    let tasks = turned.par_chunks_mut(n * rows_per_task).enumerate();
    tasks.for_each(|(task, y)| multiply(task * rows_per_task, y));
    turned
}

/// Matrix times turned inputs, `[rows, n]`: for many inputs a block of rows is unpacked once for all of them.
fn multiply_blocks(m: Matrix, rows: usize, x: FlexTensor) -> Vec<f32> {
    let n = x.shape()[0];
    let turned = Flex::float_swap_dims(x, 0, 1);
    let per_block = (WEIGHTS_PER_BLOCK / m.columns).clamp(1, rows);
    let mut products = Vec::with_capacity(rows * n);
    for first in (0..rows).step_by(per_block) {
        let block = per_block.min(rows - first);
        let mut weights = vec![0.0f32; block * m.columns];
        let rows_per_task = block.div_ceil(rayon::current_num_threads());
        let tasks = weights.par_chunks_mut(rows_per_task * m.columns);
        tasks
            .enumerate()
            .for_each(|(task, weights)| unpack_rows(m, first + task * rows_per_task, weights));
        let weights = cpu_tensor(weights, &[block, m.columns]);
        let product = product(&weights, &turned).expect("matrices of 32-bit floats");
        products.extend_from_slice(values(&product));
    }
    products
}

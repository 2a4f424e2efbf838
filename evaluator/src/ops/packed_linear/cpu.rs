//! The kernel for processors.
//!
//! The codes at one place of every word form a plane, and so do the inputs that meet them. A plane is a shift and a mask
//! of whole vectors of words, so nothing is moved about within a vector, whatever the bits.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::{TensorMetadata, ops::FloatTensorOps},
};
use half::{f16, slice::HalfFloatSliceExt};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{PackedLinearOp, PackedMatrixParts, ZEROS_PER_WORD};
use crate::{
    counter,
    ops::{contiguous, cpu_tensor, simd, values},
};

/// Multiply-adds of one task at least.
const MACS_PER_TASK: usize = 64 * 1024;

/// Weights that are unpacked at once: as many as stay in a core's own cache.
const WEIGHTS_PER_BLOCK: usize = 64 * 1024;

/// Inputs from which on weights are worth unpacking once for all of them.
const UNPACK_FROM: usize = 4;

impl PackedLinearOp for Flex {
    fn packed_linear_forward(x: FlexTensor, w: PackedMatrixParts<FlexTensor, FlexTensor>) -> FlexTensor {
        let x = contiguous(x);
        let (n, columns) = (x.shape()[0], w.columns);
        let rows = w.scales.shape()[0];
        let matrix = Matrix::of(&w);
        let turned = if n < UNPACK_FROM {
            let inputs: Vec<Planes> = values(&x)
                .chunks_exact(columns)
                .map(|x| Planes::of(x, matrix))
                .collect();
            // every task owns whole rows of the matrix, and work enough to be worth a task
            let rows_per_task = (MACS_PER_TASK / (n * columns)).max(1);
            let mut turned = vec![0.0f32; rows * n];
            let tasks = turned.par_chunks_mut(n * rows_per_task).enumerate();
            tasks.for_each(|(task, y)| multiply_planes(matrix, task * rows_per_task, &inputs, y));
            turned
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
        let rows = w.scales.shape()[0];
        let mut out = vec![0.0f32; rows * w.columns];
        unpack_rows(Matrix::of(&w), 0, &mut out);
        cpu_tensor(out, &[rows, w.columns])
    }
}

/// A packed matrix in memory.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    words: &'a [i32],
    scales: &'a [f16],
    zeros: &'a [i32],
    words_per_row: usize,
    groups: usize,
    bits: usize,
    group: usize,
    columns: usize,
}

impl<'a> Matrix<'a> {
    fn of(w: &'a PackedMatrixParts<FlexTensor, FlexTensor>) -> Matrix<'a> {
        Matrix {
            words: w.words.as_slice().expect("codes are contiguous 32-bit words"),
            scales: w.scales.as_slice().expect("scales are contiguous half floats"),
            zeros: w.zeros.as_slice().expect("zeros are contiguous 32-bit words"),
            words_per_row: w.words.shape()[1],
            groups: w.scales.shape()[1],
            bits: w.bits,
            group: w.group,
            columns: w.columns,
        }
    }

    fn codes_per_word(&self) -> usize {
        32 / self.bits
    }

    #[inline(always)]
    fn words(&self, row: usize) -> &'a [i32] {
        &self.words[row * self.words_per_row..(row + 1) * self.words_per_row]
    }

    /// Writes the scales of a row.
    #[inline(always)]
    fn scales(&self, row: usize, scales: &mut [f32]) {
        self.scales[row * self.groups..(row + 1) * self.groups].convert_to_f32_slice(scales);
    }

    #[inline(always)]
    fn zero(&self, row: usize, group: usize) -> f32 {
        let word = self.zeros[row * self.groups.div_ceil(ZEROS_PER_WORD) + group / ZEROS_PER_WORD] as u32;
        (word >> (8 * (group % ZEROS_PER_WORD)) & 0xff) as f32
    }
}

/// An input `[columns]` as the words meet it.
struct Planes {
    /// `[codes per word, words of a row]`: plane `i` holds what meets the `i`th code of each word; zero beyond the columns.
    inputs: Vec<f32>,
    /// Sum over each group.
    sums: Vec<f32>,
}

impl Planes {
    fn of(x: &[f32], m: Matrix) -> Planes {
        let per_word = m.codes_per_word();
        let mut inputs = vec![0.0f32; per_word * m.words_per_row];
        for (word, x) in x.chunks(per_word).enumerate() {
            for (plane, x) in x.iter().enumerate() {
                inputs[plane * m.words_per_row + word] = *x;
            }
        }
        Planes {
            inputs,
            sums: x.chunks(m.group).map(simd::sum).collect(),
        }
    }
}

/// `y[r][s] = row r · x[s]` for the rows of one task and few inputs.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+fma", "x86_64+avx2+fma"))]
fn multiply_planes(m: Matrix, first: usize, inputs: &[Planes], y: &mut [f32]) {
    let mut scales = vec![0.0f32; m.groups];
    for (r, y) in y.chunks_exact_mut(inputs.len()).enumerate() {
        let row = first + r;
        m.scales(row, &mut scales);
        for (y, x) in y.iter_mut().zip(inputs) {
            let product = match (m.bits, m.group * m.bits / 32) {
                (8, 8) => scaled_products::<8, 4, 8>(m, row, &scales, x),
                (8, _) => scaled_products::<8, 4, 16>(m, row, &scales, x),
                (4, 4) => scaled_products::<4, 8, 4>(m, row, &scales, x),
                (4, 8) => scaled_products::<4, 8, 8>(m, row, &scales, x),
                (4, _) => scaled_products::<4, 8, 16>(m, row, &scales, x),
                (_, 2) => scaled_products::<2, 16, 2>(m, row, &scales, x),
                (_, 4) => scaled_products::<2, 16, 4>(m, row, &scales, x),
                (..) => scaled_products::<2, 16, 8>(m, row, &scales, x),
            };
            // scale · zero · sum of the group's inputs is what every code of the group has too much
            let surplus: f32 = (0..m.groups)
                .map(|g| scales[g] * m.zero(row, g) * x.sums[g])
                .sum();
            *y = product - surplus;
        }
    }
}

/// `Σ_groups scale · Σ code · x` of one row; `LANES` words, which divide a group, go side by side.
#[inline(always)]
fn scaled_products<const BITS: u32, const PER_WORD: usize, const LANES: usize>(
    m: Matrix,
    row: usize,
    scales: &[f32],
    x: &Planes,
) -> f32 {
    let words_per_group = m.group / PER_WORD;
    let (words, rest) = m.words(row).as_chunks::<LANES>();
    let mask = (1i32 << BITS) - 1;
    let mut total = [0.0f32; LANES];
    for (chunk, words) in words.iter().enumerate() {
        let at = chunk * LANES;
        let mut part = [0.0f32; LANES];
        for plane in 0..PER_WORD {
            let x = &x.inputs[plane * m.words_per_row + at..][..LANES];
            for i in 0..LANES {
                let code = (words[i] >> (BITS * plane as u32)) & mask;
                part[i] += code as f32 * x[i];
            }
        }
        let scale = scales[at / words_per_group];
        for i in 0..LANES {
            total[i] += scale * part[i];
        }
    }
    let mut sum: f32 = total.iter().sum();
    let begun = words.len() * LANES;
    for (i, word) in rest.iter().enumerate() {
        let at = begun + i;
        let mut part = 0.0;
        for plane in 0..PER_WORD {
            let code = (word >> (BITS * plane as u32)) & mask;
            part += code as f32 * x.inputs[plane * m.words_per_row + at];
        }
        sum += scales[at / words_per_group] * part;
    }
    sum
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
        products.extend_from_slice(values(&contiguous(Flex::float_matmul(weights, turned.clone()))));
    }
    products
}

/// Writes the weights of some rows, `[rows, columns]`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+fma", "x86_64+avx2+fma"))]
fn unpack_rows(m: Matrix, first: usize, out: &mut [f32]) {
    let mut buffers = RowBuffers::of(m);
    for (r, out) in out.chunks_exact_mut(m.columns).enumerate() {
        out.copy_from_slice(unpack_row(m, first + r, &mut buffers));
    }
}

/// What unpacking a row needs, made once for many rows.
struct RowBuffers {
    /// Padded to whole words.
    weights: Vec<f32>,
    scales: Vec<f32>,
}

impl RowBuffers {
    fn of(m: Matrix) -> Self {
        RowBuffers {
            weights: vec![0.0; m.words_per_row * m.codes_per_word()],
            scales: vec![0.0; m.groups],
        }
    }
}

/// The weights of a row.
#[inline(always)]
fn unpack_row<'a>(m: Matrix, row: usize, buffers: &'a mut RowBuffers) -> &'a [f32] {
    let RowBuffers { weights, scales } = buffers;
    match m.bits {
        8 => unpack::<4, 8>(m.words(row), weights),
        4 => unpack::<8, 4>(m.words(row), weights),
        _ => unpack::<16, 2>(m.words(row), weights),
    }
    m.scales(row, scales);
    for (g, group) in weights[..m.columns].chunks_mut(m.group).enumerate() {
        let (scale, zero) = (scales[g], m.zero(row, g));
        for w in group {
            *w = scale * (*w - zero);
        }
    }
    &weights[..m.columns]
}

#[inline(always)]
fn unpack<const PER_WORD: usize, const BITS: u32>(words: &[i32], codes: &mut [f32]) {
    let mask = (1i32 << BITS) - 1;
    for (word, codes) in words.iter().zip(codes.as_chunks_mut::<PER_WORD>().0) {
        for (i, code) in codes.iter_mut().enumerate() {
            *code = ((word >> (BITS * i as u32)) & mask) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Distribution, Int, Tensor, TensorData, Tolerance};

    use super::*;
    use crate::ops::{packed_linear, unwrap, wrap};

    fn matrix(
        rows: usize,
        columns: usize,
        bits: usize,
        group: usize,
    ) -> PackedMatrixParts<FlexTensor, FlexTensor> {
        let device = Default::default();
        let words = |per_row: usize, seed: u32| {
            let random = (0..(rows * per_row) as u32).map(|i| (i + seed).wrapping_mul(2_654_435_761) as i32);
            let data = TensorData::new(random.collect::<Vec<_>>(), [rows, per_row]);
            Tensor::<Flex, 2, Int>::from_data(data, (&device, DType::I32)).into_primitive()
        };
        let groups = columns.div_ceil(group);
        let scales: Vec<f16> = (0..rows * groups)
            .map(|i| f16::from_f32(0.01 + i as f32 % 7.0 * 0.003))
            .collect();
        let scales = TensorData::new(scales, [rows, groups]);
        PackedMatrixParts {
            words: words((columns * bits).div_ceil(32), 1),
            scales: unwrap(Tensor::<Flex, 2>::from_data(scales, (&device, DType::F16))),
            zeros: words(groups.div_ceil(ZEROS_PER_WORD), 99),
            bits,
            group,
            columns,
        }
    }

    #[test]
    fn the_kernels_equal_the_definition() {
        let device = Default::default();
        for bits in [2, 4, 8] {
            for group in [32, 64, 128] {
                for columns in [32, 64, 100, 128, 160, 330] {
                    let w = matrix(19, columns, bits, group);
                    let dense = super::super::reference::<Flex>(w.clone());
                    let unpacked: Tensor<Flex, 2> = wrap(Flex::packed_rows(w.clone()));
                    unpacked
                        .into_data()
                        .assert_approx_eq::<f32>(&dense.to_data(), Tolerance::absolute(1e-5));
                    for n in [1, 3, 4, 9] {
                        let x =
                            Tensor::<Flex, 2>::random([n, columns], Distribution::Normal(0.0, 1.0), &device);
                        let (y, macs) =
                            counter::count_macs(|| packed_linear::<Flex, 2>(x.clone(), w.clone()));
                        assert_eq!(macs, (n * 19 * columns) as u64);
                        let expected = x.matmul(dense.clone().transpose());
                        let close = Tolerance::rel_abs(1e-3, 2e-3);
                        y.into_data()
                            .assert_approx_eq::<f32>(&expected.into_data(), close);
                    }
                }
            }
        }
    }
}

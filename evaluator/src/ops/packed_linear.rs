//! `y = x wᵀ` with `w` packed to few bits, computed from the packed form.
//!
//! Codes lie little-endian in 32-bit words, row by row. Each group of a row has a 16-bit scale and an 8-bit zero:
//! `w = scale · (code - zero)`. The kernel reads each word once and never holds more than one row of unpacked weights.

use burn::{
    backend::{Autodiff, Flex, autodiff::checkpoint::strategy::CheckpointStrategy, flex::FlexTensor},
    tensor::{
        ElementConversion, FloatDType, Int, Tensor, TensorMetadata,
        backend::Backend,
        ops::{FloatTensor, IntTensor},
    },
};
use half::f16;
use multiversion::multiversion;
use rayon::prelude::*;

use super::{contiguous, cpu_tensor, simd, unwrap, values, wrap};
use crate::counter;

/// Zeros that share one word.
const ZEROS_PER_WORD: usize = 4;

/// The tensors of a packed matrix and how to read them.
#[derive(Clone, Debug)]
pub struct PackedMatrixParts<I, F> {
    /// `[rows, ceil(columns / codes per word)]` words of codes.
    pub words: I,
    /// `[rows, groups]` half-precision scales.
    pub scales: F,
    /// `[rows, ceil(groups / 4)]` words of zeros.
    pub zeros: I,
    /// Bits of one code: 2, 4 or 8.
    pub bits: usize,
    /// Columns of one group; the last group of a row may be shorter.
    pub group: usize,
    /// Columns of the matrix.
    pub columns: usize,
}

type Parts<B> = PackedMatrixParts<IntTensor<B>, FloatTensor<B>>;

/// Products with a packed matrix.
pub trait PackedLinearOp: Backend {
    /// `x [n, columns]` times the transposed matrix, `[n, rows]`.
    fn packed_linear_forward(x: FloatTensor<Self>, w: Parts<Self>) -> FloatTensor<Self> {
        let x = wrap::<Self, 2>(x);
        let w = reference::<Self>(w);
        counter::add_macs(x.dims()[0] * w.dims()[0] * w.dims()[1]);
        unwrap(x.matmul(w.transpose()))
    }

    /// The weights of the packed rows as floats, `[rows, columns]`.
    fn packed_rows(w: Parts<Self>) -> FloatTensor<Self> {
        unwrap(reference::<Self>(w))
    }
}

/// `x wᵀ` for `x: [.., columns]`.
pub fn packed_linear<B: PackedLinearOp, const D: usize>(x: Tensor<B, D>, w: Parts<B>) -> Tensor<B, D> {
    let mut shape = x.dims();
    let rows = shape[..D - 1].iter().product::<usize>();
    let x = x.reshape([rows, shape[D - 1]]);
    let y = wrap::<B, 2>(B::packed_linear_forward(unwrap(x), w));
    shape[D - 1] = y.dims()[1];
    y.reshape(shape)
}

/// The weights of the packed rows as floats, `[rows, columns]`; meant for a few rows, such as looked-up embeddings.
pub fn unpack_rows<B: PackedLinearOp>(w: Parts<B>) -> Tensor<B, 2> {
    wrap(B::packed_rows(w))
}

#[cfg(feature = "cuda")]
impl PackedLinearOp for burn::backend::Cuda {}

/// Unpacks with plain tensor operations; what a GPU executes for each use.
fn reference<B: Backend>(w: Parts<B>) -> Tensor<B, 2> {
    let codes = unpack_words::<B>(Tensor::from_primitive(w.words), w.bits);
    let [rows, _] = codes.dims();
    let scales: Tensor<B, 2> = wrap::<B, 2>(w.scales).cast(FloatDType::F32);
    let groups = scales.dims()[1];
    let zeros = unpack_words::<B>(Tensor::from_primitive(w.zeros), 8).slice([0..rows, 0..groups]);
    let spread = |t: Tensor<B, 2>| {
        let wide = t.unsqueeze_dim::<3>(2).expand([rows, groups, w.group]);
        wide.reshape([rows, groups * w.group])
            .slice([0..rows, 0..w.columns])
    };
    (codes.slice([0..rows, 0..w.columns]) - spread(zeros)) * spread(scales)
}

fn unpack_words<B: Backend>(words: Tensor<B, 2, Int>, bits: usize) -> Tensor<B, 2> {
    let [rows, n] = words.dims();
    let per_word = 32 / bits;
    let mask = (1i64 << bits) - 1;
    let parts: Vec<Tensor<B, 3, Int>> = (0..per_word)
        .map(|i| {
            let shifted = words
                .clone()
                .bitwise_right_shift_scalar(((i * bits) as i32).elem());
            shifted
                .bitwise_and_scalar((mask as i32).elem())
                .unsqueeze_dim::<3>(2)
        })
        .collect();
    Tensor::cat(parts, 2).reshape([rows, n * per_word]).float()
}

impl PackedLinearOp for Flex {
    fn packed_linear_forward(x: FlexTensor, w: PackedMatrixParts<FlexTensor, FlexTensor>) -> FlexTensor {
        let x = contiguous(x);
        let (n, columns) = (x.shape()[0], w.columns);
        let rows = w.scales.shape()[0];
        let matrix = Matrix::of(&w);
        let input = values(&x);
        // rows of y turned: every task owns whole rows of the matrix, and work enough to be worth a task
        let rows_per_task = (MACS_PER_TASK / (n * columns)).max(1);
        let mut turned = vec![0.0f32; rows * n];
        turned
            .par_chunks_mut(n * rows_per_task)
            .enumerate()
            .for_each(|(task, y)| {
                multiply_rows(matrix, task * rows_per_task, input, n, y);
            });
        counter::add_macs(n * rows * columns);
        let mut y = vec![0.0f32; n * rows];
        simd::transpose(&turned, n, rows, n, &mut y);
        cpu_tensor(y, &[n, rows])
    }

    fn packed_rows(w: PackedMatrixParts<FlexTensor, FlexTensor>) -> FlexTensor {
        let rows = w.scales.shape()[0];
        let mut out = vec![0.0f32; rows * w.columns];
        let matrix = Matrix::of(&w);
        let mut row = row_buffer(matrix);
        for (r, out) in out.chunks_exact_mut(w.columns).enumerate() {
            unpack_row(matrix, r, &mut row);
            out.copy_from_slice(&row[..w.columns]);
        }
        cpu_tensor(out, &[rows, w.columns])
    }
}

/// Multiply-adds of one task at least.
const MACS_PER_TASK: usize = 64 * 1024;

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

    #[inline(always)]
    fn scale(&self, row: usize, group: usize) -> f32 {
        self.scales[row * self.groups + group].to_f32()
    }

    #[inline(always)]
    fn zero(&self, row: usize, group: usize) -> f32 {
        let word = self.zeros[row * self.groups.div_ceil(ZEROS_PER_WORD) + group / ZEROS_PER_WORD] as u32;
        (word >> (8 * (group % ZEROS_PER_WORD)) & 0xff) as f32
    }
}

/// Floats that hold a row, padded to whole words.
fn row_buffer(m: Matrix) -> Vec<f32> {
    vec![0.0f32; m.words_per_row * 32 / m.bits]
}

/// Writes a row's weights as floats.
#[inline(always)]
fn unpack_row(m: Matrix, row: usize, weights: &mut [f32]) {
    let words = &m.words[row * m.words_per_row..(row + 1) * m.words_per_row];
    match m.bits {
        8 => unpack::<4, 8>(words, weights),
        4 => unpack::<8, 4>(words, weights),
        _ => unpack::<16, 2>(words, weights),
    }
    for (g, group) in weights[..m.columns].chunks_mut(m.group).enumerate() {
        let (scale, zero) = (m.scale(row, g), m.zero(row, g));
        for w in group {
            *w = scale * (*w - zero);
        }
    }
}

#[inline(always)]
fn unpack<const PER_WORD: usize, const BITS: u32>(words: &[i32], codes: &mut [f32]) {
    let mask = (1u32 << BITS) - 1;
    for (word, codes) in words.iter().zip(codes.as_chunks_mut::<PER_WORD>().0) {
        for (i, code) in codes.iter_mut().enumerate() {
            *code = ((*word as u32 >> (BITS * i as u32)) & mask) as i32 as f32;
        }
    }
}

/// `y[r][s] = row r · x[s]` for the rows of one task.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+fma", "x86_64+avx2+fma"))]
fn multiply_rows(m: Matrix, first: usize, x: &[f32], n: usize, y: &mut [f32]) {
    let mut weights = row_buffer(m);
    for (r, y) in y.chunks_exact_mut(n).enumerate() {
        unpack_row(m, first + r, &mut weights);
        for (y, x) in y.iter_mut().zip(x.chunks_exact(m.columns)) {
            *y = simd::dot(x, &weights[..m.columns]);
        }
    }
}

/// Packed weights are for serving: there is no gradient through them, and none is needed.
impl<B: PackedLinearOp, C: CheckpointStrategy> PackedLinearOp for Autodiff<B, C> {
    fn packed_linear_forward(x: FloatTensor<Self>, w: Parts<Self>) -> FloatTensor<Self> {
        assert!(
            !x.is_tracked(),
            "a packed matrix serves; it is not trained through"
        );
        <Self as burn::tensor::backend::AutodiffBackend>::from_inner(B::packed_linear_forward(
            x.primitive,
            inner::<B, C>(w),
        ))
    }

    fn packed_rows(w: Parts<Self>) -> FloatTensor<Self> {
        <Self as burn::tensor::backend::AutodiffBackend>::from_inner(B::packed_rows(inner::<B, C>(w)))
    }
}

fn inner<B: Backend, C: CheckpointStrategy>(w: Parts<Autodiff<B, C>>) -> Parts<B> {
    PackedMatrixParts {
        words: w.words,
        scales: w.scales.primitive,
        zeros: w.zeros,
        bits: w.bits,
        group: w.group,
        columns: w.columns,
    }
}

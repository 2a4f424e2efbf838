//! `y = x wᵀ` with `w` packed to few bits, computed from the packed form.
//!
//! Codes lie little-endian in 32-bit words, row by row. Each group of a row has a 16-bit scale and an 8-bit zero:
//! `w = scale · (code - zero)`. The kernel reads each word once and never
//! holds more unpacked weights than a core's cache does.

mod backward;
mod cpu;

use burn::tensor::{
    ElementConversion, FloatDType, Int, Tensor,
    backend::Backend,
    ops::{FloatTensor, IntTensor},
};

use super::{unwrap, wrap};
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

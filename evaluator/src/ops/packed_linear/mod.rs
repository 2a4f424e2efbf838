//! `y = x wᵀ` with `w` packed to few bits, computed from the packed form.
//!
//! Codes of 2, 4 or 8 bits lie little-endian in 32-bit words, row by row. Codes of 3, 5 or 6 bits are cut in two: a row has
//! one such stream of their low 2 or 4 bits and, after it, one of the rest, so that no code straddles words and each stream
//! is unpacked with shifts of whole vectors. Each group of a row has a 16-bit scale. Levels are evenly spaced,
//! `w = scale · (code - zero)` with an 8-bit zero for each group, or those of a code book, `w = scale · level[code]`. The
//! kernel reads each word once and never holds more unpacked weights than a core's cache does.

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
pub(super) const ZEROS_PER_WORD: usize = 4;

/// Bits of a code in the two streams of a row; 0 where there is no second one.
pub const fn streams(bits: usize) -> [usize; 2] {
    match bits {
        3 => [2, 1],
        5 => [4, 1],
        6 => [4, 2],
        _ => [bits, 0],
    }
}

/// 32-bit words of codes in a row.
pub fn words_per_row(columns: usize, bits: usize) -> usize {
    streams(bits)
        .map(|stream| (columns * stream).div_ceil(32))
        .iter()
        .sum()
}

/// What codes stand for.
#[derive(Clone, Debug)]
pub enum Levels<I> {
    /// `scale · (code - zero)`, with `[rows, ceil(groups / 4)]` words of zeros.
    Even(I),
    /// `scale · level[code]`, of 4-bit codes.
    Book([f32; 16]),
}

/// The tensors of a packed matrix and how to read them.
#[derive(Clone, Debug)]
pub struct PackedMatrixParts<I, F> {
    /// `[rows, words_per_row]` words of codes.
    pub words: I,
    /// `[rows, groups]` half-precision scales.
    pub scales: F,
    /// What codes stand for.
    pub levels: Levels<I>,
    /// Bits of one code: 2, 3, 4, 5, 6 or 8.
    pub bits: usize,
    /// Columns of one group; the last group of a row may be shorter.
    pub group: usize,
    /// Columns of the matrix.
    pub columns: usize,
    /// Whether inputs are rounded to 8-bit numbers and multiplied as whole numbers; of codes of 4 or 8 bits on even levels.
    pub integer: bool,
}

type Parts<B> = PackedMatrixParts<IntTensor<B>, FloatTensor<B>>;

/// Products with a packed matrix.
pub trait PackedLinearOp: Backend {
    /// `x [n, columns]` times the transposed matrix, `[n, rows]`.
    fn packed_linear_forward(x: FloatTensor<Self>, w: Parts<Self>) -> FloatTensor<Self> {
        let mut x = wrap::<Self, 2>(x);
        if w.integer {
            x = rounded(x, w.group);
        }
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

/// Inputs `[n, columns]` rounded to 255 levels of each group, as floats: what the kernel's whole numbers are held against, and what a GPU writes text with.
fn rounded<B: Backend>(x: Tensor<B, 2>, group: usize) -> Tensor<B, 2> {
    let [n, columns] = x.dims();
    let groups = columns.div_ceil(group);
    let rest = groups * group - columns;
    // a GPU fills no tensor without elements
    let x = match rest {
        0 => x,
        _ => Tensor::cat(vec![x.clone(), Tensor::zeros([n, rest], &x.device())], 1),
    };
    let x = x.reshape([n, groups, group]);
    let scale = x.clone().abs().max_dim(2) / 127.0;
    let whole = (x / scale.clone().clamp_min(f32::MIN_POSITIVE)).round();
    (whole * scale)
        .reshape([n, groups * group])
        .slice([0..n, 0..columns])
}

/// Unpacks with plain tensor operations; what a GPU executes for each use.
fn reference<B: Backend>(w: Parts<B>) -> Tensor<B, 2> {
    let scales: Tensor<B, 2> = wrap::<B, 2>(w.scales).cast(FloatDType::F32);
    let [rows, groups] = scales.dims();
    let spread = |t: Tensor<B, 2>| over_groups(t, w.group, w.columns);
    let codes = unpack_codes::<B>(Tensor::from_primitive(w.words), w.columns, w.bits);
    let values = match w.levels {
        Levels::Even(zeros) => codes.float() - spread(unpack_zeros(Tensor::from_primitive(zeros), groups)),
        Levels::Book(levels) => {
            let levels = Tensor::<B, 1>::from_floats(levels, &codes.device());
            let picked = levels.select(0, codes.reshape([rows * w.columns]));
            picked.reshape([rows, w.columns])
        }
    };
    values * spread(scales)
}

/// What each column's group has, `[rows, columns]`, of `[rows, groups]`.
pub(super) fn over_groups<B: Backend>(t: Tensor<B, 2>, group: usize, columns: usize) -> Tensor<B, 2> {
    let [rows, groups] = t.dims();
    let wide = t.unsqueeze_dim::<3>(2).expand([rows, groups, group]);
    wide.reshape([rows, groups * group]).slice([0..rows, 0..columns])
}

/// Zeros `[rows, groups]` of their words.
pub(super) fn unpack_zeros<B: Backend>(words: Tensor<B, 2, Int>, groups: usize) -> Tensor<B, 2> {
    let rows = words.dims()[0];
    unpack_words(words, 8).slice([0..rows, 0..groups]).float()
}

/// Codes `[rows, columns]` of both streams.
pub(super) fn unpack_codes<B: Backend>(
    words: Tensor<B, 2, Int>,
    columns: usize,
    bits: usize,
) -> Tensor<B, 2, Int> {
    let ([rows, all], [low, high]) = (words.dims(), streams(bits));
    let split = words_per_row(columns, low);
    let part = |words: Tensor<B, 2, Int>, bits| unpack_words(words, bits).slice([0..rows, 0..columns]);
    let codes = part(words.clone().slice([0..rows, 0..split]), low);
    if high == 0 {
        return codes;
    }
    codes + part(words.slice([0..rows, split..all]), high) * (1i32 << low)
}

fn unpack_words<B: Backend>(words: Tensor<B, 2, Int>, bits: usize) -> Tensor<B, 2, Int> {
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
    Tensor::cat(parts, 2).reshape([rows, n * per_word])
}

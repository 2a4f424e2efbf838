//! `y = x wᵀ` with `w` stored as its nonzeros, computed from that form: one multiply-add for each nonzero and row of inputs.
//! Nonzeros are floats, or codes of few bits, of which a few rows at a time become floats.
//!
//! Each 32 columns of a row have one word that tells where its nonzeros stand: a bit for each column, or, where two of every
//! four columns are kept, two bits for each nonzero with its place among the four. Both take one bit for each weight; places among
//! four are read without counting what comes before them, so that kernel is the faster one.

mod codes;
mod cpu;
mod few;
mod many;

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy},
    tensor::{
        DType, ElementConversion, FloatDType, IndexingUpdateOp, Int, Tensor, TensorData,
        backend::Backend,
        ops::{FloatTensor, IntTensor},
    },
};

use super::{
    packed_linear::{over_groups, unpack_codes, unpack_zeros},
    unwrap, wrap,
};
use crate::counter;

/// Columns whose nonzeros one word tells.
pub const COLUMNS_PER_WORD: usize = 32;

/// How a word tells where nonzeros stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SparseLayout {
    /// Bit `i` is set where the word's column `i` is kept.
    Bitmap,
    /// Two of each four columns are kept: bits `2 i` and `2 i + 1` are the place of nonzero `i` of the word among its four columns.
    TwoOfFour,
}

/// The tensors of a sparse matrix and how to read them.
#[derive(Clone, Debug)]
pub struct SparseMatrixParts<I, F> {
    /// `[rows, ceil(columns / 32)]` words that tell where nonzeros stand.
    pub places: I,
    /// The nonzeros, row after row.
    pub values: NonzeroParts<I, F>,
    /// `[rows + 1]`: where the nonzeros of each row begin and where the last ones end.
    pub starts: I,
    /// Columns of the matrix; of 32 columns in a layout of two of four, four at least.
    pub columns: usize,
    /// How places are told.
    pub layout: SparseLayout,
}

/// Nonzeros, row after row, and how to read them.
#[derive(Clone, Debug)]
pub enum NonzeroParts<I, F> {
    /// 32-bit floats.
    Floats(F),
    /// Codes on evenly spaced levels.
    Codes(CodeParts<I, F>),
}

/// Nonzeros as codes: `scale · (code - zero)`, with a scale and a zero for those of each group of columns of a row.
#[derive(Clone, Debug)]
pub struct CodeParts<I, F> {
    /// Words of the codes of all nonzeros, as those of one packed row.
    pub words: I,
    /// `[rows, groups]` half-precision scales.
    pub scales: F,
    /// `[rows, ceil(groups / 4)]` words of zeros.
    pub zeros: I,
    /// Bits of one code: 2, 3, 4, 5, 6 or 8.
    pub bits: usize,
    /// Columns of one group, a multiple of [`COLUMNS_PER_WORD`]; the last group of a row may be shorter.
    pub group: usize,
    /// Nonzeros in all.
    pub nonzeros: usize,
}

type Parts<B> = SparseMatrixParts<IntTensor<B>, FloatTensor<B>>;

/// Products with a sparse matrix.
pub trait SparseLinearOp: Backend {
    /// `x [n, columns]` times the transposed matrix, `[n, rows]`. This body makes the matrix dense for each use, and
    /// counts what it executes.
    fn sparse_linear_forward(x: FloatTensor<Self>, w: Parts<Self>) -> FloatTensor<Self> {
        let x = wrap::<Self, 2>(x);
        let w = with_zeros::<Self>(w);
        counter::add_macs(x.dims()[0] * w.dims()[0] * w.dims()[1]);
        unwrap(x.matmul(w.transpose()))
    }
}

/// `x wᵀ` for `x: [.., columns]`.
pub fn sparse_linear<B: SparseLinearOp, const D: usize>(x: Tensor<B, D>, w: Parts<B>) -> Tensor<B, D> {
    let mut shape = x.dims();
    let rows = shape[..D - 1].iter().product::<usize>();
    let x = x.reshape([rows, shape[D - 1]]);
    let y = wrap::<B, 2>(B::sparse_linear_forward(unwrap(x), w));
    shape[D - 1] = y.dims()[1];
    y.reshape(shape)
}

#[cfg(feature = "cuda")]
impl SparseLinearOp for burn::backend::Cuda {}

/// The dense matrix, `[rows, columns]`, zeros included.
pub fn with_zeros<B: Backend>(w: Parts<B>) -> Tensor<B, 2> {
    let at_places = Places::<B> {
        places: Tensor::from_primitive(w.places),
        starts: Tensor::from_primitive(w.starts),
        columns: w.columns,
        layout: w.layout,
    };
    let codes = match w.values {
        NonzeroParts::Floats(values) => return at_places.put(wrap(values)),
        NonzeroParts::Codes(codes) => codes,
    };
    let (n, scales) = (codes.nonzeros, wrap::<B, 2>(codes.scales).cast(FloatDType::F32));
    let words: Tensor<B, 1, Int> = Tensor::from_primitive(codes.words);
    let numbers = unpack_codes(words.unsqueeze_dim::<2>(0), n, codes.bits).float();
    let zeros = unpack_zeros::<B>(Tensor::from_primitive(codes.zeros), scales.dims()[1]);
    let of_columns = |t: Tensor<B, 2>| over_groups(t, codes.group, w.columns);
    let kept = at_places.put(Tensor::ones([n], &scales.device()));
    (at_places.put(numbers.reshape([n])) - kept * of_columns(zeros)) * of_columns(scales)
}

/// Where nonzeros stand.
struct Places<B: Backend> {
    places: Tensor<B, 2, Int>,
    starts: Tensor<B, 1, Int>,
    columns: usize,
    layout: SparseLayout,
}

impl<B: Backend> Places<B> {
    /// What there is of each nonzero, `[nonzeros]`, at its place among zeros, `[rows, columns]`.
    fn put(&self, values: Tensor<B, 1>) -> Tensor<B, 2> {
        let (places, columns) = (self.places.clone(), self.columns);
        let [rows, _] = places.dims();
        match self.layout {
            SparseLayout::Bitmap => {
                let kept = fields(places, 1).slice([0..rows, 0..columns]);
                let starts = self.starts.clone().narrow(0, 0, rows).unsqueeze_dim::<2>(1);
                // which nonzero of its row each place is; where there is none, any will do
                let numbers = (kept.clone().cumsum(1) - 1 + starts).clamp(0, values.dims()[0] as i32 - 1);
                let spread = values.select(0, numbers.reshape([rows * columns]));
                spread.reshape([rows, columns]) * kept.float()
            }
            SparseLayout::TwoOfFour => {
                let n = columns / 2;
                let among_four = fields(places, 2).slice([0..rows, 0..n]);
                let fours: Vec<i32> = (0..n as i32).map(|number| number / 2 * 4).collect();
                let (fours, device) = (TensorData::new(fours, [1, n]), values.device());
                let fours = Tensor::from_data(fours, (&device, DType::I32));
                let zeros = Tensor::<B, 2>::zeros([rows, columns], &device);
                zeros.scatter(
                    1,
                    among_four + fours,
                    values.reshape([rows, n]),
                    IndexingUpdateOp::Add,
                )
            }
        }
    }
}

/// The fields of so many bits of each word, `[rows, fields]`.
fn fields<B: Backend>(words: Tensor<B, 2, Int>, bits: usize) -> Tensor<B, 2, Int> {
    let [rows, n] = words.dims();
    let per_word = 32 / bits;
    let mask = (1i32 << bits) - 1;
    let field = |i: usize| {
        let shifted = words
            .clone()
            .bitwise_right_shift_scalar(((i * bits) as i32).elem());
        shifted.bitwise_and_scalar(mask.elem()).unsqueeze_dim::<3>(2)
    };
    let all: Vec<Tensor<B, 3, Int>> = (0..per_word).map(field).collect();
    Tensor::cat(all, 2).reshape([rows, n * per_word])
}

/// Sparse weights are for serving: there is no gradient through them, and none is needed.
impl<B: SparseLinearOp, C: CheckpointStrategy> SparseLinearOp for Autodiff<B, C> {
    fn sparse_linear_forward(x: FloatTensor<Self>, w: Parts<Self>) -> FloatTensor<Self> {
        assert!(
            !x.is_tracked(),
            "a sparse matrix serves; it is not trained through"
        );
        let w = SparseMatrixParts {
            places: w.places,
            values: match w.values {
                NonzeroParts::Floats(values) => NonzeroParts::Floats(values.primitive),
                NonzeroParts::Codes(codes) => NonzeroParts::Codes(CodeParts {
                    words: codes.words,
                    scales: codes.scales.primitive,
                    zeros: codes.zeros,
                    bits: codes.bits,
                    group: codes.group,
                    nonzeros: codes.nonzeros,
                }),
            },
            starts: w.starts,
            columns: w.columns,
            layout: w.layout,
        };
        <Self as burn::tensor::backend::AutodiffBackend>::from_inner(B::sparse_linear_forward(x.primitive, w))
    }
}

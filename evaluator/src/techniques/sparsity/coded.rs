//! Nonzeros packed to few bits: codes of the weights that are kept alone, on evenly spaced levels.
//!
//! Groups are those of dense packed rows: scale and zero `g` of a row belong to columns `g · group` to `(g + 1) · group`, and so to the
//! nonzeros among these, however many there are. Codes of all nonzeros lie as those of one packed row.

use burn::{
    module::Module,
    tensor::{
        DType, Int, Tensor, TensorData,
        backend::Backend,
        ops::{FloatTensor, IntTensor},
    },
};
use half::f16;

use super::sparse::SparseShape;
use crate::{
    ops::{CodeParts, words_per_row},
    techniques::quantization::packed::{put_code, put_zero},
};

/// How nonzeros are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeForm {
    /// Bits of one code.
    pub bits: usize,
    /// Columns whose nonzeros share a scale and a zero; the last group of a row may be shorter.
    pub group: usize,
}

impl CodeForm {
    /// 32-bit words of the codes of so many nonzeros.
    pub fn words(&self, nonzeros: usize) -> usize {
        words_per_row(nonzeros, self.bits)
    }

    /// Groups of a row of so many columns.
    pub fn groups(&self, columns: usize) -> usize {
        columns.div_ceil(self.group)
    }

    /// 32-bit words of zeros of such a row, four 8-bit zeros each.
    pub fn zero_words(&self, columns: usize) -> usize {
        self.groups(columns).div_ceil(4)
    }

    /// Bytes of codes, scales and zeros of so many nonzeros of a matrix `[rows, columns]`.
    pub(super) fn bytes(&self, [rows, columns]: [usize; 2], nonzeros: usize) -> usize {
        4 * self.words(nonzeros) + rows * (2 * self.groups(columns) + 4 * self.zero_words(columns))
    }
}

/// Nonzeros as codes, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct NonzeroCodes {
    pub(super) form: CodeForm,
    pub(super) nonzeros: usize,
    /// `[rows, columns]` of the matrix.
    pub(super) dims: [usize; 2],
    /// Codes of all nonzeros.
    pub(crate) words: Vec<i32>,
    /// Half-precision scales, `[rows, groups]`.
    pub(crate) scales: Vec<f16>,
    /// Zeros, four to a word, `[rows, zero_words]`.
    pub(crate) zeros: Vec<i32>,
}

impl NonzeroCodes {
    /// All codes, scales and zeros 0.
    pub(crate) fn new(shape: SparseShape, form: CodeForm) -> Self {
        let (rows, columns) = (shape.rows, shape.columns);
        NonzeroCodes {
            form,
            nonzeros: shape.nonzeros(),
            dims: [rows, columns],
            words: vec![0; form.words(shape.nonzeros())],
            scales: vec![f16::ZERO; rows * form.groups(columns)],
            zeros: vec![0; rows * form.zero_words(columns)],
        }
    }

    /// Sets the code of a nonzero once.
    pub(crate) fn set_code(&mut self, number: usize, code: u32) {
        put_code(&mut self.words, self.nonzeros, self.form.bits, number, code);
    }

    /// Sets the scale and the zero of a group once.
    pub(crate) fn set_levels(&mut self, row: usize, group: usize, scale: f16, zero: u8) {
        let [_, columns] = self.dims;
        self.scales[row * self.form.groups(columns) + group] = scale;
        let per_row = self.form.zero_words(columns);
        put_zero(&mut self.zeros[row * per_row..][..per_row], group, zero);
    }

    pub(super) fn into_module<B: Backend>(self, device: &B::Device) -> Coded<B> {
        let (form, [rows, columns]) = (self.form, self.dims);
        let words = TensorData::new(self.words, [form.words(self.nonzeros)]);
        let scales = TensorData::new(self.scales, [rows, form.groups(columns)]);
        let zeros = TensorData::new(self.zeros, [rows, form.zero_words(columns)]);
        Coded {
            words: Tensor::from_data(words, (device, DType::I32)),
            scales: Tensor::from_data(scales, (device, DType::F16)),
            zeros: Tensor::from_data(zeros, (device, DType::I32)),
            bits: form.bits,
            group: form.group,
            nonzeros: self.nonzeros,
        }
    }
}

/// Nonzeros as codes.
#[derive(Module, Debug)]
pub struct Coded<B: Backend> {
    words: Tensor<B, 1, Int>,
    scales: Tensor<B, 2>,
    zeros: Tensor<B, 2, Int>,
    bits: usize,
    group: usize,
    pub(super) nonzeros: usize,
}

impl<B: Backend> Coded<B> {
    /// The codes of a matrix of so many columns on the host.
    pub(super) fn to_host(&self, columns: usize) -> NonzeroCodes {
        NonzeroCodes {
            form: self.form(),
            nonzeros: self.nonzeros,
            dims: [self.scales.dims()[0], columns],
            words: self.words.to_data().iter::<i32>().collect(),
            scales: self.scales.to_data().iter::<f16>().collect(),
            zeros: self.zeros.to_data().iter::<i32>().collect(),
        }
    }

    pub(super) fn form(&self) -> CodeForm {
        CodeForm {
            bits: self.bits,
            group: self.group,
        }
    }

    pub(super) fn parts(&self) -> CodeParts<IntTensor<B>, FloatTensor<B>> {
        CodeParts {
            words: self.words.clone().into_primitive(),
            scales: self.scales.clone().into_primitive().tensor(),
            zeros: self.zeros.clone().into_primitive(),
            bits: self.bits,
            group: self.group,
            nonzeros: self.nonzeros,
        }
    }
}

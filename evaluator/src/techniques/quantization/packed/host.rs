//! Packed weights on the host: their size, and how codes, scales and zeros are put into words.

use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};
use half::f16;
use serde::{Deserialize, Serialize};

use super::Packed;
use crate::ops::{streams, words_per_row};

/// What codes stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spacing {
    /// Evenly spaced levels around a zero of each group.
    Even,
    /// Evenly spaced levels around the middle code, the same for every group.
    Symmetric,
    /// The levels of NF4, the same for every group.
    NormalFloat,
}

/// Size of a packed matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedShape {
    /// Output size.
    pub rows: usize,
    /// Input size.
    pub columns: usize,
    /// Bits of one code.
    pub bits: usize,
    /// Columns of one group; the last of a row may be shorter.
    pub group: usize,
    /// What codes stand for.
    pub spacing: Spacing,
    /// Whether inputs are rounded to 8-bit numbers and multiplied as whole numbers.
    pub integer: bool,
}

impl PackedShape {
    /// Bytes around a zero, with one scale for each row: what a model in whole numbers is packed to.
    pub fn of_bytes([rows, columns]: [usize; 2]) -> Self {
        PackedShape {
            rows,
            columns,
            bits: 8,
            group: columns,
            spacing: Spacing::Symmetric,
            integer: true,
        }
    }

    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.columns.div_ceil(self.group)
    }

    /// 32-bit words of codes in a row.
    pub fn words_per_row(&self) -> usize {
        words_per_row(self.columns, self.bits)
    }

    /// 32-bit words of zeros in a row, four 8-bit zeros each; none where every group has the same zero.
    pub fn zero_words_per_row(&self) -> usize {
        match self.spacing {
            Spacing::Even => self.groups().div_ceil(4),
            Spacing::Symmetric | Spacing::NormalFloat => 0,
        }
    }

    /// Bytes of codes, scales and zeros.
    pub fn bytes(&self) -> usize {
        self.rows * (4 * self.words_per_row() + 2 * self.groups() + 4 * self.zero_words_per_row())
    }
}

/// Packed weights on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedWeights {
    /// Their size.
    pub shape: PackedShape,
    /// Codes, in the streams of `ops/packed_linear`.
    pub words: Vec<i32>,
    /// Half-precision scales.
    pub scales: Vec<f16>,
    /// Zeros, four to a word; empty where there are none.
    pub zeros: Vec<i32>,
}

impl PackedWeights {
    /// All codes, scales and zeros 0.
    pub fn new(shape: PackedShape) -> Self {
        PackedWeights {
            shape,
            words: vec![0; shape.rows * shape.words_per_row()],
            scales: vec![f16::ZERO; shape.rows * shape.groups()],
            zeros: vec![0; shape.rows * shape.zero_words_per_row()],
        }
    }

    /// Of the bytes of each row and its scale, around a zero.
    pub(crate) fn of_bytes<C: Iterator<Item = u8>>(
        dims: [usize; 2],
        codes: impl Fn(usize) -> C,
        scales: Vec<f16>,
    ) -> Self {
        let shape = PackedShape::of_bytes(dims);
        let mut packed = PackedWeights {
            scales,
            ..PackedWeights::new(shape)
        };
        let rows = packed.words.chunks_exact_mut(shape.words_per_row());
        for (row, words) in rows.enumerate() {
            for (i, code) in codes(row).enumerate() {
                words[i / 4] |= i32::from(code) << (8 * (i % 4));
            }
        }
        packed
    }

    /// Sets a code once.
    pub(in crate::techniques::quantization) fn set_code(&mut self, row: usize, column: usize, code: u32) {
        let (per_row, columns) = (self.shape.words_per_row(), self.shape.columns);
        let words = &mut self.words[row * per_row..][..per_row];
        put_code(words, columns, self.shape.bits, column, code);
    }

    /// Sets the scale of a group once.
    pub(in crate::techniques::quantization) fn set_scale(&mut self, row: usize, group: usize, scale: f16) {
        self.scales[row * self.shape.groups() + group] = scale;
    }

    /// Sets the zero of a group once.
    pub(in crate::techniques::quantization) fn set_zero(&mut self, row: usize, group: usize, zero: u8) {
        let per_row = self.shape.zero_words_per_row();
        put_zero(&mut self.zeros[row * per_row..][..per_row], group, zero);
    }

    /// Moves the weights to a device.
    pub fn into_module<B: Backend>(self, device: &B::Device) -> Packed<B> {
        let PackedShape {
            rows,
            columns,
            bits,
            group,
            spacing,
            integer,
        } = self.shape;
        let words = |values: Vec<i32>, per_row: usize| {
            Tensor::<B, 2, Int>::from_data(TensorData::new(values, [rows, per_row]), (device, DType::I32))
        };
        let scales = TensorData::new(self.scales, [rows, self.shape.groups()]);
        Packed {
            words: words(self.words, self.shape.words_per_row()),
            scales: Tensor::from_data(scales, (device, DType::F16)),
            zeros: (spacing == Spacing::Even).then(|| words(self.zeros, self.shape.zero_words_per_row())),
            bits,
            group,
            columns,
            integer,
        }
    }
}

/// Sets a code of a row of `columns` once.
pub(in crate::techniques) fn put_code(
    words: &mut [i32],
    columns: usize,
    bits: usize,
    column: usize,
    code: u32,
) {
    let [low, high] = streams(bits);
    let mut put = |first: usize, bits: usize, code: u32| {
        let word = &mut words[first + column * bits / 32];
        *word = (*word as u32 | code << (column * bits % 32)) as i32;
    };
    put(0, low, code & ((1 << low) - 1));
    if high > 0 {
        put(words_per_row(columns, low), high, code >> low);
    }
}

/// Sets the zero of a group of a row once.
pub(in crate::techniques) fn put_zero(words: &mut [i32], group: usize, zero: u8) {
    let word = &mut words[group / 4];
    *word = (*word as u32 | u32::from(zero) << (8 * (group % 4))) as i32;
}

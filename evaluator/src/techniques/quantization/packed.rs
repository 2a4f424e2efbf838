//! Weights packed to few bits: the form in memory, on disk and under multiplication.
//!
//! The packed layout itself is described where it is multiplied, in `ops/packed_linear/`.

use burn::{
    module::Module,
    tensor::{DType, Int, Tensor, TensorData, backend::Backend},
};
use half::f16;
use serde::{Deserialize, Serialize};

use crate::{
    counter,
    ops::{Levels, Ops, PackedMatrixParts, packed_linear, streams, unpack_rows, words_per_row},
};

use super::nf4;

/// The counter of products in whole numbers.
pub(crate) const INTEGER_ACTIVITY: &str = "integer_products";

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
    pub(super) fn set_code(&mut self, row: usize, column: usize, code: u32) {
        let (per_row, columns) = (self.shape.words_per_row(), self.shape.columns);
        let words = &mut self.words[row * per_row..][..per_row];
        put_code(words, columns, self.shape.bits, column, code);
    }

    /// Sets the scale of a group once.
    pub(super) fn set_scale(&mut self, row: usize, group: usize, scale: f16) {
        self.scales[row * self.shape.groups() + group] = scale;
    }

    /// Sets the zero of a group once.
    pub(super) fn set_zero(&mut self, row: usize, group: usize, zero: u8) {
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

/// A packed matrix `[out, in]`.
#[derive(Module, Debug)]
pub struct Packed<B: Backend> {
    words: Tensor<B, 2, Int>,
    scales: Tensor<B, 2>,
    /// `None` where levels are those of a code book.
    zeros: Option<Tensor<B, 2, Int>>,
    bits: usize,
    group: usize,
    columns: usize,
    integer: bool,
}

impl<B: Backend> Packed<B> {
    /// Rows and columns of the matrix.
    pub fn dims(&self) -> [usize; 2] {
        [self.words.dims()[0], self.columns]
    }

    /// The weights back on the host, still packed.
    pub fn to_host(&self) -> PackedWeights {
        let shape = PackedShape {
            rows: self.dims()[0],
            columns: self.columns,
            bits: self.bits,
            group: self.group,
            spacing: match self.zeros {
                Some(_) => Spacing::Even,
                None => Spacing::NormalFloat,
            },
            integer: self.integer,
        };
        let zeros = self
            .zeros
            .iter()
            .flat_map(|zeros| zeros.to_data().iter::<i32>().collect::<Vec<_>>());
        PackedWeights {
            shape,
            words: self.words.to_data().iter::<i32>().collect(),
            scales: self.scales.to_data().iter::<f16>().collect(),
            zeros: zeros.collect(),
        }
    }
}

impl<B: Ops> Packed<B> {
    fn parts(&self) -> PackedMatrixParts<burn::tensor::ops::IntTensor<B>, burn::tensor::ops::FloatTensor<B>> {
        self.parts_of(self.words.clone(), self.scales.clone(), self.zeros.clone())
    }

    fn parts_of(
        &self,
        words: Tensor<B, 2, Int>,
        scales: Tensor<B, 2>,
        zeros: Option<Tensor<B, 2, Int>>,
    ) -> PackedMatrixParts<burn::tensor::ops::IntTensor<B>, burn::tensor::ops::FloatTensor<B>> {
        PackedMatrixParts {
            words: words.into_primitive(),
            scales: scales.into_primitive().tensor(),
            levels: match zeros {
                Some(zeros) => Levels::Even(zeros.into_primitive()),
                None => Levels::Book(*nf4::LEVELS),
            },
            bits: self.bits,
            group: self.group,
            columns: self.columns,
            integer: self.integer,
        }
    }

    pub(crate) fn apply<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        counter::add_activity("packed_products", 1);
        if self.integer {
            counter::add_activity(INTEGER_ACTIVITY, 1);
        }
        packed_linear(x, self.parts())
    }

    pub(crate) fn rows(&self, ids: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        let pick = |t: &Tensor<B, 2, Int>| t.clone().select(0, ids.clone());
        unpack_rows(self.parts_of(
            pick(&self.words),
            self.scales.clone().select(0, ids.clone()),
            self.zeros.as_ref().map(pick),
        ))
    }

    /// All weights as floats, `[out, in]`.
    pub(crate) fn all_rows(&self) -> Tensor<B, 2> {
        unpack_rows(self.parts())
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::Flex,
        tensor::{Distribution, Tolerance},
    };

    use super::*;

    fn random(shape: PackedShape) -> PackedWeights {
        let mut packed = PackedWeights::new(shape);
        let mut state = 12345u32;
        let mut next = |n: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % n
        };
        for r in 0..shape.rows {
            for g in 0..shape.groups() {
                packed.set_scale(r, g, f16::from_f32(0.01 + next(100) as f32 * 1e-4));
                if shape.spacing == Spacing::Even {
                    packed.set_zero(r, g, next(1 << shape.bits) as u8);
                }
            }
            for c in 0..shape.columns {
                packed.set_code(r, c, next(1 << shape.bits));
            }
        }
        packed
    }

    #[test]
    fn products_and_rows_equal_those_of_the_unpacked_weights() {
        let device = Default::default();
        let even = [2, 3, 4, 5, 6, 8].map(|bits| (bits, Spacing::Even));
        for (bits, spacing) in even.into_iter().chain([(4, Spacing::NormalFloat)]) {
            for (columns, group) in [(64, 32), (40, 32), (9, 64), (200, 128)] {
                let shape = PackedShape {
                    rows: 37,
                    columns,
                    bits,
                    group,
                    spacing,
                    integer: false,
                };
                let host = random(shape);
                let module = host.clone().into_module::<Flex>(&device);
                assert_eq!(module.to_host(), host, "to the device and back");
                let weights = module.all_rows();
                for n in [1, 3, 20] {
                    let x = Tensor::<Flex, 2>::random([n, columns], Distribution::Default, &device);
                    let plain = x.clone().matmul(weights.clone().transpose());
                    module
                        .apply(x)
                        .into_data()
                        .assert_approx_eq::<f32>(&plain.into_data(), Tolerance::rel_abs(1e-3, 1e-3));
                }
                let ids = Tensor::<Flex, 1, Int>::from_data([5, 0, 36], &device);
                assert_eq!(
                    module.rows(ids.clone()).into_data(),
                    weights.select(0, ids).into_data()
                );
            }
        }
    }

    #[test]
    fn codes_come_back_from_every_number_of_bits() {
        for bits in [2, 3, 4, 5, 6, 8] {
            let shape = PackedShape {
                rows: 3,
                columns: 77,
                bits,
                group: 32,
                spacing: Spacing::Even,
                integer: false,
            };
            let code = |r: usize, c: usize| (((r * 77 + c) * 2_654_435) >> 3) as u32 % (1 << bits);
            let mut packed = PackedWeights::new(shape);
            for r in 0..3 {
                for g in 0..shape.groups() {
                    packed.set_scale(r, g, f16::ONE);
                }
                for c in 0..77 {
                    packed.set_code(r, c, code(r, c));
                }
            }
            let back = packed.into_module::<Flex>(&Default::default()).all_rows();
            let back: Vec<f32> = back.into_data().iter().collect();
            let codes = (0..3).flat_map(|r| (0..77).map(move |c| code(r, c) as f32));
            assert_eq!(back, codes.collect::<Vec<_>>(), "{bits} bits");
        }
    }

    #[test]
    fn bytes_are_those_of_the_bits() {
        for bits in [2, 3, 4, 5, 6, 8] {
            for spacing in [Spacing::Even, Spacing::NormalFloat] {
                let shape = PackedShape {
                    rows: 100,
                    columns: 256,
                    bits,
                    group: 64,
                    spacing,
                    integer: false,
                };
                // b bits, and for each 64 of them a scale of 16 and a zero of 8, where there is one
                let zero = if spacing == Spacing::Even { 8 } else { 0 };
                assert_eq!(shape.bytes() * 8, 100 * (256 * bits + 4 * (16 + zero)));
                let packed = PackedWeights::new(shape);
                let held = 4 * packed.words.len() + 2 * packed.scales.len() + 4 * packed.zeros.len();
                assert_eq!(held, shape.bytes(), "on the host");
                let module = packed.into_module::<Flex>(&Default::default());
                let zeros = module
                    .zeros
                    .as_ref()
                    .map_or(0, |zeros| zeros.to_data().bytes.len());
                let held = module.words.to_data().bytes.len() + module.scales.to_data().bytes.len() + zeros;
                assert_eq!(held, shape.bytes(), "in the tensors that serve");
            }
        }
    }
}

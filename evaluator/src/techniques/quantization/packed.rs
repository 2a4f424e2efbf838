//! Weights packed to few bits: the form in memory, on disk and under multiplication.
//!
//! The packed layout itself is described where it is multiplied, in `ops/packed_linear.rs`.

use burn::{
    module::Module,
    tensor::{DType, Int, Tensor, TensorData, backend::Backend},
};
use half::f16;
use serde::{Deserialize, Serialize};

use crate::{
    counter,
    ops::{Ops, PackedMatrixParts, packed_linear, unpack_rows},
};

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
}

impl PackedShape {
    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.columns.div_ceil(self.group)
    }

    /// 32-bit words of codes in a row.
    pub fn words_per_row(&self) -> usize {
        (self.columns * self.bits).div_ceil(32)
    }

    /// 32-bit words of zeros in a row, four 8-bit zeros each.
    pub fn zero_words_per_row(&self) -> usize {
        self.groups().div_ceil(4)
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
    /// Codes, little-endian within each word.
    pub words: Vec<i32>,
    /// Half-precision scales.
    pub scales: Vec<f16>,
    /// Zeros, four to a word.
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

    /// Sets a code once.
    pub(super) fn set_code(&mut self, row: usize, column: usize, code: u32) {
        let bit = column * self.shape.bits;
        let word = &mut self.words[row * self.shape.words_per_row() + bit / 32];
        *word = (*word as u32 | code << (bit % 32)) as i32;
    }

    /// Sets the scale and the zero of a group once.
    pub(super) fn set_group(&mut self, row: usize, group: usize, scale: f16, zero: u8) {
        self.scales[row * self.shape.groups() + group] = scale;
        let word = &mut self.zeros[row * self.shape.zero_words_per_row() + group / 4];
        *word = (*word as u32 | u32::from(zero) << (8 * (group % 4))) as i32;
    }

    /// Moves the weights to a device.
    pub fn into_module<B: Backend>(self, device: &B::Device) -> Packed<B> {
        let PackedShape {
            rows,
            columns,
            bits,
            group,
        } = self.shape;
        let words = |values: Vec<i32>, per_row: usize| {
            Tensor::<B, 2, Int>::from_data(TensorData::new(values, [rows, per_row]), (device, DType::I32))
        };
        let scales = TensorData::new(self.scales, [rows, self.shape.groups()]);
        Packed {
            words: words(self.words, self.shape.words_per_row()),
            scales: Tensor::from_data(scales, (device, DType::F16)),
            zeros: words(self.zeros, self.shape.zero_words_per_row()),
            bits,
            group,
            columns,
        }
    }
}

/// A packed matrix `[out, in]`.
#[derive(Module, Debug)]
pub struct Packed<B: Backend> {
    words: Tensor<B, 2, Int>,
    scales: Tensor<B, 2>,
    zeros: Tensor<B, 2, Int>,
    bits: usize,
    group: usize,
    columns: usize,
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
        };
        PackedWeights {
            shape,
            words: self.words.to_data().iter::<i32>().collect(),
            scales: self.scales.to_data().iter::<f16>().collect(),
            zeros: self.zeros.to_data().iter::<i32>().collect(),
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
        zeros: Tensor<B, 2, Int>,
    ) -> PackedMatrixParts<burn::tensor::ops::IntTensor<B>, burn::tensor::ops::FloatTensor<B>> {
        PackedMatrixParts {
            words: words.into_primitive(),
            scales: scales.into_primitive().tensor(),
            zeros: zeros.into_primitive(),
            bits: self.bits,
            group: self.group,
            columns: self.columns,
        }
    }

    pub(crate) fn apply<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        counter::add_activity("packed_products", 1);
        packed_linear(x, self.parts())
    }

    pub(crate) fn rows(&self, ids: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        let pick = |t: &Tensor<B, 2, Int>| t.clone().select(0, ids.clone());
        unpack_rows(self.parts_of(
            pick(&self.words),
            self.scales.clone().select(0, ids.clone()),
            pick(&self.zeros),
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
                packed.set_group(
                    r,
                    g,
                    f16::from_f32(0.01 + next(100) as f32 * 1e-4),
                    next(1 << shape.bits) as u8,
                );
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
        for bits in [2, 4, 8] {
            for (columns, group) in [(64, 32), (40, 32), (9, 64), (200, 128)] {
                let shape = PackedShape {
                    rows: 37,
                    columns,
                    bits,
                    group,
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
    fn bytes_are_those_of_the_bits() {
        let shape = PackedShape {
            rows: 100,
            columns: 128,
            bits: 4,
            group: 64,
        };
        let packed = PackedWeights::new(shape);
        let held = 4 * packed.words.len() + 2 * packed.scales.len() + 4 * packed.zeros.len();
        assert_eq!(held, shape.bytes());
        // 4 bits, and 16 + 16 bits for the scale and (here two of four used) zeros of each 64
        assert_eq!(shape.bytes() * 8, 100 * (128 * 4 + 2 * 16 + 32));
    }
}

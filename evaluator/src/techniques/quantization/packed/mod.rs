//! Weights packed to few bits: the form in memory, on disk and under multiplication.
//!
//! The packed layout itself is described where it is multiplied, in `ops/packed_linear/`.

mod host;

use burn::{
    module::Module,
    tensor::{Int, Tensor, backend::Backend},
};
use half::f16;

pub use self::host::{PackedShape, PackedWeights, Spacing};
pub(in crate::techniques) use self::host::{put_code, put_zero};
use super::nf4;
use crate::{
    counter,
    ops::{Levels, Ops, PackedMatrixParts, packed_linear, unpack_rows},
};

/// The counter of products in whole numbers.
pub(crate) const INTEGER_ACTIVITY: &str = "integer_products";

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

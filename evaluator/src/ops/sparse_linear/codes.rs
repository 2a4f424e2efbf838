//! Codes of nonzeros, made floats for a few rows at a time, while these are in a core's own cache.
//!
//! Codes of all rows follow one another, so a group's may begin anywhere in a word. Eight are read at once, beyond the end of a
//! group too: what is written too much the next group covers.

use std::ops::Range;

use burn::{backend::flex::FlexTensor, tensor::TensorMetadata};
use half::{f16, slice::HalfFloatSliceExt};
use multiversion::multiversion;

use super::{COLUMNS_PER_WORD, CodeParts, SparseLayout, cpu::Matrix};
use crate::ops::packed_linear::{ZEROS_PER_WORD, streams, words_per_row};

/// Codes that are read at once.
pub(super) const LANES: usize = 8;

/// Codes in memory, with the levels of their groups.
#[derive(Clone, Copy)]
pub(super) struct Codes<'a> {
    /// The words of both streams.
    words: [&'a [i32]; 2],
    scales: &'a [f16],
    zeros: &'a [i32],
    groups: usize,
    bits: usize,
    group: usize,
}

impl<'a> Codes<'a> {
    pub(super) fn of(codes: &'a CodeParts<FlexTensor, FlexTensor>) -> Codes<'a> {
        let words: &[i32] = codes.words.as_slice().expect("codes are contiguous 32-bit words");
        let (low, high) = words.split_at(words_per_row(codes.nonzeros, streams(codes.bits)[0]));
        Codes {
            words: [low, high],
            scales: codes
                .scales
                .as_slice()
                .expect("scales are contiguous half floats"),
            zeros: codes.zeros.as_slice().expect("zeros are contiguous 32-bit words"),
            groups: codes.scales.shape()[1],
            bits: codes.bits,
            group: codes.group,
        }
    }

    /// The zero of a group.
    #[inline(always)]
    fn zero(&self, row: usize, group: usize) -> f32 {
        let word = self.zeros[row * self.groups.div_ceil(ZEROS_PER_WORD) + group / ZEROS_PER_WORD];
        (word >> (8 * (group % ZEROS_PER_WORD)) & 0xff) as f32
    }
}

/// Writes the nonzeros of some rows of a matrix, and has room for [`LANES`] more.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+fma+popcnt", "x86_64+avx2+fma+popcnt"))]
pub(super) fn unpack(m: Matrix, codes: Codes, rows: Range<usize>, out: &mut [f32]) {
    match codes.bits {
        8 => unpack_rows::<8, 0>(m, codes, rows, out),
        6 => unpack_rows::<4, 2>(m, codes, rows, out),
        5 => unpack_rows::<4, 1>(m, codes, rows, out),
        4 => unpack_rows::<4, 0>(m, codes, rows, out),
        3 => unpack_rows::<2, 1>(m, codes, rows, out),
        _ => unpack_rows::<2, 0>(m, codes, rows, out),
    }
}

#[inline(always)]
fn unpack_rows<const LOW: usize, const HIGH: usize>(
    m: Matrix,
    codes: Codes,
    rows: Range<usize>,
    out: &mut [f32],
) {
    let mut scales = vec![0.0f32; rows.len() * codes.groups];
    codes.scales[rows.start * codes.groups..][..scales.len()].convert_to_f32_slice(&mut scales);
    let (before, [low, high]) = (m.start(rows.start), codes.words);
    for (row, scales) in rows.zip(scales.chunks_exact(codes.groups)) {
        let (mut number, row_end) = (m.start(row), m.start(row + 1));
        let groups = m.places(row).chunks(codes.group / COLUMNS_PER_WORD);
        for (g, (places, scale)) in groups.zip(scales).enumerate() {
            let zero = codes.zero(row, g);
            let kept = match m.layout {
                SparseLayout::Bitmap => places.iter().map(|word| word.count_ones() as usize).sum(),
                SparseLayout::TwoOfFour => (places.len() * COLUMNS_PER_WORD / 2).min(row_end - number),
            };
            let end = number + kept;
            for at in (number..end).step_by(LANES) {
                let mut eight = read::<LOW>(low, at);
                if HIGH > 0 {
                    for (code, more) in eight.iter_mut().zip(read::<HIGH>(high, at)) {
                        *code += more << LOW;
                    }
                }
                for (out, code) in out[at - before..][..LANES].iter_mut().zip(eight) {
                    *out = scale * (code as f32 - zero);
                }
            }
            number = end;
        }
    }
}

/// The codes of a stream from number `at` on.
#[inline(always)]
fn read<const BITS: usize>(words: &[i32], at: usize) -> [i32; LANES] {
    let mut codes = [0; LANES];
    let (mask, of_one) = ((1i32 << BITS) - 1, if BITS == 8 { 4 } else { LANES });
    for (i, codes) in codes.chunks_exact_mut(of_one).enumerate() {
        let bits = read_word(words, (at + of_one * i) * BITS);
        for (j, code) in codes.iter_mut().enumerate() {
            *code = (bits >> (BITS * j)) as i32 & mask;
        }
    }
    codes
}

/// The 32 bits from bit `at` on, those beyond the last word 0.
#[inline(always)]
fn read_word(words: &[i32], at: usize) -> u32 {
    let (first, shift) = (at / 32, at % 32);
    let (low, high) = match words.get(first..first + 2) {
        Some(both) => (both[0], both[1]),
        None => (words.get(first).copied().unwrap_or(0), 0),
    };
    ((u64::from(low as u32) | u64::from(high as u32) << 32) >> shift) as u32
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::Flex,
        tensor::{DType, Distribution, Int, Tensor, TensorData, Tolerance},
    };

    use super::{
        super::{NonzeroParts, SparseMatrixParts, cpu::tests::matrix},
        *,
    };
    use crate::{
        counter,
        ops::{sparse_linear, unwrap, with_zeros},
    };

    /// A matrix as [`matrix`] makes it, with codes for its nonzeros.
    fn coded(
        rows: usize,
        columns: usize,
        layout: SparseLayout,
        [bits, group]: [usize; 2],
    ) -> SparseMatrixParts<FlexTensor, FlexTensor> {
        let w = matrix(rows, columns, layout);
        let NonzeroParts::Floats(floats) = &w.values else {
            panic!("they are floats")
        };
        let (nonzeros, groups, device) = (floats.shape()[0], columns.div_ceil(group), Default::default());
        let random = |n: usize, seed: u32| -> Vec<i32> {
            let numbers = (0..n as u32).map(|i| (i + seed).wrapping_mul(2_654_435_761) as i32);
            numbers.collect()
        };
        let words = random(words_per_row(nonzeros, bits), 1);
        let words = TensorData::new(words.clone(), [words.len()]);
        let zero_words = groups.div_ceil(ZEROS_PER_WORD);
        let zeros = TensorData::new(random(rows * zero_words, 99), [rows, zero_words]);
        let scales = (0..rows * groups).map(|i| f16::from_f32(0.01 + i as f32 % 7.0 * 0.003));
        let scales = TensorData::new(scales.collect::<Vec<_>>(), [rows, groups]);
        SparseMatrixParts {
            values: NonzeroParts::Codes(CodeParts {
                words: Tensor::<Flex, 1, Int>::from_data(words, (&device, DType::I32)).into_primitive(),
                scales: unwrap(Tensor::<Flex, 2>::from_data(scales, (&device, DType::F16))),
                zeros: Tensor::<Flex, 2, Int>::from_data(zeros, (&device, DType::I32)).into_primitive(),
                bits,
                group,
                nonzeros,
            }),
            ..w
        }
    }

    #[test]
    fn products_with_codes_equal_the_dense_ones_with_zeros() {
        let device = Default::default();
        for (layout, widths) in [
            (SparseLayout::Bitmap, [1, 31, 33, 100, 330]),
            (SparseLayout::TwoOfFour, [4, 28, 36, 100, 332]),
        ] {
            for columns in widths {
                // groups without nonzeros and with a single one are among these, and whole rows
                for (rows, bits, group) in [
                    (1, 4, 32),
                    (19, 4, 64),
                    (150, 8, 32),
                    (19, 2, 32),
                    (19, 3, 128),
                    (19, 5, 32),
                    (19, 6, 64),
                    (5, 8, 128),
                ] {
                    let w = coded(rows, columns, layout, [bits, group]);
                    let NonzeroParts::Codes(CodeParts { nonzeros, .. }) = w.values else {
                        panic!("they are codes")
                    };
                    let dense = with_zeros::<Flex>(w.clone());
                    let ones = Tensor::<Flex, 1>::ones([nonzeros], &device);
                    let places = with_zeros::<Flex>(SparseMatrixParts {
                        values: NonzeroParts::Floats(unwrap(ones)),
                        ..matrix(rows, columns, layout)
                    });
                    let (places, weights) = (places.into_data(), dense.to_data());
                    for (place, weight) in places.iter::<f32>().zip(weights.iter::<f32>()) {
                        assert!(place != 0.0 || weight.to_bits() == 0, "what is removed is zero");
                    }
                    for n in [1, 2, 4, 7, 9, 64, 130] {
                        let x = Tensor::<Flex, 2>::random([n, columns], Distribution::Default, &device);
                        let (y, macs) =
                            counter::count_macs(|| sparse_linear::<Flex, 2>(x.clone(), w.clone()));
                        assert_eq!(macs, (n * nonzeros) as u64);
                        // sums of numbers as large as the largest weight may cancel
                        let sizes = x.clone().abs().matmul(dense.clone().abs().transpose());
                        let most: f32 = sizes.max().into_scalar();
                        let expected = x.matmul(dense.clone().transpose());
                        let close = Tolerance::rel_abs(1e-5, 1e-6 * most);
                        y.into_data()
                            .assert_approx_eq::<f32>(&expected.into_data(), close);
                    }
                }
            }
        }
    }

    #[test]
    fn codes_are_read_from_any_bit() {
        let words: Vec<i32> = (1..6).map(|i: i32| i.wrapping_mul(0x5bd1_e995)).collect();
        for at in 0..5 * 32 {
            let bit = |i: usize| words.get(i / 32).map_or(0, |word| *word as u32 >> (i % 32) & 1);
            let expected = (0..32).map(|i| bit(at + i) << i).sum::<u32>();
            assert_eq!(read_word(&words, at), expected, "{at}");
        }
    }
}

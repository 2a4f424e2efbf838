//! With vectors of 16 numbers and instructions that move numbers within them (AVX-512).

use std::arch::x86_64::__m512i;

use pulp::{NullaryFnOnce, Simd, cast, f32x16, x86::V4};

use super::{COLUMNS_PER_WORD, InVectors, Matrix, Task, product, sum};
use crate::ops::sparse_linear::SparseLayout;

const LANES: usize = 16;

impl NullaryFnOnce for InVectors<'_, V4> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let InVectors(simd, Task { m, first, inputs, y }) = self;
        let among = Among::new(simd);
        // whole vectors are written, of which the next one covers what is too much
        let mut met = match m.layout {
            SparseLayout::Bitmap => vec![0.0f32; m.words_per_row * COLUMNS_PER_WORD + LANES],
            SparseLayout::TwoOfFour => vec![],
        };
        for (r, y) in y.chunks_exact_mut(inputs.len()).enumerate() {
            for (y, x) in y.iter_mut().zip(inputs) {
                *y = match m.layout {
                    SparseLayout::Bitmap => of_bitmap(simd, m, first + r, x, &mut met),
                    SparseLayout::TwoOfFour => two_of_four(simd, m, first + r, x, among),
                };
            }
        }
    }
}

/// The product of a row and an input, whose parts that it meets are moved together first.
#[inline(always)]
fn of_bitmap(simd: V4, m: &Matrix, row: usize, x: &[f32], met: &mut [f32]) -> f32 {
    let mut n = 0;
    let pairs = V4::as_simd_f32s(x).0.as_chunks::<2>().0;
    for (word, pair) in m.places(row).iter().zip(pairs) {
        let word = *word as u32;
        for (half, x) in [word as u16, (word >> 16) as u16].into_iter().zip(pair) {
            let together = simd.avx512f._mm512_maskz_compress_ps(half, cast(*x));
            V4::as_mut_simd_f32s(&mut met[n..n + LANES]).0[0] = cast(together);
            n += half.count_ones() as usize;
        }
    }
    product(simd, m.row(row), &met[..n])
}

/// The product of a row and an input, which is read where its nonzeros say.
#[inline(always)]
fn two_of_four(simd: V4, m: &Matrix, row: usize, x: &[f32], among: Among) -> f32 {
    let places = m.places(row);
    let (weights, rest) = V4::as_simd_f32s(m.row(row));
    let pairs = V4::as_simd_f32s(x).0.as_chunks::<2>().0;
    // four sums, so that no addition waits for the one before; numbered ones stay in registers
    let mut sums = [simd.splat_f32s(0.0); 4];
    let fours = weights.as_chunks::<4>().0;
    let of_places = places.as_chunks::<4>().0.iter();
    for ((weights, words), pairs) in fours.iter().zip(of_places).zip(pairs.as_chunks::<4>().0) {
        for i in 0..4 {
            let met = among.met(simd, words[i], &pairs[i]);
            sums[i] = simd.mul_add_e_f32s(weights[i], met, sums[i]);
        }
    }
    for i in 4 * fours.len()..places.len() {
        let weights = match weights.get(i) {
            Some(weights) => *weights,
            None => simd.partial_load_f32s(rest),
        };
        let met = among.met(simd, places[i], &pairs[i]);
        sums[0] = simd.mul_add_e_f32s(weights, met, sums[0]);
    }
    sum(simd, sums)
}

/// What it takes to find the inputs of a word's sixteen nonzeros among its 32 columns.
#[derive(Clone, Copy)]
struct Among {
    shifts: __m512i,
    fours: __m512i,
    mask: __m512i,
}

impl Among {
    #[inline(always)]
    fn new(simd: V4) -> Self {
        let (mut shifts, mut fours) = ([0i32; LANES], [0i32; LANES]);
        for i in 0..LANES {
            shifts[i] = 2 * i as i32;
            fours[i] = 4 * (i as i32 / 2);
        }
        Among {
            shifts: cast(shifts),
            fours: cast(fours),
            mask: simd.avx512f._mm512_set1_epi32(3),
        }
    }

    #[inline(always)]
    fn met(self, simd: V4, word: i32, [low, high]: &[f32x16; 2]) -> f32x16 {
        let avx = simd.avx512f;
        let fields = avx._mm512_srlv_epi32(avx._mm512_set1_epi32(word), self.shifts);
        let columns = avx._mm512_or_si512(avx._mm512_and_si512(fields, self.mask), self.fours);
        cast(avx._mm512_permutex2var_ps(cast(*low), columns, cast(*high)))
    }
}

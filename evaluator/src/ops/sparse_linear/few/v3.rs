//! With vectors of 8 numbers and an instruction that moves them within one as it is told (AVX2): of a bitmap, each byte tells it
//! by a table which inputs its nonzeros meet.

use std::arch::x86_64::__m256i;

use pulp::{NullaryFnOnce, Simd, cast, f32x8, x86::V3};

use super::{COLUMNS_PER_WORD, InVectors, Matrix, Task, product, sum};
use crate::ops::sparse_linear::SparseLayout;

const LANES: usize = 8;

/// Where the columns of a byte's bits are that are set, one after the other.
static TOGETHER: [[u8; LANES]; 256] = together();

const fn together() -> [[u8; LANES]; 256] {
    let mut all = [[0; LANES]; 256];
    let mut byte = 0;
    while byte < all.len() {
        let (mut column, mut n) = (0, 0);
        while column < LANES {
            if byte >> column & 1 == 1 {
                all[byte][n] = column as u8;
                n += 1;
            }
            column += 1;
        }
        byte += 1;
    }
    all
}

/// Inputs of a word's nonzeros at most, and what is written too much.
const WINDOW: usize = COLUMNS_PER_WORD + LANES;

impl NullaryFnOnce for InVectors<'_, V3> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let InVectors(simd, Task { m, first, inputs, y }) = self;
        let among = Among::new(simd);
        // whole vectors are written, of which the next one covers what is too much
        let mut met = match m.layout {
            SparseLayout::Bitmap => vec![0.0f32; m.words_per_row * COLUMNS_PER_WORD + WINDOW],
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
fn of_bitmap(simd: V3, m: &Matrix, row: usize, x: &[f32], met: &mut [f32]) -> f32 {
    let mut n = 0;
    let fours = V3::as_simd_f32s(x).0.as_chunks::<4>().0;
    for (word, four) in m.places(row).iter().zip(fours) {
        let word = *word as u32;
        let window: &mut [f32; WINDOW] = met[n..].first_chunk_mut().expect("a row has no more");
        for (i, x) in four.iter().enumerate() {
            let before = word & ((1 << (LANES * i)) - 1);
            let order = [TOGETHER[word.to_le_bytes()[i] as usize], [0; LANES]];
            let order = simd.avx2._mm256_cvtepu8_epi32(cast(order));
            let together = simd.avx2._mm256_permutevar8x32_ps(cast(*x), order);
            let together: [f32; LANES] = cast(together);
            window[before.count_ones() as usize..][..LANES].copy_from_slice(&together);
        }
        n += word.count_ones() as usize;
    }
    product(simd, m.row(row), &met[..n])
}

/// The product of a row and an input, which is read where its nonzeros say.
#[inline(always)]
fn two_of_four(simd: V3, m: &Matrix, row: usize, x: &[f32], among: Among) -> f32 {
    let places = m.places(row);
    let (weights, rest) = V3::as_simd_f32s(m.row(row));
    let halves = V3::as_simd_f32s(x).0.as_chunks::<2>().0.as_chunks::<2>().0;
    // four sums, so that no addition waits for the one before; numbered ones stay in registers
    let mut sums = [simd.splat_f32s(0.0); 4];
    let fours = weights.as_chunks::<4>().0;
    let of_words = places.as_chunks::<2>().0.iter().zip(halves.as_chunks::<2>().0);
    for (weights, (words, columns)) in fours.iter().zip(of_words) {
        for i in 0..4 {
            let met = among.met(simd, words[i / 2] >> (16 * (i % 2)), &columns[i / 2][i % 2]);
            sums[i] = simd.mul_add_e_f32s(weights[i], met, sums[i]);
        }
    }
    for i in 4 * fours.len()..2 * places.len() {
        let weights = match weights.get(i) {
            Some(weights) => *weights,
            None if i == weights.len() => simd.partial_load_f32s(rest),
            None => break,
        };
        let met = among.met(simd, places[i / 2] >> (16 * (i % 2)), &halves[i / 2][i % 2]);
        sums[0] = simd.mul_add_e_f32s(weights, met, sums[0]);
    }
    sum(simd, sums)
}

/// What it takes to find the inputs of half a word's eight nonzeros among its 16 columns.
#[derive(Clone, Copy)]
struct Among {
    shifts: __m256i,
    fours: __m256i,
    mask: __m256i,
}

impl Among {
    #[inline(always)]
    fn new(simd: V3) -> Self {
        let (mut shifts, mut fours) = ([0i32; LANES], [0i32; LANES]);
        for i in 0..LANES {
            shifts[i] = 2 * i as i32;
            fours[i] = 4 * (i as i32 / 2 % 2);
        }
        Among {
            shifts: cast(shifts),
            fours: cast(fours),
            mask: simd.avx._mm256_set1_epi32(3),
        }
    }

    #[inline(always)]
    fn met(self, simd: V3, half: i32, [low, high]: &[f32x8; 2]) -> f32x8 {
        let (avx, avx2) = (simd.avx, simd.avx2);
        let fields = avx2._mm256_srlv_epi32(avx._mm256_set1_epi32(half), self.shifts);
        let columns = avx2._mm256_or_si256(avx2._mm256_and_si256(fields, self.mask), self.fours);
        let of = |x: f32x8| avx2._mm256_permutevar8x32_ps(cast(x), columns);
        // four nonzeros are among the first eight columns, four among the next
        cast(avx._mm256_blend_ps::<0b1111_0000>(of(*low), of(*high)))
    }
}

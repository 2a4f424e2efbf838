//! Sums of products with AVX2: bytes are widened to 16 bits, of which pairs of products are summed up in 32.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_shuffle_epi32, _mm256_add_epi32,
    _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_extracti128_si256, _mm256_madd_epi16,
    _mm256_setzero_si256,
};

use super::ROWS_AT_ONCE;

/// Numbers that are widened at once.
const LANES: usize = 16;

/// Whether the processor has these instructions.
pub(super) fn is_there() -> bool {
    is_x86_feature_detected!("avx2")
}

#[expect(unsafe_code, reason = "instructions that not every processor has")]
pub(super) fn run(w: &[i8], x: &[i8], columns: usize, y: &mut [i32]) {
    // SAFETY: the caller has asked `is_there`, and the function touches memory only by references
    unsafe { blocks(w, x, columns, y) }
}

#[target_feature(enable = "avx2")]
fn blocks(w: &[i8], x: &[i8], columns: usize, y: &mut [i32]) {
    let rows = w.len() / columns;
    let row = |r: usize| &w[r * columns..][..columns];
    let whole = rows - rows % ROWS_AT_ONCE;
    for r in (0..whole).step_by(ROWS_AT_ONCE) {
        let few: [&[i8]; ROWS_AT_ONCE] = std::array::from_fn(|i| row(r + i));
        for (i, x) in x.chunks_exact(columns).enumerate() {
            y[i * rows + r..][..ROWS_AT_ONCE].copy_from_slice(&products(few, x));
        }
    }
    for r in whole..rows {
        for (i, x) in x.chunks_exact(columns).enumerate() {
            [y[i * rows + r]] = products([row(r)], x);
        }
    }
}

/// The products of an input with some rows.
#[target_feature(enable = "avx2")]
fn products<const ROWS: usize>(rows: [&[i8]; ROWS], x: &[i8]) -> [i32; ROWS] {
    let (vectors, rest) = x.as_chunks::<LANES>();
    let of_rows = rows.map(|row| row.as_chunks::<LANES>());
    let mut totals = [_mm256_setzero_si256(); ROWS];
    for (v, x) in vectors.iter().enumerate() {
        let x = widened(x);
        for (total, (w, _)) in totals.iter_mut().zip(&of_rows) {
            *total = _mm256_add_epi32(*total, _mm256_madd_epi16(widened(&w[v]), x));
        }
    }
    std::array::from_fn(|r| {
        let (_, w) = of_rows[r];
        let rest = w.iter().zip(rest).map(|(w, x)| i32::from(*w) * i32::from(*x));
        sum(totals[r]) + rest.sum::<i32>()
    })
}

#[target_feature(enable = "avx2")]
fn widened(x: &[i8; LANES]) -> __m256i {
    _mm256_cvtepi8_epi16(pulp::cast::<[i8; LANES], __m128i>(*x))
}

/// The sum of a vector.
#[target_feature(enable = "avx2")]
fn sum(x: __m256i) -> i32 {
    let x = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
    let x = _mm_add_epi32(x, _mm_shuffle_epi32::<0b00_00_11_10>(x));
    _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32::<0b00_00_00_01>(x)))
}

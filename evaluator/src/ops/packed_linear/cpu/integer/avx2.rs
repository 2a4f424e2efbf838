//! Products in whole numbers with AVX2: products of bytes are summed up in 16 bits where they fit, else in 32.

use std::arch::x86_64::{
    __m256, __m256i, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehdup_ps, _mm_movehl_ps, _mm_set1_ps,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_castps256_ps128,
    _mm256_cvtepi32_ps, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set_m128, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi16, _mm256_srai_epi16, _mm256_srli_epi16,
};

use super::{LANES, Matrix, Rounded, Row, each_row};

/// The two halves of a vector of words.
const HALVES: usize = 2;
/// Words of a half.
const WORDS: usize = LANES / HALVES;

/// Whether the processor has these instructions.
pub(super) fn is_there() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

#[expect(unsafe_code, reason = "instructions that not every processor has")]
pub(super) fn run(m: Matrix, first: usize, inputs: &[Rounded], y: &mut [f32]) {
    // SAFETY: the caller has asked `is_there`, and the function touches memory only by references
    unsafe {
        match (m.bits, m.group * m.bits / 32) {
            (4, 4) => rows::<4, 4>(m, first, inputs, y),
            (4, 8) => rows::<4, 8>(m, first, inputs, y),
            (4, 16) => rows::<4, 16>(m, first, inputs, y),
            (8, 8) => rows::<8, 8>(m, first, inputs, y),
            (8, 16) => rows::<8, 16>(m, first, inputs, y),
            (8, 32) => rows::<8, 32>(m, first, inputs, y),
            (bits, words) => unreachable!("{bits} bits in groups of {words} words"),
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn rows<const BITS: usize, const PER_GROUP: usize>(
    m: Matrix,
    first: usize,
    inputs: &[Rounded],
    y: &mut [f32],
) {
    each_row(m, first, inputs.len(), y, |row, y| {
        for (y, x) in y.iter_mut().zip(inputs) {
            *y = product::<BITS, PER_GROUP>(row, x);
        }
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
fn product<const BITS: usize, const PER_GROUP: usize>(row: &Row, x: &Rounded) -> f32 {
    let mut totals = [_mm256_setzero_ps(); HALVES];
    let [low, high] = &x.planes;
    let of_groups = row.scales.iter().zip(row.zeros).zip(x.scales.iter().zip(&x.sums));
    for (g, ((scales, zeros), (of_x, sums))) in of_groups.enumerate() {
        let [scales, zeros, of_x, sums]: [[__m256; HALVES]; 4] =
            [scales, zeros, of_x, sums].map(|values| pulp::cast(*values));
        let mut both = [_mm256_setzero_ps(); HALVES];
        for h in 0..HALVES {
            both[h] = _mm256_mul_ps(scales[h], of_x[h]);
            totals[h] = _mm256_fnmadd_ps(_mm256_mul_ps(scales[h], zeros[h]), sums[h], totals[h]);
        }
        let both: [f32; LANES] = pulp::cast(both);
        // sixteen groups have as many vectors of words as a group has words
        let first = g * PER_GROUP;
        for v in first..low.len().min(first + PER_GROUP) {
            let words: [__m256i; HALVES] = pulp::cast(*row.words.get(v).unwrap_or(&row.rest));
            let low: [__m256i; HALVES] = pulp::cast(low[v]);
            let high: [__m256i; HALVES] = if BITS == 4 { pulp::cast(high[v]) } else { low };
            for h in 0..HALVES {
                let group = ((v - first) * LANES + h * WORDS) / PER_GROUP;
                let scale = if PER_GROUP >= WORDS {
                    _mm256_set1_ps(both[group])
                } else {
                    _mm256_set_m128(_mm_set1_ps(both[group + 1]), _mm_set1_ps(both[group]))
                };
                let sums = if BITS == 4 {
                    of_halves(words[h], low[h], high[h])
                } else {
                    of_bytes(words[h], low[h])
                };
                totals[h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scale, totals[h]);
            }
        }
    }
    sum(_mm256_add_ps(totals[0], totals[1]))
}

/// Sums of a word's eight products of 4-bit codes, none of which exceeds 15 · 127, so that four of them fit in 16 bits.
#[target_feature(enable = "avx2")]
fn of_halves(words: __m256i, low: __m256i, high: __m256i) -> __m256i {
    let mask = _mm256_set1_epi8(15);
    let lower = _mm256_maddubs_epi16(_mm256_and_si256(words, mask), low);
    let upper = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<4>(words), mask), high);
    _mm256_madd_epi16(_mm256_add_epi16(lower, upper), _mm256_set1_epi16(1))
}

/// Sums of a word's four products of 8-bit codes: every other byte is widened, because two products exceed 16 bits.
#[target_feature(enable = "avx2")]
fn of_bytes(words: __m256i, x: __m256i) -> __m256i {
    let even = _mm256_madd_epi16(
        _mm256_and_si256(words, _mm256_set1_epi16(255)),
        _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)),
    );
    let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(words), _mm256_srai_epi16::<8>(x));
    _mm256_add_epi32(even, odd)
}

/// The sum of a vector.
#[target_feature(enable = "avx2")]
fn sum(x: __m256) -> f32 {
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
}

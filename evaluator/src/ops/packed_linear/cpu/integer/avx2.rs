//! Products in whole numbers with AVX2: products of bytes are summed up in 16 bits where they fit, else in 32.

use std::arch::x86_64::{
    __m256, __m256i, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehdup_ps, _mm_movehl_ps, _mm_set1_ps,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_castps256_ps128,
    _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_cvtph_ps, _mm256_extractf128_ps, _mm256_fmadd_ps,
    _mm256_fnmadd_ps, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set_m128,
    _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi16,
    _mm256_srai_epi16, _mm256_srli_epi16,
};

use super::{BYTES, Matrix, Rounded, Row, each_row, fetch_ahead};

/// Words of a vector.
const WORDS: usize = 8;

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
    each_row(m, first, inputs, y, |row, x| product::<BITS, PER_GROUP>(row, x));
}

#[target_feature(enable = "avx2,fma,f16c")]
fn product<const BITS: usize, const PER_GROUP: usize>(row: &Row<WORDS>, x: &Rounded) -> f32 {
    let mut totals = [_mm256_setzero_ps(); 2];
    let [low, high] = [0, 1].map(|plane| x.planes[plane].as_flattened().as_chunks::<{ WORDS * BYTES }>().0);
    let high = if BITS == 4 { high } else { low };
    let [of_x, sums] = [&x.scales, &x.sums].map(|values| values.as_flattened().as_chunks::<WORDS>().0);
    for g in 0..row.scales.len() {
        let (of_x, sums): (__m256, __m256) = (pulp::cast(of_x[g]), pulp::cast(sums[g]));
        let [zeros, rest]: [[u8; WORDS]; 2] = [row.zeros.at(g), [0; WORDS]];
        let zeros = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(pulp::cast([zeros, rest])));
        let own = _mm256_cvtph_ps(pulp::cast(row.scales.at(g)));
        totals[1] = _mm256_fnmadd_ps(_mm256_mul_ps(own, zeros), sums, totals[1]);
        let scales: [f32; WORDS] = pulp::cast(_mm256_mul_ps(own, of_x));
        // eight groups have as many vectors of words as a group has words
        let first = g * PER_GROUP;
        let whole = &row.words.whole[first..];
        for (v, words) in whole.iter().take(PER_GROUP).enumerate() {
            if v % 2 == 0 {
                fetch_ahead(words);
            }
            let (low, high) = (pulp::cast(low[first + v]), pulp::cast(high[first + v]));
            let scale = scale_of::<PER_GROUP>(&scales, v);
            totals[v % 2] = add::<BITS>(totals[v % 2], *words, low, high, scale);
        }
        if let (Some(words), true) = (row.words.rest, whole.len() < PER_GROUP) {
            let v = whole.len();
            let (low, high) = (pulp::cast(low[first + v]), pulp::cast(high[first + v]));
            totals[0] = add::<BITS>(totals[0], words, low, high, scale_of::<PER_GROUP>(&scales, v));
        }
    }
    sum(_mm256_add_ps(totals[0], totals[1]))
}

/// The scale of each word of a vector, which is the one of this number in eight groups.
#[target_feature(enable = "avx2")]
fn scale_of<const PER_GROUP: usize>(scales: &[f32; WORDS], v: usize) -> __m256 {
    let group = v * WORDS / PER_GROUP;
    if PER_GROUP >= WORDS {
        _mm256_set1_ps(scales[group])
    } else {
        _mm256_set_m128(_mm_set1_ps(scales[group + 1]), _mm_set1_ps(scales[group]))
    }
}

/// `total` and the scaled sums of each word's products.
#[target_feature(enable = "avx2,fma")]
fn add<const BITS: usize>(
    total: __m256,
    words: [i32; WORDS],
    low: __m256i,
    high: __m256i,
    scale: __m256,
) -> __m256 {
    let sums = if BITS == 4 {
        of_halves(pulp::cast(words), low, high)
    } else {
        of_bytes(pulp::cast(words), low)
    };
    _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scale, total)
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

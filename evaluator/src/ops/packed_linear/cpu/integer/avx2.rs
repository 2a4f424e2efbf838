//! Products in whole numbers with AVX2: products of bytes are summed up in 16 bits where they fit, else in 32.

use std::arch::x86_64::{
    __m256, __m256i, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehdup_ps, _mm_movehl_ps, _mm_set1_ps,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_castps256_ps128,
    _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_cvtph_ps, _mm256_extractf128_ps, _mm256_fmadd_ps,
    _mm256_fnmadd_ps, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set_m128,
    _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi16,
    _mm256_srai_epi16, _mm256_srli_epi16,
};

use super::{BYTES, Matrix, Rounded, Row, fetch_ahead};

/// Words of a vector.
const WORDS: usize = 8;
/// Inputs that meet a row at once, where there are so many.
const AT_ONCE: usize = 4;

/// A vector's bytes of rounded inputs.
type Bytes = [i8; WORDS * BYTES];

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
    let n = inputs.len();
    let (together, rest) = inputs.as_chunks::<AT_ONCE>();
    for (i, x) in together.iter().enumerate() {
        for (r, y) in y.chunks_exact_mut(n).enumerate() {
            let products = products::<BITS, PER_GROUP>(&Row::of(m, first + r), x);
            y[i * AT_ONCE..][..AT_ONCE].copy_from_slice(&products);
        }
    }
    for (r, y) in y.chunks_exact_mut(n).enumerate() {
        let row = Row::of(m, first + r);
        for (y, x) in y[n - rest.len()..].iter_mut().zip(rest) {
            *y = product::<BITS, PER_GROUP>(&row, x);
        }
    }
}

/// The product of a row and an input alone: what decoding waits for, so its sums stay in registers.
#[target_feature(enable = "avx2,fma,f16c")]
fn product<const BITS: usize, const PER_GROUP: usize>(row: &Row<WORDS>, x: &Rounded) -> f32 {
    let mut totals = [_mm256_setzero_ps(); 2];
    let [low, high] = [0, 1].map(|plane| x.planes[plane].as_flattened().as_chunks::<{ WORDS * BYTES }>().0);
    let high = if BITS == 4 { high } else { low };
    let [of_x, sums] = [&x.scales, &x.sums].map(|values| values.as_flattened().as_chunks::<WORDS>().0);
    for g in 0..row.scales.len() {
        let (of_x, sums): (__m256, __m256) = (pulp::cast(of_x[g]), pulp::cast(sums[g]));
        let [own, zeros] = levels_of(row, g);
        totals[1] = _mm256_fnmadd_ps(zeros, sums, totals[1]);
        let scales: [f32; WORDS] = pulp::cast(_mm256_mul_ps(own, of_x));
        // eight groups have as many vectors of words as a group has words
        let first = g * PER_GROUP;
        let whole = &row.words.whole[first..];
        for (v, words) in whole.iter().take(PER_GROUP).enumerate() {
            if v % 2 == 0 {
                fetch_ahead(words);
            }
            let x = [pulp::cast(low[first + v]), pulp::cast(high[first + v])];
            let scale = scale_of::<PER_GROUP>(&scales, v);
            totals[v % 2] = add::<BITS>(totals[v % 2], codes_of::<BITS>(*words), x, scale);
        }
        if let (Some(words), true) = (row.words.rest, whole.len() < PER_GROUP) {
            let v = whole.len();
            let x = [pulp::cast(low[first + v]), pulp::cast(high[first + v])];
            let scale = scale_of::<PER_GROUP>(&scales, v);
            totals[0] = add::<BITS>(totals[0], codes_of::<BITS>(words), x, scale);
        }
    }
    sum(_mm256_add_ps(totals[0], totals[1]))
}

/// The scales of eight groups, and those times their zeros.
#[target_feature(enable = "avx2,f16c")]
fn levels_of(row: &Row<WORDS>, g: usize) -> [__m256; 2] {
    let [zeros, rest]: [[u8; WORDS]; 2] = [row.zeros.at(g), [0; WORDS]];
    let zeros = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(pulp::cast([zeros, rest])));
    let own = _mm256_cvtph_ps(pulp::cast(row.scales.at(g)));
    [own, _mm256_mul_ps(own, zeros)]
}

/// The products of a row and some inputs, which share what becomes of its codes; the same numbers as each alone.
#[target_feature(enable = "avx2,fma,f16c")]
fn products<const BITS: usize, const PER_GROUP: usize>(
    row: &Row<WORDS>,
    x: &[Rounded; AT_ONCE],
) -> [f32; AT_ONCE] {
    let (mut totals, mut more) = ([_mm256_setzero_ps(); AT_ONCE], [_mm256_setzero_ps(); AT_ONCE]);
    let planes: [[&[Bytes]; 2]; AT_ONCE] = std::array::from_fn(|k| {
        let [low, high] = [0, 1].map(|plane| x[k].planes[plane].as_flattened().as_chunks().0);
        [low, if BITS == 4 { high } else { low }]
    });
    let groups: [[&[[f32; WORDS]]; 2]; AT_ONCE] =
        std::array::from_fn(|k| [&x[k].scales, &x[k].sums].map(|values| values.as_flattened().as_chunks().0));
    for g in 0..row.scales.len() {
        let [own, zeros] = levels_of(row, g);
        let mut scales = [[0.0f32; WORDS]; AT_ONCE];
        for k in 0..AT_ONCE {
            let [of_x, sums] = groups[k];
            more[k] = _mm256_fnmadd_ps(zeros, pulp::cast(sums[g]), more[k]);
            scales[k] = pulp::cast(_mm256_mul_ps(own, pulp::cast(of_x[g])));
        }
        // eight groups have as many vectors of words as a group has words
        let first = g * PER_GROUP;
        let whole = &row.words.whole[first..];
        for (v, words) in whole.iter().take(PER_GROUP).enumerate() {
            if v % 2 == 0 {
                fetch_ahead(words);
            }
            let codes = codes_of::<BITS>(*words);
            for k in 0..AT_ONCE {
                let [low, high] = planes[k];
                let [low, high] = [pulp::cast(low[first + v]), pulp::cast(high[first + v])];
                let scale = scale_of::<PER_GROUP>(&scales[k], v);
                let total = if v % 2 == 1 { &mut more[k] } else { &mut totals[k] };
                *total = add::<BITS>(*total, codes, [low, high], scale);
            }
        }
        if let (Some(words), true) = (row.words.rest, whole.len() < PER_GROUP) {
            let (v, codes) = (whole.len(), codes_of::<BITS>(words));
            for k in 0..AT_ONCE {
                let [low, high] = planes[k];
                let [low, high] = [pulp::cast(low[first + v]), pulp::cast(high[first + v])];
                let scale = scale_of::<PER_GROUP>(&scales[k], v);
                totals[k] = add::<BITS>(totals[k], codes, [low, high], scale);
            }
        }
    }
    let mut products = [0.0; AT_ONCE];
    for k in 0..AT_ONCE {
        products[k] = sum(_mm256_add_ps(totals[k], more[k]));
    }
    products
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

/// The codes of a vector of words, two bytes of each pair apart: the lower and the upper ones of 4 bits, or the even and the odd of 8.
#[target_feature(enable = "avx2")]
fn codes_of<const BITS: usize>(words: [i32; WORDS]) -> [__m256i; 2] {
    let words = pulp::cast(words);
    if BITS == 4 {
        let mask = _mm256_set1_epi8(15);
        let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(words), mask);
        [_mm256_and_si256(words, mask), upper]
    } else {
        [
            _mm256_and_si256(words, _mm256_set1_epi16(255)),
            _mm256_srli_epi16::<8>(words),
        ]
    }
}

/// `total` and the scaled sums of each word's products.
#[target_feature(enable = "avx2,fma")]
fn add<const BITS: usize>(total: __m256, codes: [__m256i; 2], x: [__m256i; 2], scale: __m256) -> __m256 {
    let sums = if BITS == 4 {
        of_halves(codes, x)
    } else {
        of_bytes(codes, x[0])
    };
    _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scale, total)
}

/// Sums of a word's eight products of 4-bit codes, none of which exceeds 15 · 127, so that four of them fit in 16 bits.
#[target_feature(enable = "avx2")]
fn of_halves([lower, upper]: [__m256i; 2], [low, high]: [__m256i; 2]) -> __m256i {
    let products = _mm256_add_epi16(
        _mm256_maddubs_epi16(lower, low),
        _mm256_maddubs_epi16(upper, high),
    );
    _mm256_madd_epi16(products, _mm256_set1_epi16(1))
}

/// Sums of a word's four products of 8-bit codes: every other byte is widened, because two products exceed 16 bits.
#[target_feature(enable = "avx2")]
fn of_bytes([even, odd]: [__m256i; 2], x: __m256i) -> __m256i {
    let low = _mm256_madd_epi16(even, _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)));
    let high = _mm256_madd_epi16(odd, _mm256_srai_epi16::<8>(x));
    _mm256_add_epi32(low, high)
}

/// The sum of a vector.
#[target_feature(enable = "avx2")]
fn sum(x: __m256) -> f32 {
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
}

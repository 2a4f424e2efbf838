//! Products in whole numbers where a processor sums up products of bytes in one instruction (AVX-512 VNNI).

use std::arch::x86_64::{
    __m512, __m512i, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_cvtph_ps,
    _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_mul_ps, _mm512_permutexvar_ps,
    _mm512_reduce_add_ps, _mm512_set1_epi8, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_srli_epi16,
};

use super::{LANES, Matrix, Rounded, Row, each_row, fetch_ahead};

/// Whether the processor sums up products of bytes.
pub(super) fn is_there() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

#[expect(unsafe_code, reason = "instructions that not every processor has")]
pub(super) fn run(m: Matrix, first: usize, inputs: &[Rounded], y: &mut [f32]) {
    // SAFETY: the caller has asked `is_there`, and the function touches memory only by references
    unsafe { rows(m, first, inputs, y) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma,f16c")]
fn rows(m: Matrix, first: usize, inputs: &[Rounded], y: &mut [f32]) {
    let per_group = m.group * m.bits / 32;
    // sixteen groups have as many vectors of words as a group has words
    let groups: Vec<__m512i> = (0..per_group)
        .map(|v| pulp::cast(numbers(v * LANES).map(|word| (word / per_group) as i32)))
        .collect();
    each_row(m, first, inputs, y, |row, x| {
        if m.bits == 4 {
            product::<4>(row, x, &groups)
        } else {
            product::<8>(row, x, &groups)
        }
    });
}

/// The numbers of sixteen words from `first` on.
fn numbers(first: usize) -> [usize; LANES] {
    std::array::from_fn(|lane| first + lane)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma,f16c")]
fn product<const BITS: usize>(row: &Row<LANES>, x: &Rounded, groups: &[__m512i]) -> f32 {
    let (mut total, mask) = (_mm512_setzero_ps(), _mm512_set1_epi8(15));
    let [low, high] = &x.planes;
    for g in 0..row.scales.len() {
        let (of_x, sums): (__m512, __m512) = (pulp::cast(x.scales[g]), pulp::cast(x.sums[g]));
        let own = _mm512_cvtph_ps(pulp::cast(row.scales.at(g)));
        let zeros = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(pulp::cast(row.zeros.at(g))));
        let both = _mm512_mul_ps(own, of_x);
        total = _mm512_fnmadd_ps(_mm512_mul_ps(own, zeros), sums, total);
        let first = g * groups.len();
        for (v, group) in (first..row.words.len()).zip(groups) {
            let words = row.words.at(v);
            if let Some(words) = row.words.whole.get(v) {
                fetch_ahead(words);
            }
            let (codes, zero): (__m512i, _) = (pulp::cast(words), _mm512_setzero_si512());
            let sums = if BITS == 4 {
                let lower = _mm512_and_si512(codes, mask);
                let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), mask);
                let sums = _mm512_dpbusd_epi32(zero, lower, pulp::cast(low[v]));
                _mm512_dpbusd_epi32(sums, upper, pulp::cast(high[v]))
            } else {
                _mm512_dpbusd_epi32(zero, codes, pulp::cast(low[v]))
            };
            let scale = _mm512_permutexvar_ps(*group, both);
            total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scale, total);
        }
    }
    _mm512_reduce_add_ps(total)
}

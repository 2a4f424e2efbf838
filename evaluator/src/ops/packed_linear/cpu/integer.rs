//! Products in whole numbers: inputs are rounded to signed 8-bit numbers, a scale for each group of them, and meet the codes
//! of 4 or 8 bits as they are; sums of products are exact 32-bit integers (2206.01861, with groups of inputs as those of weights).
//!
//! A 32-bit word holds 4 or 8 codes of one group, so the products of a word's codes are summed up in one lane and scaled once.
//! Codes of 4 bits lie two in a byte, and the inputs that meet the lower and the upper ones in two planes.

#![expect(clippy::needless_range_loop, reason = "one index runs over several arrays")]

use multiversion::multiversion;

use super::view::{LANES, Matrix, View};

/// Largest rounded input.
const HIGHEST: f32 = 127.0;
/// Codes of a word where they are of 8 bits.
const BYTES: usize = 4;

/// A vector's bytes of rounded inputs.
type Bytes = [i8; LANES * BYTES];

/// An input `[columns]`, rounded.
pub(super) struct Rounded {
    /// What meets the lower and the upper codes of each byte; of 8-bit codes all is in the first.
    planes: [Vec<Bytes>; 2],
    /// The scale of each word's inputs.
    scales: Vec<[f32; LANES]>,
    /// Of each group the sum of its rounded inputs, times their scale.
    sums: Vec<f32>,
}

impl Rounded {
    pub(super) fn of(x: &[f32], m: Matrix) -> Self {
        let words = (x.len() * m.bits).div_ceil(32);
        let vectors = words.div_ceil(LANES);
        let mut planes = [vec![[0; LANES * BYTES]; vectors], vec![]];
        if m.bits == 4 {
            planes[1] = planes[0].clone();
        }
        let mut scales = vec![[0.0; LANES]; vectors];
        let per_word = 32 / m.bits;
        let mut sums = Vec::with_capacity(m.groups);
        for (g, group) in x.chunks(m.group).enumerate() {
            let largest = group.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let (scale, inverse) = (
                largest / HIGHEST,
                if largest > 0.0 { HIGHEST / largest } else { 0.0 },
            );
            let mut sum = 0i32;
            for (i, x) in group.iter().enumerate() {
                let rounded = (x * inverse).round_ties_even() as i8;
                sum += i32::from(rounded);
                let at = g * m.group + i;
                let (plane, byte) = if m.bits == 4 { (at % 2, at / 2) } else { (0, at) };
                planes[plane][byte / (LANES * BYTES)][byte % (LANES * BYTES)] = rounded;
            }
            sums.push(scale * sum as f32);
            let first = g * m.group / per_word;
            for word in first..first + group.len().div_ceil(per_word) {
                scales[word / LANES][word % LANES] = scale;
            }
        }
        Rounded { planes, scales, sums }
    }

    /// The rounded inputs as floats.
    #[cfg(test)]
    fn values(&self, m: Matrix) -> Vec<f32> {
        (0..m.columns)
            .map(|at| {
                let (plane, byte) = if m.bits == 4 { (at % 2, at / 2) } else { (0, at) };
                let word = at * m.bits / 32;
                let rounded = self.planes[plane][byte / (LANES * BYTES)][byte % (LANES * BYTES)];
                self.scales[word / LANES][word % LANES] * f32::from(rounded)
            })
            .collect()
    }
}

/// What is made of the words and scales of one row.
struct Row {
    words: Vec<[i32; LANES]>,
    /// The scale of each word.
    scales: Vec<[f32; LANES]>,
    /// Of each group its scale times its zero.
    zeros: Vec<f32>,
}

impl Row {
    fn room(m: Matrix) -> Row {
        let vectors = (m.columns * m.bits).div_ceil(32).div_ceil(LANES);
        Row {
            words: vec![[0; LANES]; vectors],
            scales: vec![[0.0; LANES]; vectors],
            zeros: vec![0.0; m.groups],
        }
    }

    #[inline(always)]
    fn fill(&mut self, m: Matrix, row: usize, scales: &[f32], zeros: &[f32]) {
        let words = m.words(row)[0];
        let flat = self.words.as_flattened_mut();
        flat[..words.len()].copy_from_slice(words);
        let per_group = m.group * m.bits / 32;
        let of_words = self.scales.as_flattened_mut();
        for (words, scale) in of_words.chunks_mut(per_group).zip(scales) {
            words.fill(*scale);
        }
        for g in 0..m.groups {
            self.zeros[g] = scales[g] * zeros[g];
        }
    }
}

/// `y[r][s] = row r · x[s]` for the rows of one task.
pub(super) fn multiply(m: Matrix, first: usize, inputs: &[Rounded], y: &mut [f32]) {
    let View::Even(zeros) = m.levels else {
        unreachable!("levels of a code book are no whole numbers")
    };
    let (rows, n) = (y.len() / inputs.len(), inputs.len());
    let mut scales = vec![0.0; rows * m.groups];
    m.scales(first, &mut scales);
    let zeros_per_row = m.zeros_per_row();
    let mut all_zeros = vec![0.0; rows * zeros_per_row];
    m.zeros(zeros, first, &mut all_zeros);
    let mut row = Row::room(m);
    for (r, y) in y.chunks_exact_mut(n).enumerate() {
        let of_row = &scales[r * m.groups..][..m.groups];
        row.fill(
            m,
            first + r,
            of_row,
            &all_zeros[r * zeros_per_row..][..zeros_per_row],
        );
        products(m.bits, &row, inputs, y);
    }
}

/// The products of one row with all inputs.
fn products(bits: usize, row: &Row, inputs: &[Rounded], y: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if x86::is_there() {
        return x86::run(bits, row, inputs, y);
    }
    portable(bits, row, inputs, y);
}

/// [`products`] in instructions of any processor.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+fma", "x86_64+avx2+fma"))]
fn portable(bits: usize, row: &Row, inputs: &[Rounded], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(inputs) {
        let mut total = [0.0f32; LANES];
        for v in 0..row.words.len() {
            let mut sums = [0i32; LANES];
            for l in 0..LANES {
                let codes = row.words[v][l].to_le_bytes();
                for b in 0..BYTES {
                    let at = l * BYTES + b;
                    let (code, low) = (codes[b], i32::from(x.planes[0][v][at]));
                    sums[l] += if bits == 4 {
                        let high = i32::from(x.planes[1][v][at]);
                        i32::from(code & 15) * low + i32::from(code >> 4) * high
                    } else {
                        i32::from(code) * low
                    };
                }
            }
            for l in 0..LANES {
                total[l] += sums[l] as f32 * (row.scales[v][l] * x.scales[v][l]);
            }
        }
        *y = total.iter().sum::<f32>() - surplus(row, x);
    }
}

/// What the zeros of a row take from a product.
#[inline(always)]
fn surplus(row: &Row, x: &Rounded) -> f32 {
    row.zeros.iter().zip(&x.sums).map(|(zero, sum)| zero * sum).sum()
}

/// The same where a processor sums up products of bytes in one instruction.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m512, __m512i, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
        _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_set1_epi8, _mm512_setzero_ps, _mm512_setzero_si512,
        _mm512_srli_epi16,
    };

    use super::{Rounded, Row, surplus};

    /// Whether the processor sums up products of bytes.
    pub(super) fn is_there() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
    }

    #[expect(unsafe_code, reason = "instructions that not every processor has")]
    pub(super) fn run(bits: usize, row: &Row, inputs: &[Rounded], y: &mut [f32]) {
        // SAFETY: the caller has asked `is_there`, and the function touches memory only by references
        unsafe { products(bits, row, inputs, y) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn products(bits: usize, row: &Row, inputs: &[Rounded], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(inputs) {
            let total = match bits {
                4 => halves(row, x),
                _ => bytes(row, x),
            };
            *y = _mm512_reduce_add_ps(total) - surplus(row, x);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn bytes(row: &Row, x: &Rounded) -> __m512 {
        let mut total = _mm512_setzero_ps();
        let vectors = row
            .words
            .iter()
            .zip(&x.planes[0])
            .zip(row.scales.iter().zip(&x.scales));
        for ((words, x), (scales, of_x)) in vectors {
            let codes: __m512i = pulp::cast(*words);
            let sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, pulp::cast(*x));
            let scale = _mm512_mul_ps(pulp::cast(*scales), pulp::cast(*of_x));
            total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scale, total);
        }
        total
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn halves(row: &Row, x: &Rounded) -> __m512 {
        let (mut total, mask) = (_mm512_setzero_ps(), _mm512_set1_epi8(15));
        let [low, high] = &x.planes;
        let vectors = row
            .words
            .iter()
            .zip(low.iter().zip(high))
            .zip(row.scales.iter().zip(&x.scales));
        for ((words, (low, high)), (scales, of_x)) in vectors {
            let codes: __m512i = pulp::cast(*words);
            let first = _mm512_and_si512(codes, mask);
            let second = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), mask);
            let sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), first, pulp::cast(*low));
            let sums = _mm512_dpbusd_epi32(sums, second, pulp::cast(*high));
            let scale = _mm512_mul_ps(pulp::cast(*scales), pulp::cast(*of_x));
            total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scale, total);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::matrix, *};

    /// Both ways, against sums in wide integers: to the bit before scales, and to rounding after.
    #[test]
    fn sums_of_whole_numbers_are_exact() {
        for bits in [4, 8] {
            for (group, columns) in [(32, 32), (32, 100), (64, 330), (128, 2048)] {
                let parts = matrix(5, columns, bits, group, false);
                let m = Matrix::of(&parts);
                let x: Vec<f32> = (0..columns)
                    .map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.03)
                    .collect();
                let rounded = Rounded::of(&x, m);
                let values = rounded.values(m);
                for (x, back) in x.iter().zip(&values) {
                    assert!((x - back).abs() <= 0.5 * 1.5 / HIGHEST + 1e-6, "{x} {back}");
                }
                let (mut scales, mut zeros) = (vec![0.0; m.groups], vec![0.0; m.zeros_per_row()]);
                let View::Even(words) = m.levels else { panic!() };
                let mut row = Row::room(m);
                for r in 0..5 {
                    m.scales(r, &mut scales);
                    m.zeros(words, r, &mut zeros);
                    row.fill(m, r, &scales, &zeros);
                    let code = |at: usize| {
                        let word = m.words(r)[0][at * bits / 32] as u32;
                        i64::from(word >> (at * bits % 32)) & ((1 << bits) - 1)
                    };
                    let whole = |at: usize| {
                        let (plane, byte) = if bits == 4 { (at % 2, at / 2) } else { (0, at) };
                        i64::from(rounded.planes[plane].as_flattened()[byte])
                    };
                    // scales of one, so that what comes out is the sum itself
                    let plain = Row {
                        words: row.words.clone(),
                        scales: vec![[1.0; LANES]; row.scales.len()],
                        zeros: vec![0.0; m.groups],
                    };
                    let mut unscaled = Rounded::of(&x, m);
                    unscaled.scales.iter_mut().for_each(|s| *s = [1.0; LANES]);
                    let exact: i64 = (0..columns).map(|at| code(at) * whole(at)).sum();
                    let (mut found, mut safe) = ([0.0], [0.0]);
                    products(bits, &plain, std::slice::from_ref(&unscaled), &mut found);
                    portable(bits, &plain, std::slice::from_ref(&unscaled), &mut safe);
                    assert_eq!(found[0] as i64, exact, "{bits} bits, {columns} columns");
                    assert_eq!(safe[0] as i64, exact, "{bits} bits, {columns} columns");

                    let level = |at: usize| scales[at / group] * (code(at) as f32 - zeros[at / group]);
                    let expected: f64 = (0..columns).map(|at| f64::from(level(at) * values[at])).sum();
                    let size: f64 = (0..columns)
                        .map(|at| f64::from((level(at) * values[at]).abs()))
                        .sum();
                    products(bits, &row, std::slice::from_ref(&rounded), &mut found);
                    portable(bits, &row, std::slice::from_ref(&rounded), &mut safe);
                    for y in [found[0], safe[0]] {
                        assert!((f64::from(y) - expected).abs() < 1e-5 * size, "{y} {expected}");
                    }
                }
            }
        }
    }
}

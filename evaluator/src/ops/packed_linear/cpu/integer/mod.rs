//! Products in whole numbers: inputs are rounded to signed 8-bit numbers, a scale for each group of them, and meet the codes
//! of 4 or 8 bits as they are; sums of products are exact 32-bit integers (2206.01861, with groups of inputs as those of weights).
//!
//! A 32-bit word holds 4 or 8 codes of one group, so the products of a word's codes are summed up in one lane and scaled once.
//! Codes of 4 bits lie two in a byte, and the inputs that meet the lower and the upper ones in two planes.

#![expect(clippy::needless_range_loop, reason = "one index runs over several arrays")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod vnni;

use half::f16;
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
    /// What meets the lower and the upper codes of each byte; of 8-bit codes all is in the first. Filled up with zeros.
    planes: [Vec<Bytes>; 2],
    /// The scale of each group.
    scales: Vec<[f32; LANES]>,
    /// Of each group the sum of its rounded inputs, times their scale.
    sums: Vec<[f32; LANES]>,
}

impl Rounded {
    pub(super) fn of(x: &[f32], m: Matrix) -> Self {
        let vectors = (x.len() * m.bits).div_ceil(32).div_ceil(LANES);
        let groups = m.groups.div_ceil(LANES);
        let empty = || vec![[0; LANES * BYTES]; vectors];
        let mut rounded = Rounded {
            planes: [empty(), if m.bits == 4 { empty() } else { vec![] }],
            scales: vec![[0.0; LANES]; groups],
            sums: vec![[0.0; LANES]; groups],
        };
        round(x, m.group, &mut rounded);
        rounded
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+fma", "x86_64+avx2+fma"))]
fn round(x: &[f32], group: usize, out: &mut Rounded) {
    let (scales, sums) = (out.scales.as_flattened_mut(), out.sums.as_flattened_mut());
    let [low, high] = &mut out.planes;
    let (low, high) = (low.as_flattened_mut(), high.as_flattened_mut());
    for (g, x) in x.chunks(group).enumerate() {
        let largest = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let inverse = if largest > 0.0 { HIGHEST / largest } else { 0.0 };
        let mut whole = [0i8; 128];
        for (whole, x) in whole.iter_mut().zip(x) {
            *whole = (x * inverse).round_ties_even() as i8;
        }
        let sum: i32 = whole.iter().map(|whole| i32::from(*whole)).sum();
        (scales[g], sums[g]) = (largest / HIGHEST, largest / HIGHEST * sum as f32);
        if high.is_empty() {
            low[g * group..][..x.len()].copy_from_slice(&whole[..x.len()]);
        } else {
            let (first, half) = (g * group / 2, x.len().div_ceil(2));
            let pairs = whole.as_chunks::<2>().0.iter();
            let planes = low[first..][..half].iter_mut().zip(&mut high[first..][..half]);
            for ((low, high), pair) in planes.zip(pairs) {
                (*low, *high) = (pair[0], pair[1]);
            }
        }
    }
}

/// A row of the matrix in vectors of `N`.
struct Row<'a, const N: usize> {
    words: Filled<'a, i32, N>,
    /// The scale of each group, as 16 bits.
    scales: Filled<'a, u16, N>,
    /// The zero of each group.
    zeros: Filled<'a, u8, N>,
}

impl<'a, const N: usize> Row<'a, N> {
    #[inline(always)]
    fn of(m: Matrix<'a>, row: usize) -> Self {
        let View::Even(zeros) = m.levels else {
            unreachable!("levels of a code book are no whole numbers")
        };
        Row {
            words: Filled::of(m.words(row)[0]),
            scales: Filled::of(m.half_scales(row)),
            zeros: Filled::of(m.byte_zeros(zeros, row)),
        }
    }
}

/// Numbers in vectors of `N`.
struct Filled<'a, T, const N: usize> {
    whole: &'a [[T; N]],
    /// What is left of them, filled up with zeros.
    rest: Option<[T; N]>,
}

impl<'a, T: Copy + Default, const N: usize> Filled<'a, T, N> {
    #[inline(always)]
    fn of(all: &'a [T]) -> Self {
        let (whole, left) = all.as_chunks::<N>();
        let fill = || {
            let mut rest = [T::default(); N];
            rest[..left.len()].copy_from_slice(left);
            rest
        };
        Filled {
            whole,
            rest: (!left.is_empty()).then(fill),
        }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.whole.len() + usize::from(self.rest.is_some())
    }

    #[inline(always)]
    fn at(&self, i: usize) -> [T; N] {
        match self.whole.get(i) {
            Some(vector) => *vector,
            None => self.rest.expect("there are so many vectors"),
        }
    }
}

/// `y[r][s] = row r · x[s]` for the rows of one task.
pub(super) fn multiply(m: Matrix, first: usize, inputs: &[Rounded], y: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if vnni::is_there() {
            return vnni::run(m, first, inputs, y);
        }
        if avx2::is_there() {
            return avx2::run(m, first, inputs, y);
        }
    }
    portable(m, first, inputs, y);
}

/// The same in instructions of any processor.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+fma", "x86_64+avx2+fma"))]
fn portable(m: Matrix, first: usize, inputs: &[Rounded], y: &mut [f32]) {
    each_row(m, first, inputs, y, |row, x| product(m, row, x));
}

/// Calls `multiply` with each row of a task and each input, and puts their products where they belong.
#[inline(always)]
fn each_row<const N: usize>(
    m: Matrix,
    first: usize,
    inputs: &[Rounded],
    y: &mut [f32],
    multiply: impl Fn(&Row<N>, &Rounded) -> f32,
) {
    for (r, y) in y.chunks_exact_mut(inputs.len()).enumerate() {
        let row = Row::of(m, first + r);
        for (y, x) in y.iter_mut().zip(inputs) {
            *y = multiply(&row, x);
        }
    }
}

/// Has words fetched that are soon needed: a processor does not foresee those of the next page.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(unsafe_code, reason = "an instruction that takes an address")]
fn fetch_ahead<const N: usize>(words: &[i32; N]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    const WORDS_AHEAD: usize = 1024;
    // SAFETY: what is fetched is not read, so the address may be any
    unsafe { _mm_prefetch::<_MM_HINT_T0>(words.as_ptr().wrapping_add(WORDS_AHEAD).cast()) }
}

/// The product of a row and an input.
#[inline(always)]
fn product(m: Matrix, row: &Row<LANES>, x: &Rounded) -> f32 {
    let (mut total, per_group) = ([0.0f32; LANES], m.group * m.bits / 32);
    for v in 0..row.words.len() {
        let words = row.words.at(v);
        for l in 0..LANES {
            let (codes, mut sum) = (words[l].to_le_bytes(), 0i32);
            for b in 0..BYTES {
                let at = l * BYTES + b;
                let (code, low) = (codes[b], i32::from(x.planes[0][v][at]));
                sum += if m.bits == 4 {
                    let high = i32::from(x.planes[1][v][at]);
                    i32::from(code & 15) * low + i32::from(code >> 4) * high
                } else {
                    i32::from(code) * low
                };
            }
            let group = (v * LANES + l) / per_group;
            let (g, lane) = (group / LANES, group % LANES);
            if g < row.scales.len() {
                let scale = f16::from_bits(row.scales.at(g)[lane]).to_f32();
                total[l] += sum as f32 * (scale * x.scales[g][lane]);
            }
        }
    }
    for g in 0..row.scales.len() {
        let (scales, zeros) = (row.scales.at(g), row.zeros.at(g));
        for l in 0..LANES {
            total[l] -= f16::from_bits(scales[l]).to_f32() * f32::from(zeros[l]) * x.sums[g][l];
        }
    }
    total.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::matrix, *};

    /// Where in the planes the input of a column is.
    fn place(bits: usize, column: usize) -> (usize, usize) {
        if bits == 4 {
            (column % 2, column / 2)
        } else {
            (0, column)
        }
    }

    /// Every way that this processor has, against sums in wide integers.
    #[test]
    fn sums_of_whole_numbers_are_exact() {
        for bits in [4, 8] {
            for (group, columns) in [(32, 32), (32, 100), (64, 330), (64, 1024), (128, 2048)] {
                let parts = matrix(5, columns, bits, group, false);
                let m = Matrix::of(&parts);
                let x: Vec<f32> = (0..columns)
                    .map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.03)
                    .collect();
                let rounded = Rounded::of(&x, m);
                let whole = |column: usize| {
                    let (plane, byte) = place(bits, column);
                    i64::from(rounded.planes[plane].as_flattened()[byte])
                };
                let scale = |column: usize| rounded.scales.as_flattened()[column / group];
                for (column, x) in x.iter().enumerate() {
                    let back = scale(column) * whole(column) as f32;
                    assert!((x - back).abs() <= 0.5001 * scale(column), "{x} {back}");
                }
                let (mut scales, mut zeros) = (vec![0.0; m.groups], vec![0.0; m.zeros_per_row()]);
                let View::Even(words) = m.levels else { panic!() };
                let inputs = [rounded];
                let mut found = vec![[0.0; 5]; 2];
                multiply(m, 0, &inputs, &mut found[0]);
                portable(m, 0, &inputs, &mut found[1]);
                #[cfg(target_arch = "x86_64")]
                if avx2::is_there() {
                    found.push([0.0; 5]);
                    avx2::run(m, 0, &inputs, &mut found[2]);
                }
                let rounded = &inputs[0];
                let whole = |column: usize| {
                    let (plane, byte) = place(bits, column);
                    i64::from(rounded.planes[plane].as_flattened()[byte])
                };
                for r in 0..5 {
                    m.scales(r, &mut scales);
                    m.zeros(words, r, &mut zeros);
                    let code = |column: usize| {
                        let word = m.words(r)[0][column * bits / 32] as u32;
                        i64::from(word >> (column * bits % 32)) & ((1 << bits) - 1)
                    };
                    let (mut exact, mut size) = (0.0f64, 0.0f64);
                    for g in 0..m.groups {
                        let columns = g * group..((g + 1) * group).min(columns);
                        let sum: i64 = columns.map(|c| (code(c) - zeros[g] as i64) * whole(c)).sum();
                        let of_x = rounded.scales.as_flattened()[g];
                        let value = f64::from(scales[g]) * f64::from(of_x) * sum as f64;
                        exact += value;
                        size += value.abs() + f64::from(scales[g] * of_x) * 255.0 * 127.0;
                    }
                    for y in found.iter().map(|found| found[r]) {
                        assert!(
                            (f64::from(y) - exact).abs() < 1e-6 * size,
                            "{bits} bits, {columns}: {y} {exact}"
                        );
                    }
                }
            }
        }
    }
}

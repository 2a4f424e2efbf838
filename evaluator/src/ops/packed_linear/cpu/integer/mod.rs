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

/// A row of the matrix.
struct Row<'a> {
    /// Whole vectors of words, and what is left of a row.
    words: &'a [[i32; LANES]],
    rest: [i32; LANES],
    /// The scale of each group.
    scales: &'a [[f32; LANES]],
    /// The zero of each group.
    zeros: &'a [[f32; LANES]],
    /// Words of a group.
    per_group: usize,
}

impl Row<'_> {
    /// Which of sixteen groups each word of a vector is of, for every vector of words that they have.
    #[inline(always)]
    fn groups(per_group: usize, vector: usize) -> [i32; LANES] {
        std::array::from_fn(|lane| ((vector * LANES + lane) / per_group) as i32)
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
    each_row(m, first, inputs.len(), y, |row, y| {
        for (y, x) in y.iter_mut().zip(inputs) {
            *y = product(m.bits, row, x);
        }
    });
}

/// Calls `multiply` with each row of a task and its place for the products.
#[inline(always)]
fn each_row(m: Matrix, first: usize, n: usize, y: &mut [f32], multiply: impl Fn(&Row, &mut [f32])) {
    let View::Even(zeros) = m.levels else {
        unreachable!("levels of a code book are no whole numbers")
    };
    let rows = y.len() / n;
    // those of all rows at once, because a row has few of them
    let (groups, zeros_per_row) = (m.groups, m.zeros_per_row());
    let (mut all_scales, mut all_zeros) = (vec![0.0; rows * groups], vec![0.0; rows * zeros_per_row]);
    m.scales(first, &mut all_scales);
    m.zeros(zeros, first, &mut all_zeros);
    let vectors = m.groups.div_ceil(LANES);
    let (mut scales, mut levels) = (vec![[0.0; LANES]; vectors], vec![[0.0; LANES]; vectors]);
    for (r, y) in y.chunks_exact_mut(n).enumerate() {
        let (of_row, zeros_of_row) = (&all_scales[r * groups..], &all_zeros[r * zeros_per_row..]);
        scales.as_flattened_mut()[..groups].copy_from_slice(&of_row[..groups]);
        levels.as_flattened_mut()[..groups].copy_from_slice(&zeros_of_row[..groups]);
        let (words, left) = m.words(first + r)[0].as_chunks::<LANES>();
        let mut rest = [0; LANES];
        rest[..left.len()].copy_from_slice(left);
        let row = Row {
            words,
            rest,
            scales: &scales,
            zeros: &levels,
            per_group: m.group * m.bits / 32,
        };
        multiply(&row, y);
    }
}

/// The product of a row and an input.
#[inline(always)]
fn product(bits: usize, row: &Row, x: &Rounded) -> f32 {
    let mut total = [0.0f32; LANES];
    for v in 0..x.planes[0].len() {
        let words = row.words.get(v).unwrap_or(&row.rest);
        for l in 0..LANES {
            let (codes, mut sum) = (words[l].to_le_bytes(), 0i32);
            for b in 0..BYTES {
                let at = l * BYTES + b;
                let (code, low) = (codes[b], i32::from(x.planes[0][v][at]));
                sum += if bits == 4 {
                    let high = i32::from(x.planes[1][v][at]);
                    i32::from(code & 15) * low + i32::from(code >> 4) * high
                } else {
                    i32::from(code) * low
                };
            }
            let group = (v * LANES + l) / row.per_group;
            let (g, lane) = (group / LANES, group % LANES);
            if g < row.scales.len() {
                total[l] += sum as f32 * (row.scales[g][lane] * x.scales[g][lane]);
            }
        }
    }
    for g in 0..row.scales.len() {
        for l in 0..LANES {
            total[l] -= row.scales[g][l] * row.zeros[g][l] * x.sums[g][l];
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

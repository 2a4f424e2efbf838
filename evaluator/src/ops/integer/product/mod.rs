//! Products of `i8` matrices and `i8` rows, summed up in `i32` and changed to another step.

#[cfg(target_arch = "x86_64")]
mod avx2;

use std::sync::Arc;

use multiversion::multiversion;
use rayon::prelude::*;

use super::{Dyadic, whole};
use crate::counter;

/// The most columns of which no sum of products exceeds 32 bits: each is 127² at most.
pub const MOST_COLUMNS: usize = 1 << 17;

/// Multiply-adds of one task at least.
const MACS_PER_TASK: usize = 64 * 1024;
/// Rows of inputs that one task multiplies with each few rows of the matrix while these are at hand.
const INPUTS_PER_TASK: usize = 16;
/// Rows of the matrix that an input meets at once.
const ROWS_AT_ONCE: usize = 4;

whole! {
    /// A matrix of 8-bit numbers, row by row.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct IntegerMatrix {
        rows: usize,
        columns: usize,
        codes: Vec<i8>,
    }
}

impl IntegerMatrix {
    /// Of `codes [rows, columns]`.
    ///
    /// # Panics
    /// If there are more or fewer of them, or more columns than [`MOST_COLUMNS`].
    pub fn new([rows, columns]: [usize; 2], codes: Vec<i8>) -> Self {
        assert_eq!(codes.len(), rows * columns, "a code for each place");
        assert!(
            columns <= MOST_COLUMNS,
            "{columns} columns may exceed 32-bit sums"
        );
        IntegerMatrix { rows, columns, codes }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// A row.
    pub fn row(&self, row: usize) -> &[i8] {
        &self.codes[row * self.columns..][..self.columns]
    }
}

whole! {
    /// A matrix, and for each row the factor from its sums to the step of what comes out.
    #[derive(Clone, Debug)]
    pub struct Product {
        matrix: Arc<IntegerMatrix>,
        factors: Vec<Dyadic>,
        limit: i32,
    }
}

impl Product {
    /// With one factor for each row of the matrix; what comes out is cut off at `±limit`.
    pub fn new(matrix: Arc<IntegerMatrix>, factors: Vec<Dyadic>, limit: i32) -> Self {
        assert_eq!(matrix.rows, factors.len(), "a factor for each row");
        Product {
            matrix,
            factors,
            limit,
        }
    }

    /// Components of what comes out.
    pub fn outputs(&self) -> usize {
        self.matrix.rows
    }

    /// `out [n, rows]` of `x [n, columns]`.
    pub fn apply(&self, x: &[i8], out: &mut [i32]) {
        let IntegerMatrix {
            rows,
            columns,
            ref codes,
        } = *self.matrix;
        let n = x.len() / columns;
        if n < rayon::current_num_threads() {
            // few inputs: tasks share rows of the matrix
            let rows_per_task = MACS_PER_TASK.div_ceil(columns).next_multiple_of(ROWS_AT_ONCE);
            for (x, out) in x.chunks_exact(columns).zip(out.chunks_exact_mut(rows)) {
                let tasks = out.par_chunks_mut(rows_per_task);
                let parts = codes.par_chunks(rows_per_task * columns);
                let factors = self.factors.par_chunks(rows_per_task);
                tasks.zip(parts).zip(factors).for_each(|((out, codes), factors)| {
                    sums(codes, x, columns, out);
                    self.change(factors, out);
                });
            }
        } else {
            let inputs = n.div_ceil(rayon::current_num_threads()).min(INPUTS_PER_TASK);
            let tasks = out
                .par_chunks_mut(inputs * rows)
                .zip(x.par_chunks(inputs * columns));
            tasks.for_each(|(out, x)| {
                sums(codes, x, columns, out);
                out.chunks_exact_mut(rows)
                    .for_each(|out| self.change(&self.factors, out));
            });
        }
        counter::add_macs(n * rows * columns);
    }

    /// Changes sums of some rows to the step of what comes out.
    fn change(&self, factors: &[Dyadic], sums: &mut [i32]) {
        for (sum, factor) in sums.iter_mut().zip(factors) {
            *sum = factor.within(i64::from(*sum), self.limit);
        }
    }
}

/// `y[i][r] = x[i] · w[r]` for `x [n, columns]` and `w [rows, columns]`, exactly.
fn sums(w: &[i8], x: &[i8], columns: usize, y: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    if avx2::is_there() {
        return avx2::run(w, x, columns, y);
    }
    portable(w, x, columns, y);
}

/// The same in instructions of any processor.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+fma", "x86_64+avx2+fma"))]
fn portable(w: &[i8], x: &[i8], columns: usize, y: &mut [i32]) {
    let rows = w.len() / columns;
    for (r, w) in w.chunks_exact(columns).enumerate() {
        for (i, x) in x.chunks_exact(columns).enumerate() {
            let products = w.iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x));
            y[i * rows + r] = products.sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way that this processor has, against sums in wide integers.
    #[test]
    fn sums_are_exact() {
        for columns in [1, 7, 16, 31, 32, 33, 96, 250] {
            for (rows, n) in [(1, 1), (4, 1), (7, 3), (13, 18)] {
                let mut state = 1u32;
                let mut bytes = |n: usize| -> Vec<i8> {
                    let mut next = || {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (state >> 24) as i8
                    };
                    (0..n).map(|_| next()).collect()
                };
                let (w, x) = (bytes(rows * columns), bytes(n * columns));
                let exact = |i: usize| {
                    let (x, w) = (&x[i / rows * columns..], &w[i % rows * columns..]);
                    let products = x.iter().zip(w).take(columns);
                    products.map(|(x, w)| i64::from(*x) * i64::from(*w)).sum::<i64>()
                };
                let exact: Vec<i32> = (0..n * rows).map(|i| exact(i) as i32).collect();
                let mut found = vec![0; n * rows];
                portable(&w, &x, columns, &mut found);
                assert_eq!(found, exact, "portable {rows} {columns} {n}");
                #[cfg(target_arch = "x86_64")]
                if avx2::is_there() {
                    found.fill(7);
                    avx2::run(&w, &x, columns, &mut found);
                    assert_eq!(found, exact, "avx2 {rows} {columns} {n}");
                }
                // and shared out to tasks, with factors of 1
                let matrix = IntegerMatrix::new([rows, columns], w.clone());
                let product = Product::new(Arc::new(matrix), vec![Dyadic::nearest(1.0); rows], i32::MAX);
                let ((), macs) = counter::count_macs(|| product.apply(&x, &mut found));
                assert_eq!(found, exact, "in tasks {rows} {columns} {n}");
                assert_eq!(macs, (n * rows * columns) as u64);
            }
        }
    }

    #[test]
    fn the_largest_sums_fit() {
        let columns = MOST_COLUMNS;
        let (w, x) = (vec![127i8; columns], vec![-127i8; columns]);
        let mut y = [0];
        sums(&w, &x, columns, &mut y);
        assert_eq!(i64::from(y[0]), -127 * 127 * columns as i64);
    }
}

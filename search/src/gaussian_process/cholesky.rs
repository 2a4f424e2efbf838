//! Triangular factors of small positive definite matrices, row by row.

use multiversion::multiversion;

/// The dot product, in eight running sums so that it is vectorised: the same bits with vectors of any width.
#[inline(always)]
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8
        .remainder()
        .iter()
        .zip(b8.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in a8.zip(b8) {
        for k in 0..8 {
            sums[k] += x[k] * y[k];
        }
    }
    let halves = [
        sums[0] + sums[4],
        sums[1] + sums[5],
        sums[2] + sums[6],
        sums[3] + sums[7],
    ];
    (halves[0] + halves[2]) + (halves[1] + halves[3]) + rest
}

/// The lower triangle of a square matrix, stored in full rows; what stands above the diagonal is not read.
#[derive(Clone, Debug)]
pub(crate) struct Lower {
    pub(crate) n: usize,
    pub(crate) values: Vec<f64>,
}

impl Lower {
    pub(crate) fn zeros(n: usize) -> Lower {
        Lower {
            n,
            values: vec![0.0; n * n],
        }
    }

    pub(crate) fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.n..][..=i]
    }

    /// Replaces `A` by `L` with `A = L L'`; `false` if `A` is not positive definite.
    pub(crate) fn factor(&mut self) -> bool {
        factor(self.n, &mut self.values)
    }

    /// Solves `L x = b` in place.
    pub(crate) fn solve(&self, b: &mut [f64]) {
        solve(self.n, &self.values, b);
    }

    /// Solves `L' x = b` in place.
    pub(crate) fn solve_transposed(&self, b: &mut [f64]) {
        for i in (0..self.n).rev() {
            let row = self.row(i);
            b[i] /= row[i];
            let value = b[i];
            b[..i].iter_mut().zip(row).for_each(|(x, l)| *x -= l * value);
        }
    }

    /// `L` inverted.
    pub(crate) fn inverse(&self) -> Lower {
        let mut inverse = Lower::zeros(self.n);
        invert(self.n, &self.values, &mut inverse.values);
        inverse
    }

    /// The lower triangle of `M' M`, where `self` is `M`: with `M` the inverse of `L`, the inverse of `L L'`.
    pub(crate) fn transposed_times_self(&self) -> Lower {
        let mut product = Lower::zeros(self.n);
        square(self.n, &self.values, &mut product.values);
        product
    }

    /// The logarithm of the determinant of `L L'`.
    pub(crate) fn log_determinant(&self) -> f64 {
        2.0 * (0..self.n).map(|i| self.values[i * self.n + i].ln()).sum::<f64>()
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn factor(n: usize, values: &mut [f64]) -> bool {
    for i in 0..n {
        let (above, rest) = values.split_at_mut(i * n);
        let row = &mut rest[..=i];
        for j in 0..i {
            let other = &above[j * n..][..=j];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let pivot = row[i] - dot(&row[..i], &row[..i]);
        if !(pivot > 0.0 && pivot.is_finite()) {
            return false;
        }
        row[i] = pivot.sqrt();
    }
    true
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn solve(n: usize, values: &[f64], b: &mut [f64]) {
    for i in 0..n {
        let row = &values[i * n..][..=i];
        b[i] = (b[i] - dot(&row[..i], &b[..i])) / row[i];
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn invert(n: usize, values: &[f64], inverse: &mut [f64]) {
    for i in 0..n {
        let row = &values[i * n..][..=i];
        let (above, rest) = inverse.split_at_mut(i * n);
        let target = &mut rest[..=i];
        for (j, factor) in row[..i].iter().enumerate() {
            let source = &above[j * n..][..=j];
            target.iter_mut().zip(source).for_each(|(t, s)| *t -= factor * s);
        }
        let scale = 1.0 / row[i];
        target[..i].iter_mut().for_each(|t| *t *= scale);
        target[i] = scale;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn square(n: usize, values: &[f64], product: &mut [f64]) {
    for m in 0..n {
        let row = &values[m * n..][..=m];
        for (i, factor) in row.iter().enumerate() {
            let target = &mut product[i * n..][..=i];
            target.iter_mut().zip(row).for_each(|(t, s)| *t += factor * s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_solve_and_invert() {
        let n = 13;
        let entry = |i: usize, j: usize| {
            if i == j {
                3.0
            } else {
                1.0 / (1.0 + (i as f64 - j as f64).abs())
            }
        };
        let mut l = Lower::zeros(n);
        for i in 0..n {
            for j in 0..=i {
                l.values[i * n + j] = entry(i, j);
            }
        }
        assert!(l.factor());
        let truth: Vec<f64> = (0..n).map(|i| (i as f64).sin()).collect();
        let mut x: Vec<f64> = (0..n)
            .map(|i| (0..n).map(|j| entry(i, j) * truth[j]).sum())
            .collect();
        l.solve(&mut x);
        l.solve_transposed(&mut x);
        x.iter()
            .zip(&truth)
            .for_each(|(a, b)| assert!((a - b).abs() < 1e-12));
        let inverse = l.inverse().transposed_times_self();
        for i in 0..n {
            for k in 0..n {
                let at = |a: usize, b: usize| inverse.values[a.max(b) * n + a.min(b)];
                let sum: f64 = (0..n).map(|j| at(i, j) * entry(j, k)).sum();
                assert!((sum - f64::from(u8::from(i == k))).abs() < 1e-12);
            }
        }
        let mut flat = Lower {
            n: 2,
            values: vec![1.0, 0.0, 1.0, 1.0],
        };
        assert!(!flat.factor());
    }
}

//! Factors of symmetric positive definite matrices, in double precision.

use rayon::prelude::*;

use crate::counter;

/// The upper triangular `R [n, n]` with `R Rᵀ = H`.
pub(super) fn upper_factor(mut h: Vec<f64>, n: usize) -> Vec<f64> {
    // from the last column to the first: each needs those to its right
    for j in (0..n).rev() {
        let (above, rest) = h.split_at_mut(j * n);
        let row = &mut rest[..n];
        row[..j].fill(0.0);
        let right = &row[j + 1..];
        let pivot = (row[j] - dot(right, right)).sqrt();
        above.par_chunks_mut(n).with_min_len(16).for_each(|line| {
            line[j] = (line[j] - dot(&line[j + 1..], right)) / pivot;
        });
        counter::add_macs((j + 1) * (n - j - 1));
        row[j] = pivot;
    }
    h
}

/// The inverse of an upper triangular matrix `[n, n]`, in single precision.
pub(super) fn inverse(r: &[f64], n: usize) -> Vec<f32> {
    // column after column, each as a row here, from the diagonal upwards
    let mut columns = vec![0.0f64; n * n];
    columns.par_chunks_mut(n).enumerate().for_each(|(c, column)| {
        column[c] = 1.0 / r[c * n + c];
        for i in (0..c).rev() {
            let sum = dot(&r[i * n + i + 1..=i * n + c], &column[i + 1..=c]);
            column[i] = -sum / r[i * n + i];
        }
        counter::add_macs(c * (c + 1) / 2);
    });
    let mut out = vec![0.0f32; n * n];
    for (c, column) in columns.chunks(n).enumerate() {
        for (i, x) in column[..=c].iter().enumerate() {
            out[i * n + c] = *x as f32;
        }
    }
    out
}

/// Product in eight partial sums.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factor_and_inverse_give_the_matrix_back() {
        let n = 21;
        let a: Vec<f64> = (0..n * n).map(|i| (i as f64 * 0.37).sin()).collect();
        let product = |a: &dyn Fn(usize, usize) -> f64, b: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
            let at = |i: usize| (0..n).map(|k| a(i / n, k) * b(k, i % n)).sum();
            (0..n * n).map(at).collect()
        };
        let mut h = product(&|i, k| a[i * n + k], &|k, j| a[j * n + k]);
        (0..n).for_each(|i| h[i * n + i] += 1.0);
        let r = upper_factor(h.clone(), n);
        let back = product(&|i, k| r[i * n + k], &|k, j| r[j * n + k]);
        let u = inverse(&r, n);
        let one = product(&|i, k| r[i * n + k], &|k, j| u[k * n + j].into());
        for i in 0..n * n {
            assert!((back[i] - h[i]).abs() < 1e-9);
            assert!((one[i] - f64::from(u8::from(i / n == i % n))).abs() < 1e-5);
            assert!(i / n <= i % n || r[i] == 0.0);
        }
    }
}

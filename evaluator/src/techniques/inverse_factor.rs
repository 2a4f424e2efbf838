//! The triangular factor of an inverse, in double precision: what GPTQ and `SparseGPT` make up for lost weights by.

use rayon::prelude::*;

use crate::counter;

/// What is added to the diagonal of second moments, over its mean.
const DAMPING: f64 = 0.01;

/// Second moments `[n, n]` of inputs with a little of their mean on the diagonal; `None` where all inputs are 0, which tell
/// nothing.
pub(super) fn damped(second_moment: &[f64], n: usize) -> Option<Vec<f64>> {
    let mean = (0..n).map(|i| second_moment[i * n + i]).sum::<f64>() / n as f64;
    let mut h = second_moment.to_vec();
    for i in 0..n {
        h[i * n + i] += DAMPING * mean;
    }
    (mean > 0.0).then_some(h)
}

/// The upper triangular `U`, `[n, n]`, with `h⁻¹ = Uᵀ U` for a positive definite `h [n, n]`: with `h = R Rᵀ` it is `R⁻¹`, so
/// there is one factorisation and no inverse of `h`.
pub(super) fn upper_of_inverse(h: Vec<f64>, n: usize) -> Vec<f64> {
    inverse(&upper_factor(h, n), n)
}

/// Multiply-adds of [`upper_of_inverse`]: a sixth of `n³` each for the factor and its inverse.
pub(super) fn macs(n: usize) -> usize {
    (n * n * n - n) / 3
}

/// The upper triangular `R [n, n]` with `R Rᵀ = H`.
fn upper_factor(mut h: Vec<f64>, n: usize) -> Vec<f64> {
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

/// The inverse of an upper triangular matrix `[n, n]`.
fn inverse(r: &[f64], n: usize) -> Vec<f64> {
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
    let mut out = vec![0.0; n * n];
    for (c, column) in columns.chunks(n).enumerate() {
        for (i, x) in column[..=c].iter().enumerate() {
            out[i * n + c] = *x;
        }
    }
    out
}

/// Sum of products, in eight partial sums, so that no addition waits for the one before.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
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
    fn the_factor_is_that_of_the_inverse() {
        for n in [1, 2, 9, 40] {
            let random = |i: usize| ((i * 7919 + 13) % 101) as f64 / 101.0 - 0.5;
            let mut h = vec![0.0; n * n];
            for i in 0..n {
                for j in 0..n {
                    h[i * n + j] = (0..n).map(|k| random(i * n + k) * random(j * n + k)).sum();
                }
                h[i * n + i] += 0.5;
            }
            let (upper, macs_counted) = counter::count_macs(|| upper_of_inverse(h.clone(), n));
            assert_eq!(macs_counted, macs(n) as u64);
            for i in 0..n {
                assert!(
                    upper[i * n..i * n + i].iter().all(|x| *x == 0.0),
                    "upper triangular"
                );
                for j in 0..n {
                    // h · Uᵀ U
                    let inverse = |k: usize| (0..n).map(|m| upper[m * n + k] * upper[m * n + j]).sum::<f64>();
                    let unit: f64 = (0..n).map(|k| h[i * n + k] * inverse(k)).sum();
                    assert!(
                        (unit - f64::from(u8::from(i == j))).abs() < 1e-9,
                        "{i} {j}: {unit}"
                    );
                }
            }
        }
    }

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
        let one = product(&|i, k| r[i * n + k], &|k, j| u[k * n + j]);
        for i in 0..n * n {
            assert!((back[i] - h[i]).abs() < 1e-9);
            assert!((one[i] - f64::from(u8::from(i / n == i % n))).abs() < 1e-5);
            assert!(i / n <= i % n || r[i] == 0.0);
        }
    }
}

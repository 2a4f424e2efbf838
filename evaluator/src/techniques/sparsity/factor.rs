//! The triangular factor of an inverse, in double precision.

use rayon::prelude::*;

use crate::counter;

/// The upper triangular `U`, `[n, n]`, with `h⁻¹ = Uᵀ U` for a positive definite `h [n, n]`.
///
/// Turned end for end, `h` has a Cholesky factor `L`, and `U` is `L⁻¹` turned end for end: so there is one factorisation and no inverse of `h`.
pub(super) fn upper_of_inverse(h: &[f64], n: usize) -> Vec<f64> {
    let turned: Vec<f64> = h.iter().rev().copied().collect();
    let mut inverse = inverse_of_lower(&cholesky(turned, n), n);
    inverse.reverse();
    counter::add_macs(macs(n));
    inverse
}

/// Multiply-adds of [`upper_of_inverse`]: a sixth of `n³` each for the factor and its inverse.
pub(super) fn macs(n: usize) -> usize {
    (n * n * n - n) / 3
}

/// The lower triangular `L` with `a = L Lᵀ`.
fn cholesky(mut a: Vec<f64>, n: usize) -> Vec<f64> {
    for j in 0..n {
        let (done, open) = a.split_at_mut(j * n + n);
        let line = &mut done[j * n..];
        line[j] = (line[j] - dot(&line[..j], &line[..j])).sqrt();
        line[j + 1..].fill(0.0);
        let line = &*line;
        // rows below are independent of one another
        open.par_chunks_exact_mut(n).with_min_len(64).for_each(|row| {
            row[j] = (row[j] - dot(&row[..j], &line[..j])) / line[j];
        });
    }
    a
}

/// `L⁻¹` of a lower triangular `L`, row after row.
fn inverse_of_lower(lower: &[f64], n: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; n * n];
    for i in 0..n {
        let (done, open) = inverse.split_at_mut(i * n);
        let row = &mut open[..n];
        for k in 0..i {
            let factor = lower[i * n + k];
            for (x, y) in row[..=k].iter_mut().zip(&done[k * n..]) {
                *x -= factor * y;
            }
        }
        let pivot = 1.0 / lower[i * n + i];
        row[..i].iter_mut().for_each(|x| *x *= pivot);
        row[i] = pivot;
    }
    inverse
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
            let (upper, macs_counted) = counter::count_macs(|| upper_of_inverse(&h, n));
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
}

//! Eigenvectors of a symmetric matrix, by rotations that make one pair of its rows orthogonal at a time (Jacobi's method).

use crate::counter;

/// Times that every pair of rows is gone through: so many that nothing is left to turn, and always as many, so that the work is
/// known.
const SWEEPS: usize = 10;

/// Multiply-adds of a matrix `[n, n]`.
pub(super) fn macs(n: usize) -> u64 {
    (SWEEPS * sweep_macs(n)) as u64
}

/// Two rows, two columns and two vectors for each pair, at two multiply-adds a number.
fn sweep_macs(n: usize) -> usize {
    n * (n - 1) / 2 * 12 * n
}

/// The eigenvectors of `a [n, n]`, each a row of length 1, those of the largest eigenvalues first.
pub(super) fn eigenvectors(mut a: Vec<f64>, n: usize) -> Vec<Vec<f64>> {
    let mut vectors = vec![0.0; n * n];
    for i in 0..n {
        vectors[i * n + i] = 1.0;
    }
    for _ in 0..SWEEPS {
        counter::add_macs(sweep_macs(n));
        for p in 0..n {
            for q in p + 1..n {
                let turn = rotation(a[p * n + p], a[q * n + q], a[p * n + q]);
                turn_rows(&mut a, n, [p, q], turn);
                for row in a.chunks_exact_mut(n) {
                    (row[p], row[q]) = turned(row[p], row[q], turn);
                }
                turn_rows(&mut vectors, n, [p, q], turn);
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|i, j| a[j * n + j].total_cmp(&a[i * n + i]).then(i.cmp(j)));
    let row = |i: usize| vectors[i * n..(i + 1) * n].to_vec();
    order.into_iter().map(row).collect()
}

/// Cosine and sine of the smaller angle that makes `[[pp, pq], [pq, qq]]` diagonal.
fn rotation(pp: f64, qq: f64, pq: f64) -> [f64; 2] {
    if pq == 0.0 {
        return [1.0, 0.0];
    }
    let ratio = (qq - pp) / (2.0 * pq);
    let tangent = ratio.signum() / (ratio.abs() + ratio.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    [cosine, tangent * cosine]
}

fn turned(p: f64, q: f64, [cosine, sine]: [f64; 2]) -> (f64, f64) {
    (cosine * p - sine * q, sine * p + cosine * q)
}

fn turn_rows(a: &mut [f64], n: usize, [p, q]: [usize; 2], turn: [f64; 2]) {
    let (before, from_q) = a.split_at_mut(q * n);
    let row = before[p * n..(p + 1) * n].iter_mut();
    for (p, q) in row.zip(&mut from_q[..n]) {
        (*p, *q) = turned(*p, *q, turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_orthonormal_and_stretched_by_falling_values() {
        let n = 24;
        let entry = |i: usize, j: usize| ((i * j + 3 * (i + j)) % 7) as f64 - 3.0 + 0.1 * (i + j) as f64;
        let a: Vec<f64> = (0..n * n).map(|k| entry(k / n, k % n)).collect();
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let vectors = eigenvectors(a.clone(), n);
        let mut before = f64::INFINITY;
        for (i, v) in vectors.iter().enumerate() {
            for (j, other) in vectors.iter().enumerate() {
                let expected = f64::from(u8::from(i == j));
                assert!((dot(v, other) - expected).abs() < 1e-9);
            }
            let stretched: Vec<f64> = a.chunks_exact(n).map(|row| dot(row, v)).collect();
            let value = dot(&stretched, v);
            let off = stretched.iter().zip(v).map(|(s, v)| (s - value * v).abs());
            assert!(off.fold(0.0, f64::max) < 1e-9, "{i}");
            assert!(value <= before + 1e-9);
            before = value;
        }
    }
}

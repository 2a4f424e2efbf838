//! The covariance: a Matérn-5/2 over all parameters together, plus a sum over the parameters and a sum over pairs of
//! them.
//!
//! The joint part has automatic relevance (one rate, an inverse length, for each parameter). The sums (additive
//! processes of the first and second order, Duvenaud et al. 2011) learn main effects and what two parameters do together
//! from few trials, which is most of what a cost formula or a loss is made of.
//!
//! Loops compiled for several sets of vector instructions give the same bits in each: no sum is reordered by the width of
//! a vector, and nothing is fused.

use std::collections::HashMap;

use multiversion::multiversion;

use super::{
    cholesky::Lower,
    coordinates::{Layout, Points},
    exponential::exp_neg,
    likelihood::JITTER,
};

/// Square root of 5.
pub(crate) const ROOT5: f64 = 2.236_067_977_499_79;

/// Logarithms that stand before those of the rates.
pub(super) const SCALARS: usize = 4;

/// What a Matérn-5/2 has besides its `exp(-t)`, at `t` = root of 5 times the distance over the length.
#[inline(always)]
pub(crate) fn polynomial(t: f64) -> f64 {
    1.0 + t + t * t * (1.0 / 3.0)
}

/// The parameters of the covariance, in units of the standardised outcome.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kernel {
    /// Variance of the noise.
    pub(crate) noise: f64,
    /// Variance of the joint part.
    pub(crate) joint: f64,
    /// Variance of the sum over parameters.
    pub(crate) sum: f64,
    /// Variance of the sum over pairs of parameters.
    pub(crate) pair: f64,
    /// Inverse lengths of the joint part.
    pub(crate) joint_rates: Vec<f64>,
    /// Inverse lengths of both sums.
    pub(crate) sum_rates: Vec<f64>,
}

impl Kernel {
    /// From logarithms: noise, joint, sum, pair, the joint rates, the rates of the sums.
    pub(crate) fn from_logs(theta: &[f64]) -> Kernel {
        let axes = (theta.len() - SCALARS) / 2;
        let exp = |logs: &[f64]| logs.iter().map(|v| v.exp()).collect();
        Kernel {
            noise: theta[0].exp(),
            joint: theta[1].exp(),
            sum: theta[2].exp(),
            pair: theta[3].exp(),
            joint_rates: exp(&theta[SCALARS..SCALARS + axes]),
            sum_rates: exp(&theta[SCALARS + axes..]),
        }
    }

    /// What the sums are multiplied by, that over parameters and that over pairs of `axes` parameters.
    pub(super) fn shares(&self, axes: usize) -> (f64, f64) {
        let pairs = axes * axes.saturating_sub(1) / 2;
        (self.sum / axes.max(1) as f64, self.pair / pairs.max(1) as f64)
    }

    /// The variance of the function itself at any point.
    pub(crate) fn variance(&self) -> f64 {
        let pair = if self.sum_rates.len() > 1 { self.pair } else { 0.0 };
        self.joint + self.sum + pair
    }

    /// The covariances of outcomes at points, noise on the diagonal.
    pub(super) fn matrix(&self, n: usize, pairs: &[Vec<f64>]) -> Lower {
        let mut matrix = Lower::zeros(n);
        let (share, pair) = self.shares(pairs.len());
        let (mut squares, mut own) = (vec![0.0; n], vec![0.0; n]);
        for i in 0..n {
            let start = i * i.saturating_sub(1) / 2;
            let row = &mut matrix.values[i * n..][..=i];
            squares.fill(0.0);
            own.fill(0.0);
            for (axis, distances) in pairs.iter().enumerate() {
                let (joint, rate) = (self.joint_rates[axis].powi(2), ROOT5 * self.sum_rates[axis]);
                let distances = &distances[start..start + i];
                add_axis(
                    distances,
                    joint,
                    rate,
                    &mut squares[..i],
                    &mut own[..i],
                    &mut row[..i],
                );
            }
            total(self.joint, share, pair, &squares[..i], &own[..i], &mut row[..i]);
            row[i] = self.variance() + self.noise + JITTER;
        }
        matrix
    }

    /// The covariances of one point with all of `points`, into `out`.
    pub(crate) fn row(
        &self,
        layout: &Layout,
        point: &[f64],
        points: &Points,
        memo: &mut Memo,
        out: &mut [f64],
    ) {
        let n = out.len();
        for scratch in [&mut memo.squares, &mut memo.own] {
            scratch.clear();
            scratch.resize(n, 0.0);
        }
        out.fill(0.0);
        let mut column = 0;
        for axis in 0..layout.len() {
            let from = column;
            column += layout.columns(axis);
            let terms = if layout.is_finite(axis) {
                let key = layout.key(&point[from..column]);
                let terms = &mut memo.terms[axis];
                let at = *memo.places[axis].entry(key).or_insert_with(|| {
                    let at = terms.len();
                    terms.resize(at + 2 * n, 0.0);
                    self.terms(layout, point, points, axis, from, &mut terms[at..]);
                    at
                });
                &memo.terms[axis][at..at + 2 * n]
            } else {
                memo.fresh.resize(2 * n, 0.0);
                self.terms(layout, point, points, axis, from, &mut memo.fresh);
                &memo.fresh[..]
            };
            let (squares, sums) = terms.split_at(n);
            memo.squares.iter_mut().zip(squares).for_each(|(t, s)| *t += s);
            for ((total, own), k) in out.iter_mut().zip(&mut memo.own).zip(sums) {
                *total += k;
                *own += k * k;
            }
        }
        let (share, pair) = self.shares(layout.len());
        total(self.joint, share, pair, &memo.squares, &memo.own, out);
    }

    /// One axis's part: of the squared distance in the first half of `terms`, of the sums in the second.
    fn terms(
        &self,
        layout: &Layout,
        point: &[f64],
        points: &Points,
        axis: usize,
        from: usize,
        terms: &mut [f64],
    ) {
        let (squares, sums) = terms.split_at_mut(points.n);
        layout.distances(point, points, axis, from, squares);
        let (joint, rate) = (self.joint_rates[axis].powi(2), ROOT5 * self.sum_rates[axis]);
        axis_terms(joint, rate, squares, sums);
    }
}

/// Adds one axis to the squared distances, to the squares of the sums' terms and to the sums.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn add_axis(
    distances: &[f64],
    joint: f64,
    rate: f64,
    squares: &mut [f64],
    own: &mut [f64],
    sums: &mut [f64],
) {
    for (((d, square), own), sum) in distances.iter().zip(squares).zip(own).zip(sums) {
        *square += joint * d * d;
        let t = rate * d;
        let k = polynomial(t) * exp_neg(-t);
        *sum += k;
        *own += k * k;
    }
}

/// Makes distances along one axis its part of the squared distances, and gives its terms of the sums.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn axis_terms(joint: f64, rate: f64, distances: &mut [f64], sums: &mut [f64]) {
    for (d, sum) in distances.iter_mut().zip(sums) {
        let t = rate * *d;
        *sum = polynomial(t) * exp_neg(-t);
        *d = joint * *d * *d;
    }
}

/// Makes sums over the parameters covariances, given the joint part's squared distances and the sums of the squares.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn total(joint: f64, share: f64, pair: f64, squares: &[f64], own: &[f64], sums: &mut [f64]) {
    for ((square, own), sum) in squares.iter().zip(own).zip(sums) {
        let t = ROOT5 * square.sqrt();
        // each pair once: half of the square of the sum less the squares (Newton and Girard)
        let pairs = 0.5 * (*sum * *sum - own);
        *sum = joint * polynomial(t) * exp_neg(-t) + share * *sum + pair * pairs;
    }
}

/// What the rows of a covariance have in common: a finite axis has few values, each computed once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memo {
    places: Vec<HashMap<u64, usize>>,
    terms: Vec<Vec<f64>>,
    fresh: Vec<f64>,
    squares: Vec<f64>,
    own: Vec<f64>,
}

impl Memo {
    pub(crate) fn new(layout: &Layout) -> Memo {
        Memo {
            places: vec![HashMap::new(); layout.len()],
            terms: vec![Vec::new(); layout.len()],
            ..Memo::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loops once more, for the instructions that every machine has: what is drawn again elsewhere must not differ.
    #[test]
    fn wider_vectors_give_the_same_bits() {
        let distances: Vec<f64> = (0..101).map(|i| (f64::from(i) * 0.37).sin().abs()).collect();
        let (joint, rate) = (0.7, 1.9);
        let (mut squares, mut sums) = (distances.clone(), vec![0.0; 101]);
        axis_terms(joint, rate, &mut squares, &mut sums);
        let (mut added, mut own, mut whole) = (vec![0.1; 101], vec![0.2; 101], vec![0.3; 101]);
        add_axis(&distances, joint, rate, &mut added, &mut own, &mut whole);
        let mut totals = sums.clone();
        total(1.3, 0.4, 0.2, &squares, &own, &mut totals);
        for (i, d) in distances.iter().enumerate() {
            let t = std::hint::black_box(rate * d);
            let term = polynomial(t) * exp_neg(-t);
            assert_eq!((squares[i], sums[i]), (joint * d * d, term));
            assert_eq!(
                (added[i], own[i], whole[i]),
                (0.1 + joint * d * d, 0.2 + term * term, 0.3 + term)
            );
            let t = std::hint::black_box(ROOT5 * squares[i].sqrt());
            let pairs = 0.5 * (term * term - own[i]);
            assert_eq!(
                totals[i],
                1.3 * polynomial(t) * exp_neg(-t) + 0.4 * term + 0.2 * pairs
            );
        }
    }
}

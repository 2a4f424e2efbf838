//! The covariance: a Matérn-5/2 over all parameters together, plus a sum of Matérn-5/2 of each one alone.
//!
//! The joint part has automatic relevance (one rate, an inverse length, for each parameter). The sum (Duvenaud et al.
//! 2011) learns main effects from few trials, which is most of what a cost formula or a loss is made of.

use std::collections::HashMap;

use super::{
    cholesky::Lower,
    coordinates::{Layout, Points},
    exponential::exp_neg,
    likelihood::JITTER,
};

/// Square root of 5.
pub(crate) const ROOT5: f64 = 2.236_067_977_499_79;

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
    /// Variance of the sum.
    pub(crate) sum: f64,
    /// Inverse lengths of the joint part.
    pub(crate) joint_rates: Vec<f64>,
    /// Inverse lengths of the sum.
    pub(crate) sum_rates: Vec<f64>,
}

impl Kernel {
    /// From logarithms: noise, joint, sum, the joint rates, the rates of the sum.
    pub(crate) fn from_logs(theta: &[f64]) -> Kernel {
        let axes = (theta.len() - 3) / 2;
        let exp = |logs: &[f64]| logs.iter().map(|v| v.exp()).collect();
        Kernel {
            noise: theta[0].exp(),
            joint: theta[1].exp(),
            sum: theta[2].exp(),
            joint_rates: exp(&theta[3..3 + axes]),
            sum_rates: exp(&theta[3 + axes..]),
        }
    }

    /// The variance of the function itself at any point.
    pub(crate) fn variance(&self) -> f64 {
        self.joint + self.sum
    }

    /// The covariances of outcomes at points, noise on the diagonal.
    pub(super) fn matrix(&self, n: usize, pairs: &[Vec<f64>]) -> Lower {
        let mut matrix = Lower::zeros(n);
        let share = self.sum / pairs.len().max(1) as f64;
        let mut squares = vec![0.0; n];
        for i in 0..n {
            let start = i * i.saturating_sub(1) / 2;
            let row = &mut matrix.values[i * n..][..=i];
            squares.fill(0.0);
            for (axis, distances) in pairs.iter().enumerate() {
                let (joint, rate) = (self.joint_rates[axis].powi(2), ROOT5 * self.sum_rates[axis]);
                for ((d, square), value) in distances[start..start + i]
                    .iter()
                    .zip(&mut squares)
                    .zip(row.iter_mut())
                {
                    *square += joint * d * d;
                    let t = rate * d;
                    *value += share * polynomial(t) * exp_neg(-t);
                }
            }
            for (square, value) in squares[..i].iter().zip(row.iter_mut()) {
                let t = ROOT5 * square.sqrt();
                *value += self.joint * polynomial(t) * exp_neg(-t);
            }
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
        memo.squares.clear();
        memo.squares.resize(n, 0.0);
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
            out.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
        }
        for (square, k) in memo.squares.iter().zip(out.iter_mut()) {
            let t = ROOT5 * square.sqrt();
            *k += self.joint * polynomial(t) * exp_neg(-t);
        }
    }

    /// One axis's part: of the squared distance in the first half of `terms`, of the sum in the second.
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
        let share = self.sum / layout.len() as f64;
        let (joint, rate) = (self.joint_rates[axis].powi(2), ROOT5 * self.sum_rates[axis]);
        for (square, sum) in squares.iter_mut().zip(sums) {
            let d = *square;
            *square = joint * d * d;
            let t = rate * d;
            *sum = share * polynomial(t) * exp_neg(-t);
        }
    }
}

/// What the rows of a covariance have in common: a finite axis has few values, each computed once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memo {
    places: Vec<HashMap<u64, usize>>,
    terms: Vec<Vec<f64>>,
    fresh: Vec<f64>,
    squares: Vec<f64>,
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

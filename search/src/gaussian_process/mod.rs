//! Gaussian process regression over mixed and conditional spaces (Rasmussen and Williams 2006).
//!
//! [`GaussianProcess::new`] conditions on data under a [`Kernel`]; [`fit`] finds the kernel. Outcomes are standardised
//! by the caller.

mod cholesky;
mod coordinates;
mod exponential;
mod fit;
mod kernel;
mod likelihood;

use self::{
    cholesky::{Lower, dot},
    likelihood::JITTER,
};
pub(crate) use self::{
    coordinates::{Layout, Points},
    fit::fit,
    kernel::Kernel,
    likelihood::Evidence,
};

/// A Gaussian process that has seen data.
#[derive(Clone, Debug)]
pub(crate) struct GaussianProcess {
    kernel: Kernel,
    factor: Lower,
    alpha: Vec<f64>,
    memo: kernel::Memo,
    row: Vec<f64>,
}

impl GaussianProcess {
    /// Conditions on standardised outcomes at points; where rounding makes the matrix singular, with more noise.
    pub(crate) fn new(
        layout: &Layout,
        points: &Points,
        pairs: &[Vec<f64>],
        outcomes: &[f64],
        kernel: Kernel,
    ) -> Self {
        let mut kernel = kernel;
        loop {
            let mut factor = kernel.matrix(points.n, pairs);
            if factor.factor() {
                let mut alpha = outcomes.to_vec();
                factor.solve(&mut alpha);
                factor.solve_transposed(&mut alpha);
                debug_assert_eq!(layout.len(), pairs.len());
                let (memo, row) = (kernel::Memo::new(layout), vec![0.0; points.n]);
                return GaussianProcess {
                    kernel,
                    factor,
                    alpha,
                    memo,
                    row,
                };
            }
            kernel.noise = 10.0 * kernel.noise.max(JITTER);
        }
    }

    /// Mean and standard deviation of the function, noise left out, at a point.
    pub(crate) fn predict(&mut self, layout: &Layout, points: &Points, point: &[f64]) -> (f64, f64) {
        let row = &mut self.row;
        self.kernel.row(layout, point, points, &mut self.memo, row);
        let mean = dot(row, &self.alpha);
        self.factor.solve(row);
        let variance = self.kernel.variance() - dot(row, row);
        (mean, variance.max(1e-12).sqrt())
    }

    /// The function's mean at the data, given the outcomes the process has seen.
    pub(crate) fn smoothed(&self, outcomes: &[f64]) -> Vec<f64> {
        let noise = self.kernel.noise + JITTER;
        outcomes
            .iter()
            .zip(&self.alpha)
            .map(|(y, a)| y - noise * a)
            .collect()
    }
}

impl Kernel {
    /// The covariances of outcomes at points, noise on the diagonal.
    fn matrix(&self, n: usize, pairs: &[Vec<f64>]) -> Lower {
        let mut matrix = Lower::zeros(n);
        let share = self.sum / pairs.len().max(1) as f64;
        let mut squares = vec![0.0; n];
        for i in 0..n {
            let start = i * i.saturating_sub(1) / 2;
            let row = &mut matrix.values[i * n..][..=i];
            squares.fill(0.0);
            for (axis, distances) in pairs.iter().enumerate() {
                let (joint, rate) = (
                    self.joint_rates[axis].powi(2),
                    kernel::ROOT5 * self.sum_rates[axis],
                );
                for ((d, square), value) in distances[start..start + i]
                    .iter()
                    .zip(&mut squares)
                    .zip(row.iter_mut())
                {
                    *square += joint * d * d;
                    let t = rate * d;
                    *value += share * (1.0 + t + t * t * (1.0 / 3.0)) * exponential::exp_neg(-t);
                }
            }
            for (square, value) in squares[..i].iter().zip(row.iter_mut()) {
                let t = kernel::ROOT5 * square.sqrt();
                *value += self.joint * (1.0 + t + t * t * (1.0 / 3.0)) * exponential::exp_neg(-t);
            }
            row[i] = self.variance() + self.noise + JITTER;
        }
        matrix
    }
}

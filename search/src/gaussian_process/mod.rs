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

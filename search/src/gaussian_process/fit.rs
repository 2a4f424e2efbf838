//! Hyperparameters by L-BFGS from several starts.

use argmin::{
    core::{CostFunction, Error, Executor, Gradient, State},
    solver::{linesearch::MoreThuenteLineSearch, quasinewton::LBFGS},
};
use std::cell::RefCell;

use super::likelihood::{Evidence, Workspace};

/// Steps of each start.
const STEPS: u64 = 30;
/// Pairs of differences that the method remembers.
const MEMORY: usize = 7;
/// A gradient as flat as this is flat enough for a search.
const FLAT: f64 = 1e-2;
/// An improvement as small as this is too small to go on.
const SMALL: f64 = 1e-3;

struct Fit<'a> {
    evidence: &'a Evidence<'a>,
    /// The gradient of the last point asked about, since cost and gradient come out of one computation.
    last: RefCell<(Vec<f64>, f64, Vec<f64>)>,
    work: &'a RefCell<Workspace>,
}

impl Fit<'_> {
    fn at(&self, theta: &[f64]) -> (f64, Vec<f64>) {
        let mut last = self.last.borrow_mut();
        if last.0 != theta {
            let mut gradient = vec![0.0; theta.len()];
            // logarithms beyond this are no hyperparameters, and their exponentials overflow
            let cost = if theta.iter().all(|t| t.abs() < 40.0) {
                self.evidence
                    .cost(theta, &mut gradient, &mut self.work.borrow_mut())
            } else {
                f64::INFINITY
            };
            *last = (
                theta.to_vec(),
                if cost.is_finite() { cost } else { 1e12 },
                gradient,
            );
        }
        (last.1, last.2.clone())
    }
}

impl CostFunction for &Fit<'_> {
    type Param = Vec<f64>;
    type Output = f64;
    fn cost(&self, theta: &Vec<f64>) -> Result<f64, Error> {
        Ok(self.at(theta).0)
    }
}

impl Gradient for &Fit<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;
    fn gradient(&self, theta: &Vec<f64>) -> Result<Vec<f64>, Error> {
        Ok(self.at(theta).1)
    }
}

/// The most likely hyperparameters, in logarithms, that L-BFGS finds from the starts, and minus their log density.
pub(crate) fn fit(evidence: &Evidence<'_>, starts: &[Vec<f64>]) -> (f64, Vec<f64>) {
    let mut best: Option<(f64, Vec<f64>)> = None;
    let work = RefCell::default();
    for start in starts {
        let problem = Fit {
            evidence,
            last: RefCell::default(),
            work: &work,
        };
        let solver = LBFGS::new(MoreThuenteLineSearch::new(), MEMORY)
            .with_tolerance_grad(FLAT)
            .and_then(|s| s.with_tolerance_cost(SMALL));
        let found = solver.and_then(|solver| {
            Executor::new(&problem, solver)
                .configure(|state| state.param(start.clone()).max_iters(STEPS))
                .timer(false)
                .run()
        });
        // a line search that fails leaves the start, which is a possible answer too
        let theta = found
            .ok()
            .and_then(|f| f.state().get_best_param().cloned())
            .unwrap_or_else(|| start.clone());
        let (cost, _) = problem.at(&theta);
        if best.as_ref().is_none_or(|b| cost < b.0) {
            best = Some((cost, theta));
        }
    }
    best.expect("there is a start")
}

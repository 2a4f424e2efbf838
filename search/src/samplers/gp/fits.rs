//! Hyperparameters of the processes: fitted when the trials have grown by a tenth, remembered until then.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::scale::Scale;
use crate::gaussian_process::{Evidence, Layout, fit};

/// Trials by which the number grows before hyperparameters are fitted again, as a share of it.
const GROWTH: f64 = 0.1;
/// Fits that build on one another before one starts afresh, which bounds what a new process has to repeat.
const CHAIN: usize = 4;
/// An exponent as close to 1 as this bends nothing.
const LEAST_BEND: f64 = 0.075;
/// Most trials that hyperparameters are fitted to.
const FIT_TRIALS: usize = 120;

/// One metric's outcomes at all trials, in finish order, less being better where it is an objective.
pub(super) struct Target {
    /// Tells the fits of different metrics apart.
    pub(super) id: usize,
    /// Whether the outcomes may be bent to look normal.
    pub(super) bends: bool,
    pub(super) outcomes: Vec<f64>,
}

/// What explains a metric's outcomes best.
#[derive(Clone, Debug)]
pub(super) struct Fitted {
    /// Logarithms of the covariance's parameters.
    pub(super) theta: Vec<f64>,
    /// Exponent by which outcomes are bent.
    pub(super) power: f64,
}

/// Hyperparameters that were fitted, by what they were fitted to.
#[derive(Default)]
pub(super) struct Fits {
    known: Vec<(u64, Fitted)>,
}

impl Fits {
    /// What explains a target's outcomes at `units`, fitted to the trials up to the last milestone.
    ///
    /// A function of the trials alone; what was fitted before is remembered.
    pub(super) fn fit(&mut self, layout: &Layout, units: &[Vec<Option<f64>>], target: &Target) -> Fitted {
        let (mut milestones, mut next) = (vec![], 4);
        while next <= units.len() {
            milestones.push(next);
            next += ((next as f64 * GROWTH) as usize).max(1);
        }
        let Some(last) = milestones.len().checked_sub(1) else {
            let empty = Evidence {
                outcomes: &[],
                pairs: &vec![vec![]; layout.len()],
            };
            return Fitted {
                theta: empty.start(),
                power: 1.0,
            };
        };
        let mut previous = None;
        for (i, milestone) in milestones.iter().enumerate().skip(last - last % CHAIN) {
            let anchor = i % CHAIN == 0;
            previous = Some(self.fitted(layout, &units[..*milestone], target, previous.filter(|_| !anchor)));
        }
        previous.expect("at least the last milestone was fitted")
    }

    fn fitted(
        &mut self,
        layout: &Layout,
        units: &[Vec<Option<f64>>],
        target: &Target,
        previous: Option<Fitted>,
    ) -> Fitted {
        let n = units.len();
        // the newest half, and the others evenly thinned
        let chosen: Vec<usize> = if n <= FIT_TRIALS {
            (0..n).collect()
        } else {
            let (new, old) = (FIT_TRIALS / 2, n - FIT_TRIALS / 2);
            (0..FIT_TRIALS - new)
                .map(|i| i * old / (FIT_TRIALS - new))
                .chain(old..n)
                .collect()
        };
        let outcomes: Vec<f64> = chosen.iter().map(|i| target.outcomes[*i]).collect();
        let mut hasher = DefaultHasher::new();
        (target.id, n).hash(&mut hasher);
        outcomes.iter().for_each(|v| v.to_bits().hash(&mut hasher));
        for i in &chosen {
            units[*i]
                .iter()
                .for_each(|u| u.map(f64::to_bits).hash(&mut hasher));
        }
        let key = hasher.finish();
        if let Some((_, fitted)) = self.known.iter().find(|(k, _)| *k == key) {
            return fitted.clone();
        }
        let points = layout.points(chosen.iter().map(|i| &units[*i][..]));
        let pairs = layout.pairs(&points);
        let fitted = match previous {
            Some(Fitted { theta, power }) => explain(&outcomes, &pairs, power, Some(theta)).1,
            None => {
                let straight = explain(&outcomes, &pairs, 1.0, None);
                let power = if target.bends {
                    Scale::likeliest(&outcomes)
                } else {
                    1.0
                };
                let better = |power| {
                    let bent = explain(&outcomes, &pairs, power, Some(straight.1.theta.clone()));
                    (bent.0 < straight.0).then_some(bent.1)
                };
                let bent = ((power - 1.0).abs() > LEAST_BEND)
                    .then(|| better(power))
                    .flatten();
                bent.unwrap_or(straight.1)
            }
        };
        const REMEMBERED: usize = 64;
        if self.known.len() >= REMEMBERED {
            self.known.remove(0);
        }
        self.known.push((key, fitted.clone()));
        fitted
    }
}

/// Fits a covariance to bent outcomes, from a start or from two usual ones; with minus the log density of the outcomes,
/// by which exponents compare.
fn explain(outcomes: &[f64], pairs: &[Vec<f64>], power: f64, start: Option<Vec<f64>>) -> (f64, Fitted) {
    let scale = Scale::new(outcomes, power);
    let bent: Vec<f64> = outcomes.iter().map(|v| scale.apply(*v)).collect();
    let evidence = Evidence {
        outcomes: &bent,
        pairs,
    };
    let starts = match start {
        Some(start) => vec![start],
        None => vec![evidence.start(), evidence.rough_start()],
    };
    let (cost, theta) = fit(&evidence, &starts);
    (cost + scale.cost(outcomes), Fitted { theta, power })
}

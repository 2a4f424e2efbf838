//! What the trials say about each metric: one Gaussian process for each that is not known beforehand.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::{
    expected_improvement::Belief,
    gaussian_process::{Evidence, GaussianProcess, Kernel, Layout, Points, fit},
};

/// Trials by which the number grows before hyperparameters are fitted again, as a share of it.
const GROWTH: f64 = 0.1;
/// Fits that build on one another before one starts afresh, which bounds what a new process has to repeat.
const CHAIN: usize = 4;
/// Most trials that hyperparameters are fitted to.
const FIT_TRIALS: usize = 120;

/// Outcomes shifted and scaled to mean 0 and variance 1; those far on the bad side are drawn in.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    mean: f64,
    deviation: f64,
    most: f64,
}

impl Scale {
    /// The scale of finite outcomes, less being better.
    pub(super) fn new(outcomes: &[f64]) -> Scale {
        let mut sorted = outcomes.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
        // a result that is far off says "bad" and no more: it must not flatten the differences that count
        let spread = at(0.75) / 2.0 - at(0.25) / 2.0;
        let most = if spread > 0.0 {
            at(0.75) + 10.0 * spread
        } else {
            at(1.0)
        };
        let most = if most.is_finite() { most } else { at(0.75) };
        let n = sorted.len() as f64;
        let drawn_in = || sorted.iter().map(|v| v.min(most) / n);
        let mean: f64 = drawn_in().sum();
        let half = |v: f64| (v.min(most) / 2.0 - mean / 2.0).abs();
        let largest = sorted.iter().map(|v| half(*v)).fold(0.0, f64::max);
        let deviation = if largest > 0.0 && largest.is_finite() {
            let square = sorted.iter().map(|v| (half(*v) / largest).powi(2)).sum::<f64>() / n;
            2.0 * largest * square.sqrt()
        } else {
            1.0
        };
        let deviation = if deviation.is_finite() { deviation } else { 1.0 };
        Scale {
            mean,
            deviation,
            most,
        }
    }

    /// An outcome in standard units.
    pub(super) fn apply(&self, outcome: f64) -> f64 {
        (outcome.min(self.most) - self.mean) / self.deviation
    }

    /// A limit in standard units, not drawn in.
    pub(super) fn limit(&self, limit: f64) -> f64 {
        (limit - self.mean) / self.deviation
    }
}

/// One metric's outcomes at all trials, in finish order, less being better where it is an objective.
pub(super) struct Target {
    /// Tells the fits of different metrics apart.
    pub(super) id: usize,
    pub(super) outcomes: Vec<f64>,
}

/// Hyperparameters that were fitted, by what they were fitted to.
#[derive(Default)]
pub(super) struct Fits {
    known: Vec<(u64, Vec<f64>)>,
}

impl Fits {
    /// The covariance for a target's outcomes at `units`: fitted to the trials up to the last milestone.
    ///
    /// A function of the trials alone; what was fitted before is remembered.
    pub(super) fn kernel(&mut self, layout: &Layout, units: &[Vec<Option<f64>>], target: &Target) -> Kernel {
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
            return Kernel::from_logs(&empty.start());
        };
        let mut previous = None;
        for (i, milestone) in milestones.iter().enumerate().skip(last - last % CHAIN) {
            let anchor = i % CHAIN == 0;
            previous = Some(self.fitted(layout, &units[..*milestone], target, previous.filter(|_| !anchor)));
        }
        Kernel::from_logs(&previous.expect("at least the last milestone was fitted"))
    }

    fn fitted(
        &mut self,
        layout: &Layout,
        units: &[Vec<Option<f64>>],
        target: &Target,
        previous: Option<Vec<f64>>,
    ) -> Vec<f64> {
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
        if let Some((_, theta)) = self.known.iter().find(|(k, _)| *k == key) {
            return theta.clone();
        }
        let scale = Scale::new(&outcomes);
        let standard: Vec<f64> = outcomes.iter().map(|v| scale.apply(*v)).collect();
        let points = layout.points(chosen.iter().map(|i| &units[*i][..]));
        let pairs = layout.pairs(&points);
        let evidence = Evidence {
            outcomes: &standard,
            pairs: &pairs,
        };
        let middle = evidence.start();
        let starts = match previous {
            Some(previous) => vec![previous],
            None => {
                // rougher than expected, as a start of its own
                let rough = middle
                    .iter()
                    .enumerate()
                    .map(|(i, t)| if i < 4 { *t } else { t + 1.5 })
                    .collect();
                vec![middle, rough]
            }
        };
        let theta = fit(&evidence, &starts);
        const REMEMBERED: usize = 64;
        if self.known.len() >= REMEMBERED {
            self.known.remove(0);
        }
        self.known.push((key, theta.clone()));
        theta
    }
}

/// A metric's process, with what turns its predictions back.
pub(super) struct Surrogate {
    process: GaussianProcess,
    pub(super) scale: Scale,
    /// Believed values at the points, noise taken out.
    pub(super) smoothed: Vec<f64>,
}

impl Surrogate {
    /// Learns from the outcomes at the first points; at the later ones, which are pending, it believes itself.
    pub(super) fn new(
        layout: &Layout,
        points: &Points,
        pairs: &[Vec<f64>],
        outcomes: &[f64],
        kernel: Kernel,
    ) -> Self {
        let scale = Scale::new(outcomes);
        let mut standard: Vec<f64> = outcomes.iter().map(|v| scale.apply(*v)).collect();
        if outcomes.len() < points.n {
            let measured = points.first(outcomes.len());
            let count = measured.n * measured.n.saturating_sub(1) / 2;
            let among: Vec<Vec<f64>> = pairs.iter().map(|p| p[..count].to_vec()).collect();
            let mut process = GaussianProcess::new(layout, &measured, &among, &standard, kernel.clone());
            for i in outcomes.len()..points.n {
                standard.push(process.predict(layout, &measured, &points.row(i)).0);
            }
        }
        let process = GaussianProcess::new(layout, points, pairs, &standard, kernel);
        let smoothed = process.smoothed(&standard);
        Surrogate {
            process,
            scale,
            smoothed,
        }
    }

    /// What is believed about a point, in standard units.
    pub(super) fn belief(&mut self, layout: &Layout, points: &Points, point: &[f64]) -> Belief {
        let (mean, deviation) = self.process.predict(layout, points, point);
        Belief { mean, deviation }
    }
}

//! What the trials say about each metric: one Gaussian process for each that is not known beforehand.

use super::{fits::Fitted, scale::Scale};
use crate::{
    expected_improvement::Belief,
    gaussian_process::{GaussianProcess, Kernel, Layout, Points},
};

/// A metric's process, with what turns its predictions back.
pub(super) struct Surrogate {
    process: GaussianProcess,
    pub(super) scale: Scale,
    /// Believed values at the points, noise taken out, straightened; of pending ones a deviation better than expected, so that
    /// what one of them may well improve is not improved by another at the same time.
    pub(super) smoothed: Vec<f64>,
}

impl Surrogate {
    /// Learns from the outcomes at the first points; at the later ones, which are pending, it believes itself.
    pub(super) fn new(
        layout: &Layout,
        points: &Points,
        pairs: &[Vec<f64>],
        outcomes: &[f64],
        fitted: Fitted,
    ) -> Self {
        let kernel = Kernel::from_logs(&fitted.theta);
        let scale = Scale::new(outcomes, fitted.power);
        let mut standard: Vec<f64> = outcomes.iter().map(|v| scale.apply(*v)).collect();
        let mut deviations = vec![0.0; outcomes.len()];
        if outcomes.len() < points.n {
            let measured = points.first(outcomes.len());
            let count = measured.n * measured.n.saturating_sub(1) / 2;
            let among: Vec<Vec<f64>> = pairs.iter().map(|p| p[..count].to_vec()).collect();
            let mut process = GaussianProcess::new(layout, &measured, &among, &standard, kernel.clone());
            for i in outcomes.len()..points.n {
                let (mean, deviation) = process.predict(layout, &measured, &points.row(i));
                standard.push(mean);
                deviations.push(deviation);
            }
        }
        let process = GaussianProcess::new(layout, points, pairs, &standard, kernel);
        let smoothed = process.smoothed(&standard);
        let smoothed = smoothed.into_iter().zip(deviations);
        let smoothed = smoothed.map(|(v, luck)| scale.straighten(v - luck)).collect();
        Surrogate {
            process,
            scale,
            smoothed,
        }
    }

    /// What is believed of the outcome at a point, straightened, if the process is `doubt` times as uncertain as it says.
    pub(super) fn outcome(&mut self, layout: &Layout, points: &Points, point: &[f64], doubt: f64) -> Belief {
        let Belief { mean, deviation } = self.belief(layout, points, point);
        let middle = self.scale.straighten(mean);
        // as far as on the good side, which is the one an improvement depends on
        let better = self.scale.straighten(mean - doubt * deviation);
        Belief {
            mean: middle,
            deviation: middle - better,
        }
    }

    /// What is believed about a point, in bent units.
    pub(super) fn belief(&mut self, layout: &Layout, points: &Points, point: &[f64]) -> Belief {
        let (mean, deviation) = self.process.predict(layout, points, point);
        Belief { mean, deviation }
    }
}

//! The curves of one trial.

use serde::Serialize;
use spaces::{Evidence, Measurement};
use utoipa::ToSchema;

use super::metrics::unit;

/// Curves of a trial's last attempt.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TrialCurves {
    /// The trial's id.
    pub trial: i64,
    /// One for each metric.
    pub curves: Vec<Curve>,
}

/// A metric along the way.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Curve {
    /// The metric.
    pub metric: String,
    /// Its unit.
    pub unit: &'static str,
    /// By step.
    pub points: Vec<CurvePoint>,
}

/// A point of a curve.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CurvePoint {
    /// The step of the training.
    pub step: u64,
    /// The value there.
    pub value: f64,
    /// Where the number comes from.
    pub evidence: Evidence,
    /// Its spread, where it was repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
}

/// Groups measurements, which come by metric and step.
pub fn curves(trial: i64, measurements: &[Measurement]) -> TrialCurves {
    let point = |m: &Measurement| CurvePoint {
        step: m.step,
        value: m.value,
        evidence: m.evidence,
        spread: m.spread,
    };
    let curves = measurements
        .chunk_by(|a, b| a.metric == b.metric)
        .map(|chunk| Curve {
            metric: chunk[0].metric.clone(),
            unit: unit(&chunk[0].metric),
            points: chunk.iter().map(point).collect(),
        });
    TrialCurves {
        trial,
        curves: curves.collect(),
    }
}

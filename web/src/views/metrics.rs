//! The metrics of a trial.

use std::collections::BTreeMap;

use serde::Serialize;
use spaces::{Evidence, metric};
use store::Trial;
use utoipa::ToSchema;

/// A value of a metric with what it takes to judge it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct MetricValue {
    /// The value, in `unit`.
    pub value: f64,
    /// The metric's unit.
    pub unit: &'static str,
    /// Where the number comes from.
    pub evidence: Evidence,
    /// Half the distance between the quartiles over repetitions, where there were any.
    pub spread: Option<f64>,
    /// The instrument or formula.
    pub source: String,
}

/// Final values of a trial by metric; what was computed before training fills the gaps.
pub fn metrics(trial: &Trial) -> BTreeMap<String, MetricValue> {
    let known = trial.known.iter().map(|(name, value)| {
        let known = MetricValue {
            value: *value,
            unit: unit(name),
            evidence: Evidence::Analytic,
            spread: None,
            source: "formula".into(),
        };
        (name.clone(), known)
    });
    let measured = trial.metrics.iter().map(|m| {
        let measured = MetricValue {
            value: m.value,
            unit: unit(&m.metric),
            evidence: m.evidence,
            spread: m.spread,
            source: m.source.clone(),
        };
        (m.metric.clone(), measured)
    });
    known.chain(measured).collect()
}

/// The same as plain numbers.
pub fn values(trial: &Trial) -> BTreeMap<String, f64> {
    let known = trial.known.iter().map(|(name, value)| (name.clone(), *value));
    let measured = trial.metrics.iter().map(|m| (m.metric.clone(), m.value));
    known.chain(measured).collect()
}

/// The unit of a metric; a name that this build does not know has none.
pub(crate) fn unit(name: &str) -> &'static str {
    metric(name).map_or("", |m| m.unit)
}

//! Trials that can be compared: all objectives there, and energy known in the same way.

use spaces::{Evidence, Limit, Objective, metric, protocol::TrialState};
use store::Trial;

/// A finished trial with a value for every objective.
pub(super) struct Entry<'t> {
    pub(super) trial: &'t Trial,
    /// The objectives turned so that less is better.
    pub(super) values: Vec<f64>,
    /// Where its energy comes from, for each objective that is one; trials differ in it only where they cannot be compared.
    pub(super) group: Vec<Evidence>,
    /// Whether it keeps the limits.
    pub(super) feasible: bool,
}

impl AsRef<[f64]> for Entry<'_> {
    fn as_ref(&self) -> &[f64] {
        &self.values
    }
}

/// The trials that have a finite value for every objective, in their order.
pub(super) fn entries<'t>(
    trials: impl IntoIterator<Item = &'t Trial>,
    objectives: &[Objective],
    limits: &[Limit],
) -> Vec<Entry<'t>> {
    let entry = |trial: &'t Trial| {
        // a repeat counts in the means of the trial it repeats
        if trial.state != TrialState::Done || trial.repeats.is_some() {
            return None;
        }
        let value = |o: &Objective| value(trial, &o.metric).map(|v| o.direction.minimized(v));
        Some(Entry {
            values: objectives.iter().map(value).collect::<Option<_>>()?,
            group: group(trial, objectives),
            feasible: limits
                .iter()
                .all(|l| self::value(trial, &l.metric).is_some_and(|v| l.holds(v))),
            trial,
        })
    };
    trials.into_iter().filter_map(entry).collect()
}

/// The groups among the entries, the best founded first.
pub(super) fn groups<'e>(entries: impl IntoIterator<Item = &'e Entry<'e>>) -> Vec<Vec<Evidence>> {
    let mut groups: Vec<Vec<Evidence>> = vec![];
    for entry in entries {
        if !groups.contains(&entry.group) {
            groups.push(entry.group.clone());
        }
    }
    // evidence is ordered from measured down
    groups.sort();
    groups
}

/// The metrics whose measured and estimated values must not be mixed, among the objectives.
pub(super) fn energies(objectives: &[Objective]) -> impl Iterator<Item = &str> {
    let names = objectives.iter().map(|o| o.metric.as_str());
    names.filter(|name| is_energy(name))
}

/// A trial's value of a metric: the final one, or else the one known before training.
pub(super) fn value(trial: &Trial, metric: &str) -> Option<f64> {
    let measured = trial.metrics.iter().find(|m| m.metric == metric).map(|m| m.value);
    measured.or_else(|| trial.known.get(metric).copied())
}

/// Where the trial's value of a metric comes from.
pub(super) fn evidence(trial: &Trial, metric: &str) -> Evidence {
    let measured = trial.metrics.iter().find(|m| m.metric == metric);
    measured.map_or(Evidence::Analytic, |m| m.evidence)
}

fn group(trial: &Trial, objectives: &[Objective]) -> Vec<Evidence> {
    energies(objectives).map(|name| evidence(trial, name)).collect()
}

/// Energy and what follows from it.
fn is_energy(name: &str) -> bool {
    metric(name).is_some_and(|m| m.unit.starts_with("J") || m.unit.starts_with("g CO2"))
}

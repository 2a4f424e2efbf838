//! The hypervolume after each finished trial, kept up to date trial by trial.

use std::collections::BTreeMap;

use search::front::Front;
use serde::Serialize;
use spaces::{Evidence, Objective};
use store::Trial;
use utoipa::ToSchema;

use super::{
    Resolved,
    comparable::{Entry, entries, groups},
};

/// The hypervolume where it rose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct HypervolumePoint {
    /// The trial that raised it.
    pub trial: i64,
    /// How many trials had a result by then.
    pub results: u32,
    /// The hypervolume from then on.
    pub value: f64,
}

/// The hypervolume of a study's feasible results by trial.
///
/// Each new result costs one pass over the front: what it adds is its own box less what the front covers of that. A
/// reference point that is not yet fixed may move, as may the group of comparable trials; then it is made anew.
#[derive(Clone, Debug, Default)]
pub struct HypervolumeCurve {
    reference: Option<Vec<f64>>,
    group: Vec<Evidence>,
    revision: i64,
    results: u32,
    front: Front<()>,
    points: Vec<HypervolumePoint>,
}

impl HypervolumeCurve {
    /// Takes in the results that came since the last time.
    pub fn update<'t>(&mut self, study: &Resolved, trials: impl IntoIterator<Item = &'t Trial>) {
        let mut entries = entries(trials, &study.objectives, &study.limits);
        // a finished trial no longer changes, so this is the order in which they finished
        entries.sort_by_key(|e| e.trial.revision);
        let reference = reference(&study.objectives, study.row.reference.as_ref(), &entries);
        let group = groups(&entries).into_iter().next().unwrap_or_default();
        entries.retain(|e| e.group == group);
        if reference != self.reference || group != self.group {
            *self = HypervolumeCurve {
                reference,
                group,
                ..HypervolumeCurve::default()
            };
        }
        for entry in entries {
            if entry.trial.revision > self.revision {
                self.push(&entry);
            }
        }
    }

    fn push(&mut self, entry: &Entry<'_>) {
        self.revision = entry.trial.revision;
        self.results += 1;
        let Some(reference) = self.reference.as_ref().filter(|_| entry.feasible) else {
            return;
        };
        let gain = gain(&entry.values, &self.front, reference);
        if self.front.insert(entry.values.clone(), ()) && gain > 0.0 {
            self.points.push(HypervolumePoint {
                trial: entry.trial.id,
                results: self.results,
                value: self.value() + gain,
            });
        }
    }

    /// The hypervolume now.
    pub fn value(&self) -> f64 {
        self.points.last().map_or(0.0, |p| p.value)
    }

    /// How many trials have a result.
    pub fn results(&self) -> u32 {
        self.results
    }

    /// The points where it rose.
    pub fn points(&self) -> &[HypervolumePoint] {
        &self.points
    }

    /// The reference point by metric, as measured; `None` before the first result.
    pub fn reference(&self, objectives: &[Objective]) -> Option<BTreeMap<String, f64>> {
        self.reference.as_ref().map(|r| by_metric(objectives, r))
    }
}

/// The volume that a point adds to a front.
fn gain(point: &[f64], front: &Front<()>, reference: &[f64]) -> f64 {
    if point.iter().zip(reference).any(|(p, r)| p >= r) {
        return 0.0;
    }
    let whole: f64 = point.iter().zip(reference).map(|(p, r)| r - p).product();
    let mut covered: Vec<Vec<f64>> = vec![];
    for (member, ()) in front.members() {
        covered.push(member.iter().zip(point).map(|(m, p)| m.max(*p)).collect());
    }
    let best = search::front::front(&covered);
    let best: Vec<&[f64]> = best.into_iter().map(|i| covered[i].as_slice()).collect();
    whole - search::hypervolume(&best, reference)
}

/// The reference point, minimised: the study's own if it covers the objectives, else one from the first results.
pub(super) fn reference<P: AsRef<[f64]>>(
    objectives: &[Objective],
    fixed: Option<&BTreeMap<String, f64>>,
    in_finish_order: &[P],
) -> Option<Vec<f64>> {
    let of_study = fixed.and_then(|fixed| {
        let value = |o: &Objective| fixed.get(&o.metric).map(|v| o.direction.minimized(*v));
        objectives.iter().map(value).collect()
    });
    of_study.or_else(|| search::reference_point(in_finish_order))
}

/// Minimised values as they are measured, by metric.
pub(super) fn by_metric(objectives: &[Objective], minimised: &[f64]) -> BTreeMap<String, f64> {
    let pairs = objectives.iter().zip(minimised);
    pairs
        .map(|(o, v)| (o.metric.clone(), o.direction.minimized(*v)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_add_up_to_the_volume() {
        let points = [
            [3.0, 3.0, 1.0],
            [1.0, 4.0, 2.0],
            [2.0, 2.0, 2.0],
            [9.0, 0.0, 0.0],
            [2.5, 2.5, 2.5],
            [0.5, 1.0, 3.9],
        ];
        let reference = [5.0, 5.0, 4.0];
        let (mut front, mut total) = (Front::default(), 0.0);
        for (n, point) in points.iter().enumerate() {
            total += gain(point, &front, &reference);
            front.insert(point.to_vec(), ());
            let exact = search::hypervolume(&points[..=n], &reference);
            assert!((total - exact).abs() < 1e-9, "{total} is not {exact} after {n}");
        }
    }
}

//! The Pareto front of a study, derived from its finished trials.

use std::collections::BTreeMap;

use serde::Serialize;
use spaces::{Catalog, Direction, Evidence, Limit, Objective, Value, protocol::TrialState};
use store::Trial;
use utoipa::ToSchema;

use super::{
    MetricValue, Resolved,
    comparable::{Entry, energies, entries, evidence, groups},
    hypervolume::{by_metric, reference},
    metrics,
    metrics::unit,
    study::{LimitView, limit_view},
};
use crate::plots::{PlotPoint, Standing};

/// What front is asked for.
#[derive(Clone, Debug, Default)]
pub struct FrontRequest {
    /// The objectives; empty for the study's own.
    pub objectives: Vec<Objective>,
    /// Limits beside those of the study.
    pub limits: Vec<Limit>,
}

/// A Pareto front.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Front {
    /// The study's name.
    pub study: String,
    /// What is traded off.
    pub objectives: Vec<Axis>,
    /// The trials that no other one is better than, by number.
    pub trials: Vec<FrontTrial>,
    /// The volume that they dominate up to `reference`; null without a result.
    pub hypervolume: Option<f64>,
    /// The reference point by metric; empty without a result.
    pub reference: BTreeMap<String, f64>,
    /// The trial at the knee.
    pub knee: Option<i64>,
    /// The limits that every trial keeps: the study's and those asked for.
    pub limits: Vec<LimitView>,
    /// Finished trials with a value for every objective.
    pub results: usize,
    /// Those of them that keep the limits.
    pub feasible: usize,
    /// For each objective, where the values on this front come from.
    pub evidence: BTreeMap<String, Vec<Evidence>>,
    /// One sentence about what must be known to read the front.
    pub note: Option<String>,
    /// Fronts of trials whose energy is known otherwise, and that must not be compared with the ones above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<Split>,
}

/// An axis of a front.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Axis {
    /// The metric.
    pub metric: String,
    /// Which way is better.
    pub direction: Direction,
    /// The metric's unit.
    pub unit: &'static str,
}

/// A trial on a front.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FrontTrial {
    /// Its id.
    pub id: i64,
    /// Its number within the study.
    pub number: u32,
    /// Its state.
    pub state: TrialState,
    /// Every parameter that has a meaning here, constants and defaults included.
    pub config: BTreeMap<String, Value>,
    /// Its values by metric.
    pub metrics: BTreeMap<String, MetricValue>,
}

/// The front of the trials whose energy is known in one way.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Split {
    /// Where the energy comes from, by metric.
    pub evidence: BTreeMap<String, Evidence>,
    /// The front.
    pub trials: Vec<FrontTrial>,
    /// The volume they dominate up to the front's reference.
    pub hypervolume: Option<f64>,
    /// The trial at the knee.
    pub knee: Option<i64>,
}

/// Derives the front.
pub fn front<'t>(
    study: &Resolved,
    trials: impl IntoIterator<Item = &'t Trial>,
    request: &FrontRequest,
    catalog: &Catalog,
) -> Front {
    let objectives = match request.objectives.as_slice() {
        [] => &study.objectives,
        asked => asked,
    };
    let limits: Vec<Limit> = study.limits.iter().chain(&request.limits).cloned().collect();
    let all = entries(trials, objectives, &limits);
    let reference = {
        let mut finished: Vec<&Entry<'_>> = all.iter().collect();
        finished.sort_by_key(|e| e.trial.revision);
        reference(objectives, study.row.reference.as_ref(), &finished)
    };
    let results = all.len();
    let feasible: Vec<Entry<'_>> = all.into_iter().filter(|e| e.feasible).collect();
    let n_feasible = feasible.len();
    let mut parts = groups(&feasible).into_iter().map(|group| {
        let members: Vec<&Entry<'_>> = feasible.iter().filter(|e| e.group == group).collect();
        part(objectives, group, &members, reference.as_deref())
    });
    let best = parts.next();
    let rest: Vec<Part<'_>> = parts.collect();
    let show = |members: &[&Entry<'_>]| {
        members
            .iter()
            .map(|e| front_trial(e.trial, study, catalog))
            .collect()
    };
    Front {
        study: study.row.name.clone(),
        objectives: objectives.iter().map(axis).collect(),
        trials: best.as_ref().map_or_else(Vec::new, |b| show(&b.members)),
        hypervolume: best.as_ref().and_then(|b| b.hypervolume),
        reference: reference.map(|r| by_metric(objectives, &r)).unwrap_or_default(),
        knee: best.as_ref().and_then(|b| b.knee),
        limits: limits.iter().map(limit_view).collect(),
        results,
        feasible: n_feasible,
        evidence: best
            .as_ref()
            .map(|b| evidences(objectives, &b.members))
            .unwrap_or_default(),
        note: note(results, n_feasible, best.as_ref(), &rest),
        split: rest
            .into_iter()
            .map(|p| Split {
                trials: show(&p.members),
                evidence: p.evidence,
                hypervolume: p.hypervolume,
                knee: p.knee,
            })
            .collect(),
    }
}

/// The front of one group.
struct Part<'e> {
    evidence: BTreeMap<String, Evidence>,
    size: usize,
    members: Vec<&'e Entry<'e>>,
    hypervolume: Option<f64>,
    knee: Option<i64>,
}

fn part<'e>(
    objectives: &[Objective],
    group: Vec<Evidence>,
    entries: &[&'e Entry<'e>],
    reference: Option<&[f64]>,
) -> Part<'e> {
    let on_front = search::front::front(entries);
    let members: Vec<&Entry<'_>> = on_front.into_iter().map(|i| entries[i]).collect();
    Part {
        evidence: energies(objectives).map(str::to_owned).zip(group).collect(),
        size: entries.len(),
        hypervolume: reference.map(|r| search::hypervolume(&members, r)),
        knee: search::knee(&members).map(|knee| members[knee.index].trial.id),
        members,
    }
}

fn evidences(objectives: &[Objective], members: &[&Entry<'_>]) -> BTreeMap<String, Vec<Evidence>> {
    let of = |o: &Objective| {
        let mut labels: Vec<Evidence> = members.iter().map(|e| evidence(e.trial, &o.metric)).collect();
        labels.sort();
        labels.dedup();
        (o.metric.clone(), labels)
    };
    objectives.iter().map(of).collect()
}

fn note(results: usize, feasible: usize, best: Option<&Part<'_>>, rest: &[Part<'_>]) -> Option<String> {
    if results > 0 && feasible == 0 {
        return Some(format!(
            "none of {results} results keeps the limits; ask for a recommendation to see which to relax"
        ));
    }
    let (best, first) = (best?, rest.first()?);
    let metrics: Vec<&str> = first.evidence.keys().map(String::as_str).collect();
    let label = |part: &Part<'_>| {
        let labels: Vec<&str> = part.evidence.values().map(|e| e.label()).collect();
        labels.join(" and ")
    };
    let others: Vec<String> = rest
        .iter()
        .map(|p| format!("{} of {}", label(p), p.size))
        .collect();
    Some(format!(
        "{} is {} in {} trials and {}: these cannot be compared, so this front holds the {} ones and 'split' the others",
        metrics.join(" and "),
        label(best),
        best.size,
        others.join(" and "),
        label(best),
    ))
}

fn front_trial(trial: &Trial, study: &Resolved, catalog: &Catalog) -> FrontTrial {
    FrontTrial {
        id: trial.id,
        number: trial.number,
        state: trial.state,
        config: study.config(catalog, &trial.candidate),
        metrics: metrics(trial),
    }
}

/// Every result as a point of the first two objectives, whether it is on the front of all of them or not.
pub(crate) fn plotted<'t>(
    study: &Resolved,
    trials: impl IntoIterator<Item = &'t Trial>,
    request: &FrontRequest,
    objectives: &[Objective],
    is_member: impl Fn(i64) -> bool,
) -> Vec<PlotPoint> {
    let limits: Vec<Limit> = study.limits.iter().chain(&request.limits).cloned().collect();
    let point = |entry: Entry<'_>| {
        let axis = |i: usize| objectives[i].direction.minimized(entry.values[i]);
        let spread = |i: usize| {
            let measured = entry
                .trial
                .metrics
                .iter()
                .find(|m| m.metric == objectives[i].metric);
            measured.and_then(|m| m.spread)
        };
        PlotPoint {
            x: axis(0),
            y: axis(1),
            spread: (spread(0), spread(1)),
            standing: match (is_member(entry.trial.id), entry.feasible) {
                (true, _) => Standing::OnFront,
                (false, true) => Standing::Dominated,
                (false, false) => Standing::Infeasible,
            },
        }
    };
    let mut entries = entries(trials, objectives, &limits);
    // points whose energy is known otherwise would seem to be dominated
    let group = groups(entries.iter().filter(|e| e.feasible)).into_iter().next();
    entries.retain(|e| group.as_ref().is_none_or(|g| *g == e.group));
    entries.into_iter().map(point).collect()
}

fn axis(objective: &Objective) -> Axis {
    Axis {
        metric: objective.metric.clone(),
        direction: objective.direction,
        unit: unit(&objective.metric),
    }
}

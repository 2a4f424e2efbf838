//! One configuration to use, and why.

mod reason;
mod rule;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use spaces::{Direction, Limit, Objective};

pub use self::rule::{Rule, RuleError};
use crate::{
    front,
    knee::{Knee, knee},
    problem,
    text::limit_text,
};

/// A finished trial that may be recommended.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The trial's id.
    pub id: i64,
    /// Its values by metric, as measured.
    pub metrics: BTreeMap<String, f64>,
}

/// The chosen trial.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recommendation {
    /// The trial's id.
    pub id: i64,
    /// What was chosen, why, and what is given up, in one sentence for people.
    pub reason: String,
    /// Number of trials that keep the limits.
    pub feasible: usize,
    /// Number of trials that were looked at.
    pub looked_at: usize,
    /// For each objective, what another trial that was in the running would give.
    pub given_up: Vec<GivenUp>,
    /// The limits that the chosen trial breaks; empty where it keeps them all.
    pub relax: Vec<Relax>,
}

/// What the recommendation gives up in one objective.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GivenUp {
    /// The objective's metric.
    pub metric: String,
    /// The chosen trial's value.
    pub value: f64,
    /// The best value of the trials in the running.
    pub best: f64,
    /// The trial that has it.
    pub best_id: i64,
}

/// A limit to relax for the recommendation to keep it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Relax {
    /// The limit that is broken.
    pub limit: Limit,
    /// The chosen trial's value: the limit that would do.
    pub value: f64,
    /// By how much that is beyond the limit, as a fraction of the limit.
    pub by: f64,
}

/// Why nothing can be recommended.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoRecommendation {
    /// No trial has values for every objective.
    #[error("none of {0} trials has a value for every objective; wait for a trial to finish")]
    NoResults(usize),
    /// A trial that is not there.
    #[error("there is no trial {0} with a result in this study; name one of its finished trials")]
    UnknownTrial(i64),
    /// A metric that no trial has.
    #[error("{}", reason::unmeasured(metric, measured))]
    Unmeasured {
        /// The metric asked for.
        metric: String,
        /// The metrics that the trials have.
        measured: Vec<String>,
    },
}

fn entry<'a>(point: &'a Point, objectives: &[Objective]) -> Option<Entry<'a>> {
    let values = problem::minimised(objectives, &point.metrics)?;
    Some(Entry { point, values })
}

/// A trial in the running, with its objectives minimised.
struct Entry<'a> {
    point: &'a Point,
    values: Vec<f64>,
}

impl Entry<'_> {
    fn value(&self, metric: &str) -> Option<f64> {
        self.point.metrics.get(metric).copied().filter(|v| v.is_finite())
    }
}

impl AsRef<[f64]> for Entry<'_> {
    fn as_ref(&self) -> &[f64] {
        &self.values
    }
}

/// Chooses one trial by `rule` among those that keep `limits`.
///
/// Trials without a finite value for each objective are left out. Where no trial keeps the limits, the one that
/// breaks them least is chosen, whatever the rule, with what to relax.
///
/// # Errors
/// [`NoRecommendation`] if there is no result to choose from, or for a trial or metric that is not there.
pub fn recommend(
    points: &[Point],
    objectives: &[Objective],
    limits: &[Limit],
    rule: &Rule,
) -> Result<Recommendation, NoRecommendation> {
    let entries: Vec<Entry<'_>> = points.iter().filter_map(|p| entry(p, objectives)).collect();
    if entries.is_empty() {
        return Err(NoRecommendation::NoResults(points.len()));
    }
    let wanted = match rule {
        Rule::Min(metric) | Rule::Max(metric) => Some(metric),
        Rule::Knee | Rule::Trial(_) => None,
    };
    for metric in limits.iter().map(|l| &l.metric).chain(wanted) {
        check_measured(metric, &entries)?;
    }
    let keeps = |e: &Entry<'_>, limit: &Limit| e.value(&limit.metric).is_some_and(|v| limit.holds(v));
    let feasible: Vec<&Entry<'_>> = entries
        .iter()
        .filter(|e| limits.iter().all(|l| keeps(e, l)))
        .collect();
    let all: Vec<&Entry<'_>> = entries.iter().collect();
    let running = if feasible.is_empty() { &all } else { &feasible };
    let (chosen, why) = match rule {
        Rule::Trial(id) => {
            let named = all.iter().find(|e| e.point.id == *id);
            let chosen = named.ok_or(NoRecommendation::UnknownTrial(*id))?;
            (*chosen, format!("trial {id} was asked for"))
        }
        _ if feasible.is_empty() => nearest(&all, limits),
        Rule::Knee => at_knee(&feasible),
        Rule::Min(metric) => extreme(&feasible, metric, Direction::Minimize),
        Rule::Max(metric) => extreme(&feasible, metric, Direction::Maximize),
    };
    let relax = broken_limits(limits, chosen.point);
    let given_up = given_up(chosen, running, objectives);
    let mut reason = why;
    if !limits.is_empty() {
        reason += &format!(
            " ({} of {} trials keep the limits)",
            feasible.len(),
            entries.len()
        );
    }
    reason += &format!(
        ": {}",
        given_up.iter().map(GivenUp::text).collect::<Vec<_>>().join(", ")
    );
    if !relax.is_empty() {
        reason += &format!(
            "; {}",
            relax.iter().map(Relax::text).collect::<Vec<_>>().join(", ")
        );
    }
    Ok(Recommendation {
        id: chosen.point.id,
        reason,
        feasible: feasible.len(),
        looked_at: entries.len(),
        given_up,
        relax,
    })
}

fn check_measured(metric: &str, entries: &[Entry<'_>]) -> Result<(), NoRecommendation> {
    if entries.iter().any(|e| e.value(metric).is_some()) {
        return Ok(());
    }
    let measured: BTreeSet<&String> = entries.iter().flat_map(|e| e.point.metrics.keys()).collect();
    Err(NoRecommendation::Unmeasured {
        metric: metric.to_owned(),
        measured: measured.into_iter().cloned().collect(),
    })
}

fn at_knee<'e, 'a>(running: &[&'e Entry<'a>]) -> (&'e Entry<'a>, String) {
    let (chosen, depth, size) = knee_of(running);
    let id = chosen.point.id;
    let why = match size {
        1 => format!("trial {id} is the best in every objective"),
        _ if depth > 1e-9 => format!(
            "trial {id} is the knee of {size} trade-offs, {:.0} % of the range below an even exchange between the \
             extremes",
            100.0 * depth
        ),
        _ => format!(
            "trial {id} is the most even of {size} trade-offs, none of which is better than an even exchange"
        ),
    };
    (chosen, why)
}

fn extreme<'e, 'a>(running: &[&'e Entry<'a>], metric: &str, direction: Direction) -> (&'e Entry<'a>, String) {
    let turned = |e: &Entry<'_>| e.value(metric).map_or(f64::INFINITY, |v| direction.minimized(v));
    let best = running.iter().map(|e| turned(e)).fold(f64::INFINITY, f64::min);
    let ties: Vec<&Entry<'_>> = running.iter().filter(|e| turned(e) == best).copied().collect();
    let (chosen, ..) = knee_of(&ties);
    let most = match direction {
        Direction::Minimize => "least",
        Direction::Maximize => "most",
    };
    (
        chosen,
        format!("trial {} has the {most} {metric}", chosen.point.id),
    )
}

/// The trial that breaks the limits least; one that lacks a limited metric counts as the worst.
fn nearest<'e, 'a>(entries: &[&'e Entry<'a>], limits: &[Limit]) -> (&'e Entry<'a>, String) {
    let broken = |e: &Entry<'_>| problem::violation(limits, &e.point.metrics).unwrap_or(f64::INFINITY);
    let least = entries.iter().map(|e| broken(e)).fold(f64::INFINITY, f64::min);
    let ties: Vec<&Entry<'_>> = entries.iter().filter(|e| broken(e) == least).copied().collect();
    let (chosen, ..) = knee_of(&ties);
    let texts: Vec<String> = limits.iter().map(limit_text).collect();
    (
        chosen,
        format!(
            "no trial keeps {}; trial {} comes closest",
            texts.join(" and "),
            chosen.point.id
        ),
    )
}

/// The knee of the front of some trials, its depth and the size of that front.
fn knee_of<'e, 'a>(entries: &[&'e Entry<'a>]) -> (&'e Entry<'a>, f64, usize) {
    let members = front::front(entries);
    let values: Vec<&[f64]> = members.iter().map(|i| entries[*i].as_ref()).collect();
    let Knee { index, depth } = knee(&values).expect("the caller has at least one trial");
    (entries[members[index]], depth, members.len())
}

fn given_up(chosen: &Entry<'_>, running: &[&Entry<'_>], objectives: &[Objective]) -> Vec<GivenUp> {
    let of = |(i, objective): (usize, &Objective)| {
        // the chosen trial itself comes first, so that it is named where nothing is better
        let others = running.iter().copied();
        let best = std::iter::once(chosen)
            .chain(others)
            .min_by(|a, b| a.values[i].total_cmp(&b.values[i]));
        let best = best.expect("the chosen trial is there");
        GivenUp {
            metric: objective.metric.clone(),
            value: objective.direction.minimized(chosen.values[i]),
            best: objective.direction.minimized(best.values[i]),
            best_id: best.point.id,
        }
    };
    objectives.iter().enumerate().map(of).collect()
}

fn broken_limits(limits: &[Limit], chosen: &Point) -> Vec<Relax> {
    let broken = |limit: &Limit| {
        let value = *chosen.metrics.get(&limit.metric)?;
        (!limit.holds(value)).then(|| Relax {
            limit: limit.clone(),
            value,
            by: limit.violation(value),
        })
    };
    limits.iter().filter_map(broken).collect()
}

//! The recommended configuration, with the reason.

use search::{NoRecommendation, Point, Rule};
use serde::Serialize;
use spaces::{Catalog, Limit};
use store::Trial;
use utoipa::ToSchema;

use super::{
    LimitView, Resolved, TrialRow,
    comparable::{entries, groups},
    metrics::unit,
    study::limit_view,
    trial_row, values,
};

/// One configuration to use, and why.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Recommendation {
    /// The study's name.
    pub study: String,
    /// The rule it was chosen by: `knee`, `trial:ID`, `min:METRIC` or `max:METRIC`.
    pub rule: String,
    /// The chosen trial.
    pub trial: TrialRow,
    /// What was chosen, why, and what is given up, in one sentence.
    pub reason: String,
    /// Trials with a result that were looked at.
    pub looked_at: usize,
    /// Those of them that keep the limits.
    pub feasible: usize,
    /// The limits: the study's and those asked for.
    pub limits: Vec<LimitView>,
    /// For each objective, what another trial would give.
    pub given_up: Vec<GivenUp>,
    /// Where no trial keeps the limits, those to relax for the chosen one.
    pub relax: Vec<Relax>,
}

/// What the recommendation gives up in one objective.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct GivenUp {
    /// The objective's metric.
    pub metric: String,
    /// Its unit.
    pub unit: &'static str,
    /// The chosen trial's value.
    pub value: f64,
    /// The best value of the trials in the running.
    pub best: f64,
    /// The trial that has it.
    pub best_id: i64,
}

/// A limit to relax.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Relax {
    /// The limit that is broken.
    pub limit: LimitView,
    /// The limit that would do.
    pub value: f64,
    /// By how much that is beyond the limit, as a fraction of it.
    pub by: f64,
}

/// Chooses one of the finished trials by `rule`, among those that keep the study's limits and `limits`.
///
/// Where energy is measured in some trials and estimated in others, only those with the better evidence are looked at.
///
/// # Errors
/// [`NoRecommendation`] if there is no result, or no such trial or metric.
pub fn recommendation(
    study: &Resolved,
    trials: &[&Trial],
    rule: &Rule,
    limits: &[Limit],
    catalog: &Catalog,
) -> Result<Recommendation, NoRecommendation> {
    let limits: Vec<Limit> = study.limits.iter().chain(limits).cloned().collect();
    let mut entries = entries(trials.iter().copied(), &study.objectives, &limits);
    // a trial that is named is meant, however its energy is known
    if !matches!(rule, Rule::Trial(_)) {
        let group = groups(&entries).into_iter().next().unwrap_or_default();
        entries.retain(|e| e.group == group);
    }
    let point = |trial: &Trial| Point {
        id: trial.id,
        metrics: values(trial),
    };
    let points: Vec<Point> = entries.iter().map(|e| point(e.trial)).collect();
    if points.is_empty() {
        return Err(NoRecommendation::NoResults(trials.len()));
    }
    let chosen = search::recommend(&points, &study.objectives, &limits, rule)?;
    let trial = entries.iter().map(|e| e.trial).find(|t| t.id == chosen.id);
    let trial = trial.expect("a recommendation is one of the points given");
    let given_up = chosen.given_up.into_iter().map(|g| GivenUp {
        unit: unit(&g.metric),
        metric: g.metric,
        value: g.value,
        best: g.best,
        best_id: g.best_id,
    });
    let relax = chosen.relax.into_iter().map(|r| Relax {
        limit: limit_view(&r.limit),
        value: r.value,
        by: r.by,
    });
    Ok(Recommendation {
        study: study.row.name.clone(),
        rule: rule.to_string(),
        trial: trial_row(trial, study, catalog),
        reason: chosen.reason,
        looked_at: chosen.looked_at,
        feasible: chosen.feasible,
        limits: limits.iter().map(limit_view).collect(),
        given_up: given_up.collect(),
        relax: relax.collect(),
    })
}

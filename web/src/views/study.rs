//! Studies: as a row, and with all there is to say about one.

use std::collections::BTreeMap;

use serde::Serialize;
use spaces::{
    Catalog, Condition, Direction, Domain, Limit, StudySpec, Value, metric, protocol::TrialState,
    study::study_to_toml,
};
use store::{StudyState, Trial};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{
    HypervolumeCurve, HypervolumePoint, Progress, Resolved,
    comparable::{entries, groups},
    metrics::unit,
};

/// A study in a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StudyRow {
    /// Its id.
    pub id: i64,
    /// Its unique name.
    pub name: String,
    /// `running`, `paused`, `cancelled`, `finished` or `failed`.
    #[schema(value_type = String)]
    pub state: StudyState,
    /// Why the search could not go on, if it failed.
    pub error: Option<String>,
    /// What is optimised.
    pub objectives: Vec<ObjectiveView>,
    /// Its trials by state.
    pub counts: Counts,
    /// How far it is.
    pub progress: Progress,
    /// When it was submitted.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When its first trial was leased.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
    /// When anything of it last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub changed_at: OffsetDateTime,
    /// Goes up with each visible change of the study or its trials.
    pub revision: i64,
}

/// Trials of a study by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Counts {
    /// Wait for a worker.
    pub queued: i64,
    /// Leased by a worker.
    pub running: i64,
    /// Have results of a part of their training and rest until they are trained on or stopped.
    pub paused: i64,
    /// Finished with all measurements.
    pub done: i64,
    /// Ended early by the search.
    pub pruned: i64,
    /// Refused before training.
    pub infeasible: i64,
    /// Ended by an error.
    pub failed: i64,
    /// Ended by a person.
    pub cancelled: i64,
}

/// An objective.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ObjectiveView {
    /// The metric.
    pub metric: String,
    /// Its unit.
    pub unit: &'static str,
    /// Which way is better.
    pub direction: Direction,
    /// One line for people.
    pub doc: &'static str,
    /// Computed exactly before training.
    pub known_before_training: bool,
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct LimitView {
    /// The metric.
    pub metric: String,
    /// Its unit.
    pub unit: &'static str,
    /// It must be at least this.
    pub min: Option<f64>,
    /// It must be at most this.
    pub max: Option<f64>,
}

/// A study with all there is to say about it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StudyView {
    /// The study.
    #[serde(flatten)]
    pub row: StudyRow,
    /// What the user wrote.
    pub spec: StudySpec,
    /// The same as a study file.
    pub toml: String,
    /// What must be kept to.
    pub limits: Vec<LimitView>,
    /// The searched parameters, in the order of the search; empty where this build does not know the study.
    pub parameters: Vec<SearchedParameter>,
    /// Chosen constants, those of the preset included.
    pub fixed: Vec<FixedParameter>,
    /// For each objective, the best value so far among the trials that keep the limits.
    pub best: Vec<Best>,
    /// The hypervolume by trial.
    pub hypervolume: HypervolumeView,
    /// Fingerprint of the data that every trial must meet.
    pub data_fingerprint: String,
    /// What this build cannot make of the study, where another version wrote it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<spaces::SpecError>,
}

/// A searched parameter.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SearchedParameter {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub doc: String,
    /// Its unit, or empty.
    pub unit: String,
    /// What is searched.
    pub domain: Domain,
    /// When it has a meaning.
    pub condition: Condition,
}

/// A parameter held constant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FixedParameter {
    /// Its name.
    pub name: String,
    /// Its unit, or empty.
    pub unit: String,
    /// Its value.
    pub value: Value,
}

/// The best value of an objective.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Best {
    /// The objective's metric.
    pub metric: String,
    /// Its unit.
    pub unit: &'static str,
    /// The value.
    pub value: f64,
    /// The trial's id.
    pub trial: i64,
    /// The trial's number.
    pub number: u32,
}

/// The hypervolume by trial.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct HypervolumeView {
    /// The hypervolume now.
    pub value: f64,
    /// The reference point by metric; empty without a result.
    pub reference: BTreeMap<String, f64>,
    /// Whether the reference point is fixed: until then it may move, and the curve with it.
    pub fixed: bool,
    /// Where it rose.
    pub curve: Vec<HypervolumePoint>,
}

/// Trials by state.
pub fn counts<'t>(trials: impl IntoIterator<Item = &'t Trial>) -> Counts {
    let mut counts = Counts::default();
    for trial in trials {
        let count = match trial.state {
            TrialState::Queued => &mut counts.queued,
            TrialState::Running => &mut counts.running,
            TrialState::Paused => &mut counts.paused,
            TrialState::Done => &mut counts.done,
            TrialState::Pruned => &mut counts.pruned,
            TrialState::Infeasible => &mut counts.infeasible,
            TrialState::Failed => &mut counts.failed,
            TrialState::Cancelled => &mut counts.cancelled,
        };
        *count += 1;
    }
    counts
}

impl From<store::Counts> for Counts {
    fn from(c: store::Counts) -> Counts {
        Counts {
            queued: c.queued,
            running: c.running,
            paused: c.paused,
            done: c.done,
            pruned: c.pruned,
            infeasible: c.infeasible,
            failed: c.failed,
            cancelled: c.cancelled,
        }
    }
}

/// The row of a study.
pub fn study_row(study: &Resolved, counts: Counts, progress: Progress) -> StudyRow {
    let row = &study.row;
    let objective = |o: &spaces::Objective| ObjectiveView {
        metric: o.metric.clone(),
        unit: unit(&o.metric),
        direction: o.direction,
        doc: metric(&o.metric).map_or("", |m| m.doc),
        known_before_training: o.known_before_training,
    };
    StudyRow {
        id: row.id,
        name: row.name.clone(),
        state: row.state,
        error: row.error.clone(),
        objectives: study.objectives.iter().map(objective).collect(),
        counts,
        progress,
        created_at: row.created_at,
        started_at: row.started_at,
        finished_at: row.finished_at,
        changed_at: row.changed_at,
        revision: row.revision,
    }
}

/// A study with all there is to say about it.
pub fn study_view(
    study: &Resolved,
    row: StudyRow,
    best: Vec<Best>,
    curve: &HypervolumeCurve,
    catalog: &Catalog,
) -> StudyView {
    let (parameters, fixed) = study.study().map(|s| parameters(s, catalog)).unwrap_or_default();
    StudyView {
        row,
        spec: study.row.spec.clone(),
        toml: study_to_toml(&study.row.spec),
        limits: study.limits.iter().map(limit_view).collect(),
        parameters,
        fixed,
        best,
        hypervolume: HypervolumeView {
            value: curve.value(),
            reference: curve.reference(&study.objectives).unwrap_or_default(),
            fixed: study.row.reference.is_some(),
            curve: curve.points().to_vec(),
        },
        data_fingerprint: study.row.data_fingerprint.clone(),
        problems: study.problems.clone(),
    }
}

fn parameters(study: &spaces::Study, catalog: &Catalog) -> (Vec<SearchedParameter>, Vec<FixedParameter>) {
    let info = |name: &str| catalog.parameter(name);
    let unit = |name: &str| info(name).map_or_else(String::new, |i| i.unit.clone());
    let searched = study.space.parameters().iter().map(|p| SearchedParameter {
        name: p.name.clone(),
        doc: info(&p.name).map_or_else(String::new, |i| i.doc.clone()),
        unit: unit(&p.name),
        domain: p.domain.clone(),
        condition: p.condition.clone(),
    });
    let fixed = study.fixed.iter().map(|(name, value)| FixedParameter {
        name: name.clone(),
        unit: unit(name),
        value: value.clone(),
    });
    (searched.collect(), fixed.collect())
}

/// For each objective, the best value among the trials that keep the study's limits.
pub fn best<'t>(study: &Resolved, trials: impl IntoIterator<Item = &'t Trial>) -> Vec<Best> {
    let mut entries = entries(trials, &study.objectives, &study.limits);
    entries.retain(|e| e.feasible);
    let group = groups(&entries).into_iter().next().unwrap_or_default();
    let running = || entries.iter().filter(|e| e.group == group);
    let of = |(i, objective): (usize, &spaces::Objective)| {
        let best = running().min_by(|a, b| a.values[i].total_cmp(&b.values[i]))?;
        Some(Best {
            metric: objective.metric.clone(),
            unit: unit(&objective.metric),
            value: objective.direction.minimized(best.values[i]),
            trial: best.trial.id,
            number: best.trial.number,
        })
    };
    study.objectives.iter().enumerate().filter_map(of).collect()
}

/// A limit with its unit.
pub fn limit_view(limit: &Limit) -> LimitView {
    LimitView {
        metric: limit.metric.clone(),
        unit: unit(&limit.metric),
        min: limit.min,
        max: limit.max,
    }
}

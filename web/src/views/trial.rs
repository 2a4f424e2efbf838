//! Trials: as a row, and with all that is kept of one.

use std::collections::BTreeMap;

use serde::Serialize;
use spaces::{
    Catalog, Limit, Value,
    protocol::{Progress, TrialState},
    study::{BaseSpec, DataSpec},
};
use store::{Trial, TrialDetail};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{MetricValue, Resolved, metrics, values};

/// Trials of a study by number.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TrialList {
    /// The trials.
    pub trials: Vec<TrialRow>,
    /// Pass it as `after` for the next page; null at the end.
    pub next: Option<u32>,
}

/// A trial in a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TrialRow {
    /// Its id.
    pub id: i64,
    /// Its number within the study, from 0.
    pub number: u32,
    /// Where it stands.
    pub state: TrialState,
    /// The attempt that runs or ran last; 0 before the first.
    pub attempt: u32,
    /// Who works or worked on it.
    pub worker: Option<String>,
    /// On what.
    pub device: Option<String>,
    /// Every parameter that has a meaning here, constants and defaults included.
    pub config: BTreeMap<String, Value>,
    /// Final values by metric, those known before training included; of a trial that rests or was pruned at a part of its
    /// training, the values there.
    pub metrics: BTreeMap<String, MetricValue>,
    /// The number of the trial whose configuration it trains again, with another seed.
    pub repeats: Option<u32>,
    /// How many trainings of the configuration the values are means of.
    pub trainings: u32,
    /// Whether it keeps the study's limits; null while a limited metric has no value.
    pub feasible: Option<bool>,
    /// How the last attempt that failed did so, or why the trial was refused.
    pub failure: Option<Failure>,
    /// How far the running attempt is.
    pub progress: Option<Progress>,
    /// Whether a running trial has been asked to stop.
    pub stopping: bool,
    /// Wall time of the evaluation in seconds.
    pub wall_s: Option<f64>,
    /// The part of the full training that it has results of.
    pub trained: f64,
    /// The part of the full training that its attempt goes to, or that it rests at.
    pub target: f64,
    /// When it was proposed.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When its last attempt began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
    /// The study's revision at its last visible change.
    pub revision: i64,
}

/// Why a trial has no result.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Failure {
    /// The kind, such as `out_of_memory`; null for a trial that was refused before training.
    pub kind: Option<String>,
    /// One sentence.
    pub message: String,
}

/// A trial with all that is kept of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TrialView {
    /// The trial.
    #[serde(flatten)]
    pub row: TrialRow,
    /// Its study's id.
    pub study: i64,
    /// Its study's name.
    pub study_name: String,
    /// The searched parameters alone.
    pub candidate: BTreeMap<String, Value>,
    /// What is learnt.
    pub data: DataSpec,
    /// The checkpoint it starts from, if not from scratch.
    pub base: Option<BaseSpec>,
    /// The model it learns from beside the data, if there is one.
    pub teacher: Option<BaseSpec>,
    /// Attempts it may have.
    pub max_attempts: u32,
    /// How much each technique that is on has done.
    pub activity: BTreeMap<String, u64>,
    /// Version, device, fingerprints: what is needed to do it again.
    pub provenance: BTreeMap<String, String>,
    /// Method, seed and history that the proposal was derived from.
    #[schema(value_type = Object)]
    pub snapshot: store::Snapshot,
    /// Higher is leased first.
    pub priority: i32,
    /// A queued trial waits until then.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    /// Files of the last attempt, in the order of the bundle.
    pub artifacts: Vec<ArtifactView>,
}

/// A file of a trial.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ArtifactView {
    /// Its name in the bundle.
    pub name: String,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// Its size.
    pub size_bytes: i64,
}

/// The row of a trial.
pub fn trial_row(trial: &Trial, study: &Resolved, catalog: &Catalog) -> TrialRow {
    TrialRow {
        id: trial.id,
        number: trial.number,
        state: trial.state,
        attempt: trial.attempt,
        worker: trial.worker.clone(),
        device: trial.device.clone(),
        config: study.config(catalog, &trial.candidate),
        metrics: metrics(trial),
        repeats: trial.repeats,
        trainings: trial.trainings,
        feasible: feasible(&values(trial), &study.limits),
        failure: trial.failure_message.as_ref().map(|message| Failure {
            kind: trial.failure_kind.clone(),
            message: message.clone(),
        }),
        progress: trial.progress.clone(),
        stopping: trial.stopping,
        wall_s: trial.wall_s,
        trained: trial.reached,
        target: trial.target,
        created_at: trial.created_at,
        started_at: trial.started_at,
        finished_at: trial.finished_at,
        revision: trial.revision,
    }
}

/// A trial with all that is kept of it.
pub fn trial_view(detail: &TrialDetail, study: &Resolved, catalog: &Catalog) -> TrialView {
    let artifact = |a: &store::Artifact| ArtifactView {
        name: a.name.clone(),
        sha256: a.sha256.clone(),
        size_bytes: a.size_bytes,
    };
    TrialView {
        row: trial_row(&detail.trial, study, catalog),
        study: study.row.id,
        study_name: study.row.name.clone(),
        candidate: detail.trial.candidate.values.clone(),
        data: study.row.spec.data.clone(),
        base: study.row.spec.base.clone(),
        teacher: study.row.spec.teacher.clone(),
        max_attempts: detail.trial.max_attempts,
        activity: detail.activity.clone(),
        provenance: detail.provenance.clone(),
        snapshot: detail.snapshot.clone(),
        priority: detail.priority,
        not_before: detail.not_before,
        artifacts: detail.artifacts.iter().map(artifact).collect(),
    }
}

/// Whether the values keep all limits; `None` where one that is not broken cannot be judged yet.
pub(crate) fn feasible(values: &BTreeMap<String, f64>, limits: &[Limit]) -> Option<bool> {
    let mut open = false;
    for limit in limits {
        match values.get(&limit.metric) {
            None => open = true,
            Some(value) if !limit.holds(*value) => return Some(false),
            Some(_) => {}
        }
    }
    (!open).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_limit_decides_and_a_missing_value_leaves_it_open() {
        let limit = |metric: &str, max| Limit {
            metric: metric.into(),
            min: None,
            max: Some(max),
        };
        let limits = [limit("model_bytes", 10.0), limit("latency_ms_per_token", 1.0)];
        let judge = |pairs: &[(&str, f64)]| {
            let values = pairs.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
            feasible(&values, &limits)
        };
        assert_eq!(
            judge(&[("model_bytes", 5.0), ("latency_ms_per_token", 0.5)]),
            Some(true)
        );
        assert_eq!(judge(&[("model_bytes", 5.0)]), None);
        assert_eq!(judge(&[("model_bytes", 50.0)]), Some(false));
        assert_eq!(judge(&[("latency_ms_per_token", 2.0)]), Some(false));
        assert_eq!(feasible(&BTreeMap::new(), &[]), Some(true));
    }
}

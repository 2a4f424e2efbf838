//! Trials as they are read: lists, one in full, and what changed since a revision.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spaces::{
    Candidate, Measurement,
    protocol::{Progress, TrialState},
};
use sqlx::{FromRow, Row, postgres::PgRow};
use time::OffsetDateTime;

use crate::{Artifact, Result, Snapshot, Store, StoreError, Study, row};

/// A trial with its final values.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Its id.
    pub id: i64,
    /// Its study's id.
    pub study: i64,
    /// Its number within the study, from 0.
    pub number: u32,
    /// The point it tries.
    pub candidate: Candidate,
    /// Where it stands.
    pub state: TrialState,
    /// The attempt that runs or ran last; 0 before the first.
    pub attempt: u32,
    /// Attempts it may have.
    pub max_attempts: u32,
    /// Who works or worked on it.
    pub worker: Option<String>,
    /// On what.
    pub device: Option<String>,
    /// Whether a running trial has been asked to stop.
    pub stopping: bool,
    /// How the last attempt that failed did so; kept while the next one runs.
    pub failure_kind: Option<String>,
    /// The same in a sentence; of an infeasible trial, the limit it breaks.
    pub failure_message: Option<String>,
    /// How far the running attempt is.
    pub progress: Option<Progress>,
    /// Metrics computed before training.
    pub known: BTreeMap<String, f64>,
    /// Final values of the last attempt, by metric name; means over all trainings where the configuration was trained again.
    pub metrics: Vec<Measurement>,
    /// The number of the trial whose configuration it trains again.
    pub repeats: Option<u32>,
    /// How many trainings of the configuration the values are means of; 1 for a repeat itself.
    pub trainings: u32,
    /// Wall time of the evaluation in seconds.
    pub wall_s: Option<f64>,
    /// The part of the full training that its attempt goes to, or that it rests at.
    pub target: f64,
    /// The part of the full training that it has results of.
    pub reached: f64,
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

/// A trial with all that is kept of it.
#[derive(Clone, Debug, Serialize)]
pub struct TrialDetail {
    /// The trial.
    #[serde(flatten)]
    pub trial: Trial,
    /// What the proposal was derived from.
    pub snapshot: Snapshot,
    /// How much each technique did.
    pub activity: BTreeMap<String, u64>,
    /// What is needed to do it again.
    pub provenance: BTreeMap<String, String>,
    /// Higher is leased first.
    pub priority: i32,
    /// A queued trial waits until then.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    /// Files of the last attempt, in the order of the bundle.
    pub artifacts: Vec<Artifact>,
}

/// Which trials of a study to list.
#[derive(Clone, Debug, Default)]
pub struct TrialFilter {
    /// Only those in one of these states; empty for all.
    pub states: Vec<TrialState>,
    /// Only those with a higher number: the cursor, which is the last number of the page before.
    pub after: Option<u32>,
    /// At most so many.
    pub limit: Option<u32>,
}

/// What changed in a study since a revision.
#[derive(Clone, Debug, Serialize)]
pub struct Changes {
    /// The study as it is now.
    pub study: Study,
    /// The trials that changed, in the order of their last change.
    pub trials: Vec<Trial>,
    /// Where to go on: everything up to this revision is contained.
    pub revision: i64,
}

/// The columns of [`Trial`], its final values gathered in the same query, followed by `$rest`.
macro_rules! trials {
    ($rest:literal) => {
        concat!(
            "select t.*, (
                select json_agg(json_build_object(
                    'metric', m.metric, 'step', m.step, 'value', m.value,
                    'spread', m.spread, 'evidence', m.evidence, 'source', m.source
                ) order by m.metric)
                from measurements m
                where m.trial_id = t.id and m.attempt = t.attempt and m.is_final
            ) as metrics from trials t ",
            $rest
        )
    };
}

/// The final values of a metric over the trainings of a configuration.
#[derive(Deserialize)]
struct Mean {
    value: f64,
    spread: Option<f64>,
    trainings: u32,
}

impl FromRow<'_, PgRow> for Trial {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let mut metrics: Vec<Measurement> = row::json_or_null(row, "metrics")?.unwrap_or_default();
        let means: BTreeMap<String, Mean> = row::json_or_null(row, "means")?.unwrap_or_default();
        for each in &mut metrics {
            if let Some(mean) = means.get(&each.metric) {
                (each.value, each.spread) = (mean.value, mean.spread);
            }
        }
        Ok(Trial {
            id: row.try_get("id")?,
            study: row.try_get("study_id")?,
            number: row::number(row, "number")?,
            candidate: row::json(row, "candidate")?,
            state: row::state(row)?,
            attempt: row::number(row, "attempt")?,
            max_attempts: row::number(row, "max_attempts")?,
            worker: row.try_get("worker")?,
            device: row.try_get("device")?,
            stopping: row.try_get::<Option<&str>, _>("stop_as")?.is_some(),
            failure_kind: row.try_get("failure_kind")?,
            failure_message: row.try_get("failure_message")?,
            progress: row::json_or_null(row, "progress")?,
            known: row::json(row, "known")?,
            metrics,
            repeats: row.try_get::<Option<i32>, _>("repeats")?.map(i32::unsigned_abs),
            trainings: means.values().map(|m| m.trainings).max().unwrap_or(1),
            wall_s: row.try_get("wall_s")?,
            target: row.try_get("target")?,
            reached: row.try_get("reached")?,
            created_at: row.try_get("created_at")?,
            started_at: row.try_get("started_at")?,
            finished_at: row.try_get("finished_at")?,
            revision: row.try_get("revision")?,
        })
    }
}

impl Store {
    /// Trials of a study by number, with their final values. An unknown study has none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn trials(&self, study: i64, filter: &TrialFilter) -> Result<Vec<Trial>> {
        let states: Vec<&str> = filter.states.iter().map(|s| s.label()).collect();
        Ok(sqlx::query_as(trials!(
            "where t.study_id = $1 and (cardinality($2::text[]) = 0 or t.state = any($2)) and t.number > $3
            order by t.number limit $4"
        ))
        .bind(study)
        .bind(states)
        .bind(filter.after.map_or(-1, i64::from))
        .bind(filter.limit.map(i64::from))
        .fetch_all(&self.pool)
        .await?)
    }

    /// A trial with all that is kept of it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn trial(&self, id: i64) -> Result<TrialDetail> {
        let row = sqlx::query(trials!("where t.id = $1"))
            .bind(id)
            .fetch_optional(&self.pool)
            .await?
            .ok_or_else(|| StoreError::no_trial(id))?;
        let trial = Trial::from_row(&row)?;
        let artifacts = self.artifacts(id, trial.attempt).await?;
        Ok(TrialDetail {
            trial,
            snapshot: row::json(&row, "snapshot")?,
            activity: row::json_or_null(&row, "activity")?.unwrap_or_default(),
            provenance: row::json_or_null(&row, "provenance")?.unwrap_or_default(),
            priority: row.try_get("priority").map_err(StoreError::Database)?,
            not_before: row.try_get("not_before").map_err(StoreError::Database)?,
            artifacts,
        })
    }

    /// The trials that changed after `revision`, at most `limit`, and the study as it is now.
    ///
    /// Repeated from [`Changes::revision`] until no trial comes back, this misses no change, though of several changes of
    /// one trial only the last is seen. Start from 0 for everything.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn changes_since(&self, study: i64, revision: i64, limit: u32) -> Result<Changes> {
        // the study first, and no trial beyond its revision: a change of the study itself between the two reads
        // would otherwise be skipped by whoever goes on from the revision of a trial that changed after it
        let study = self.study(study).await?;
        let trials: Vec<Trial> = sqlx::query_as(trials!(
            "where t.study_id = $1 and t.revision > $2 and t.revision <= $3 order by t.revision limit $4"
        ))
        .bind(study.id)
        .bind(revision)
        .bind(study.revision)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        let revision = match trials.last() {
            Some(last) if trials.len() == limit as usize => last.revision,
            _ => study.revision,
        };
        Ok(Changes {
            study,
            trials,
            revision,
        })
    }
}

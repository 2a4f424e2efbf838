//! Studies: what was asked for and where it stands.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use spaces::StudySpec;
use sqlx::{FromRow, Row, postgres::PgRow};
use time::OffsetDateTime;

use crate::{Result, Store, StoreError, lock::StudyLock, row};

/// The state of a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StudyState {
    /// Trials are proposed and leased.
    Running,
    /// No trial is leased until it is resumed; those that run go on.
    Paused,
    /// Ended by a person.
    Cancelled,
    /// Ended with all its trials.
    Finished,
    /// The search itself could not go on, with a reason.
    Failed,
}

impl StudyState {
    /// Every state.
    pub const ALL: [StudyState; 5] = [
        StudyState::Running,
        StudyState::Paused,
        StudyState::Cancelled,
        StudyState::Finished,
        StudyState::Failed,
    ];

    /// The name as stored and shown.
    pub fn label(self) -> &'static str {
        match self {
            StudyState::Running => "running",
            StudyState::Paused => "paused",
            StudyState::Cancelled => "cancelled",
            StudyState::Finished => "finished",
            StudyState::Failed => "failed",
        }
    }

    /// Reads a name back.
    pub fn from_label(label: &str) -> Option<StudyState> {
        StudyState::ALL.into_iter().find(|s| s.label() == label)
    }

    /// Whether no trial of it waits or will be proposed.
    pub fn is_over(self) -> bool {
        !matches!(self, StudyState::Running | StudyState::Paused)
    }
}

/// A study.
#[derive(Clone, Debug, Serialize)]
pub struct Study {
    /// Its id.
    pub id: i64,
    /// Its unique name.
    pub name: String,
    /// What the user wrote.
    pub spec: StudySpec,
    /// Where it stands.
    pub state: StudyState,
    /// Why the search could not go on, if it failed.
    pub error: Option<String>,
    /// Fingerprint of the data that every trial must meet.
    pub data_fingerprint: String,
    /// The hypervolume's reference point by metric, once fixed.
    pub reference: Option<BTreeMap<String, f64>>,
    /// Trials proposed so far.
    pub trial_count: u32,
    /// Rows of [`Store::history`].
    pub finished_count: u32,
    /// Goes up with each visible change of the study or its trials.
    pub revision: i64,
    /// When it was submitted.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When its first trial was leased.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// Seconds in which the search was under way, without pauses and hours in which no server ran.
    pub searched_s: f64,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
    /// When anything of it last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub changed_at: OffsetDateTime,
}

impl FromRow<'_, PgRow> for Study {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Study {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            spec: row::json(row, "spec")?,
            state: row::label(row, "state", StudyState::from_label)?,
            error: row.try_get("error")?,
            data_fingerprint: row.try_get("data_fingerprint")?,
            reference: row::json_or_null(row, "reference")?,
            trial_count: row::number(row, "trial_count")?,
            finished_count: row::number(row, "finished_count")?,
            revision: row.try_get("revision")?,
            created_at: row.try_get("created_at")?,
            started_at: row.try_get("started_at")?,
            searched_s: row.try_get("searched_s")?,
            finished_at: row.try_get("finished_at")?,
            changed_at: row.try_get("changed_at")?,
        })
    }
}

/// Trials of a study by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, FromRow)]
pub struct Counts {
    /// Wait for a worker.
    pub queued: i64,
    /// Leased by a worker.
    pub running: i64,
    /// Rest at a part of their training.
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

/// A study in a list.
#[derive(Clone, Debug, Serialize)]
pub struct StudySummary {
    /// The study; [`Study::changed_at`] is its last activity.
    pub study: Study,
    /// Its trials by state.
    pub counts: Counts,
}

impl FromRow<'_, PgRow> for StudySummary {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(StudySummary {
            study: Study::from_row(row)?,
            counts: Counts::from_row(row)?,
        })
    }
}

/// The columns of [`Counts`].
macro_rules! counts {
    () => {
        "count(*) filter (where state = 'queued') as queued,
        count(*) filter (where state = 'running') as running,
        count(*) filter (where state = 'paused') as paused,
        count(*) filter (where state = 'done') as done,
        count(*) filter (where state = 'pruned') as pruned,
        count(*) filter (where state = 'infeasible') as infeasible,
        count(*) filter (where state = 'failed') as failed,
        count(*) filter (where state = 'cancelled') as cancelled"
    };
}

impl Store {
    /// Creates a study; its trials may be proposed and leased at once.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`]; [`StoreError::Invalid`] for a name that is empty or a number.
    pub async fn create_study(&self, spec: &StudySpec, data_fingerprint: &str) -> Result<Study> {
        let name = &spec.name;
        if name.contains('\0') {
            return Err(StoreError::Invalid(format!(
                "the study name {name:?} contains the character U+0000; remove it"
            )));
        }
        let mut transaction = self.pool.begin().await?;
        let created = sqlx::query_as(
            "insert into studies (name, spec, data_fingerprint) values ($1, $2::json, $3) returning *",
        )
        .bind(name)
        .bind(row::to_json(spec))
        .bind(data_fingerprint)
        .fetch_one(&mut *transaction)
        .await;
        let mut study: Study =
            created.map_err(|e| match e.as_database_error().and_then(|e| e.constraint()) {
                Some("studies_name_unique") => StoreError::NameTaken(name.clone()),
                Some("studies_name_form") => StoreError::Invalid(format!(
                    "the study name '{name}' is empty or a number, which would be taken for an id; use a word"
                )),
                _ => e.into(),
            })?;
        let mut lock = StudyLock::take(&mut transaction, study.id).await?;
        lock.revisions(1);
        study.revision = lock.commit(transaction).await?;
        Ok(study)
    }

    /// Every study with its trials counted, the last active first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn studies(&self) -> Result<Vec<StudySummary>> {
        Ok(sqlx::query_as(concat!(
            "select s.*, c.* from studies s, lateral (select ",
            counts!(),
            " from trials where study_id = s.id) c order by s.changed_at desc, s.id desc",
        ))
        .fetch_all(&self.pool)
        .await?)
    }

    /// The study of that id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn study(&self, id: i64) -> Result<Study> {
        sqlx::query_as("select * from studies where id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?
            .ok_or_else(|| StoreError::no_study(id))
    }

    /// The study of that name or, if the text is a number, of that id. A name is never a number.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn find_study(&self, name_or_id: &str) -> Result<Study> {
        if name_or_id.bytes().all(|b| b.is_ascii_digit())
            && let Ok(id) = name_or_id.parse()
        {
            return self.study(id).await;
        }
        sqlx::query_as("select * from studies where name = $1")
            .bind(row::clean(name_or_id))
            .fetch_optional(&self.pool)
            .await?
            .ok_or_else(|| StoreError::no_study(name_or_id))
    }

    /// How many trials of the study are in each state.
    ///
    /// # Errors
    /// [`StoreError::Database`]; an unknown study has no trials.
    pub async fn counts(&self, study: i64) -> Result<Counts> {
        Ok(
            sqlx::query_as(concat!("select ", counts!(), " from trials where study_id = $1"))
                .bind(study)
                .fetch_one(&self.pool)
                .await?,
        )
    }

    /// Fixes the hypervolume's reference point if none is fixed yet; returns the one that holds.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Invalid`] for a coordinate that is not finite.
    pub async fn fix_reference(
        &self,
        study: i64,
        reference: &BTreeMap<String, f64>,
    ) -> Result<BTreeMap<String, f64>> {
        crate::history::check_finite(reference)?;
        let mut transaction = self.pool.begin().await?;
        let mut lock = StudyLock::take(&mut transaction, study).await?;
        let fixed =
            sqlx::query("update studies set reference = $2::json where id = $1 and reference is null")
                .bind(study)
                .bind(row::to_json(reference))
                .execute(&mut *transaction)
                .await?;
        if fixed.rows_affected() == 1 {
            lock.revisions(1);
            lock.commit(transaction).await?;
            return Ok(reference.clone());
        }
        let row = sqlx::query("select reference from studies where id = $1")
            .bind(study)
            .fetch_one(&mut *transaction)
            .await?;
        Ok(row::json(&row, "reference")?)
    }

    /// Adds to the time in which the search was under way; returns the whole of it, in seconds.
    ///
    /// Not a change that readers are told of: it goes on all the time.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn add_search_time(&self, study: i64, spent: Duration) -> Result<f64> {
        sqlx::query_scalar(
            "update studies set searched_s = searched_s + $2 where id = $1 returning searched_s",
        )
        .bind(study)
        .bind(spent.as_secs_f64())
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| StoreError::no_study(study))
    }
}

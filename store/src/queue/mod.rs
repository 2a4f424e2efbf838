//! The queue between search and workers: the trial rows themselves.

pub(crate) mod finish;
mod lease;
mod promote;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use spaces::{Candidate, Measurement};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

pub use self::lease::Lease;
use crate::{
    Result, Store, StoreError,
    lock::{StudyLock, wake_workers},
    row,
};

/// A proposal.
#[derive(Clone, Debug)]
pub struct NewTrial {
    /// The point to try.
    pub candidate: Candidate,
    /// Metrics computed from the configuration.
    pub known: BTreeMap<String, f64>,
    /// What the proposal was derived from.
    pub snapshot: Snapshot,
    /// Higher is leased first.
    pub priority: i32,
    /// The limit that `known` breaks, in a sentence: such a trial is kept but never leased.
    pub infeasible: Option<String>,
    /// The part of the full training after which it is first measured.
    pub target: f64,
    /// The number of the trial whose configuration it trains again, with another seed.
    pub repeats: Option<u32>,
}

impl Default for NewTrial {
    fn default() -> Self {
        NewTrial {
            candidate: Candidate::default(),
            known: BTreeMap::new(),
            snapshot: Snapshot::default(),
            priority: 0,
            infeasible: None,
            target: 1.0,
            repeats: None,
        }
    }
}

/// What a proposal was derived from; with it, a parallel search can be replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The method that proposed.
    pub method: String,
    /// The seed it was given.
    pub seed: u64,
    /// How many finishes and rests it knew: the first so many of [`Store::history`].
    pub finished: u32,
    /// Numbers of the trials that waited or ran; those that rested are known from the finishes.
    pub pending: Vec<u32>,
}

/// A trial that was enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Enqueued {
    /// Its id.
    pub id: i64,
    /// Its number within the study.
    pub number: u32,
}

impl Store {
    /// Adds trials in the given order; `None` stands for a point the study has already.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] where the study is over; [`StoreError::Invalid`] for a known
    /// metric that is not finite.
    pub async fn enqueue(&self, study: i64, trials: &[NewTrial]) -> Result<Vec<Option<Enqueued>>> {
        for trial in trials {
            crate::history::check_finite(&trial.known)?;
        }
        let mut transaction = self.pool.begin().await?;
        let mut lock = StudyLock::take(&mut transaction, study).await?;
        if lock.state.is_over() {
            return Err(StoreError::WrongState {
                what: format!("study '{}'", lock.name),
                state: lock.state.label(),
                action: "given more trials",
                remedy: "clone it to search on",
            });
        }
        let hashes: Vec<String> = trials.iter().map(|t| t.candidate.hash()).collect();
        let fresh = fresh(&mut transaction, study, trials, &hashes).await?;
        let mut enqueued = vec![None; trials.len()];
        for &place in &fresh {
            let (trial, hash) = (&trials[place], &hashes[place]);
            enqueued[place] = Some(insert(&mut transaction, &mut lock, trial, hash).await?);
        }
        if fresh.is_empty() {
            return Ok(enqueued);
        }
        wake_workers(&mut transaction).await?;
        lock.commit(transaction).await?;
        Ok(enqueued)
    }
}

/// Places of the repeats and of the candidates that the study does not have, each once. The study is locked, so this
/// remains true.
async fn fresh(
    connection: &mut PgConnection,
    study: i64,
    trials: &[NewTrial],
    hashes: &[String],
) -> Result<Vec<usize>> {
    let known: Vec<String> = sqlx::query_scalar(
        "select candidate_hash from trials where study_id = $1 and candidate_hash = any($2)",
    )
    .bind(study)
    .bind(hashes)
    .fetch_all(connection)
    .await?;
    let mut taken: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    let places = trials.iter().zip(hashes).enumerate();
    Ok(places
        .filter(|(_, (trial, hash))| trial.repeats.is_some() || taken.insert(hash))
        .map(|(place, _)| place)
        .collect())
}

async fn insert(
    connection: &mut PgConnection,
    lock: &mut StudyLock,
    trial: &NewTrial,
    hash: &str,
) -> Result<Enqueued> {
    let number = lock.numbers(1);
    let state = if trial.infeasible.is_some() {
        "infeasible"
    } else {
        "queued"
    };
    let id: i64 = sqlx::query_scalar(
        "insert into trials (study_id, number, candidate, candidate_hash, known, snapshot, priority, state,
            failure_message, finished_at, revision, target, repeats)
        values ($1, $2, $3::json, $4, $5::json, $6::json, $7, $8, $9, case when $8 = 'infeasible' then now() end, $10,
            $11, $12)
        returning id",
    )
    .bind(lock.id)
    .bind(number)
    .bind(row::to_json(&trial.candidate))
    .bind(hash)
    .bind(row::to_json(&trial.known))
    .bind(row::to_json(&trial.snapshot))
    .bind(trial.priority)
    .bind(state)
    .bind(trial.infeasible.as_deref().map(row::clean))
    .bind(lock.revisions(1))
    .bind(trial.target)
    .bind(trial.repeats.map(i64::from))
    .fetch_one(&mut *connection)
    .await?;
    if trial.infeasible.is_some() {
        finish::append(connection, lock, (id, 0), "infeasible", 1.0).await?;
    }
    Ok(Enqueued {
        id,
        number: number.unsigned_abs(),
    })
}

/// A trial that is not over and whose row is locked until the transaction ends.
#[derive(Debug, FromRow)]
pub(crate) struct Held {
    pub(crate) id: i64,
    pub(crate) study_id: i64,
    pub(crate) attempt: i32,
    pub(crate) max_attempts: i32,
    pub(crate) stop_as: Option<String>,
    pub(crate) target: f64,
}

/// Locks the trial if the lease still holds it. A lease past its time that nobody took over does.
pub(crate) async fn hold(connection: &mut PgConnection, trial: i64, lease: Uuid) -> Result<Held> {
    sqlx::query_as(
        "select id, study_id, attempt, max_attempts, stop_as, target from trials
        where id = $1 and lease_token = $2 and state = 'running'
        for no key update",
    )
    .bind(trial)
    .bind(lease)
    .fetch_optional(connection)
    .await?
    .ok_or(StoreError::LeaseLost { trial })
}

/// Appends measurements of an attempt, all final or none; rows that are there already are left as they are.
async fn append_measurements(
    connection: &mut PgConnection,
    held: &Held,
    is_final: bool,
    measurements: &[Measurement],
) -> Result<u64> {
    let mut steps = Vec::with_capacity(measurements.len());
    for m in measurements {
        let reason = if !m.value.is_finite() {
            format!(
                "its value {} is not a finite number; report such a trial as failed",
                m.value
            )
        } else if m.spread.is_some_and(|s| !(0.0..f64::INFINITY).contains(&s)) {
            format!(
                "its spread {} is not a finite number of 0 or more; leave it out",
                m.spread.unwrap_or_default()
            )
        } else if m.metric.is_empty() || m.metric.contains('\0') || m.source.contains('\0') {
            "its name is empty, or name or source contain U+0000; send plain text".to_owned()
        } else if let Ok(step) = i64::try_from(m.step) {
            steps.push(step);
            continue;
        } else {
            format!("its step {} is beyond 63 bits; send the training step", m.step)
        };
        return Err(StoreError::Invalid(format!(
            "measurement '{}' of trial {} at step {} cannot be kept: {reason}",
            m.metric.escape_debug(),
            held.id,
            m.step
        )));
    }
    let inserted = sqlx::query(
        "insert into measurements (trial_id, attempt, is_final, metric, step, value, spread, evidence, source)
        select $1, $2, $3, * from unnest($4::text[], $5::bigint[], $6::float8[], $7::float8[], $8::text[], $9::text[])
        on conflict do nothing",
    )
    .bind(held.id)
    .bind(held.attempt)
    .bind(is_final)
    .bind(measurements.iter().map(|m| m.metric.as_str()).collect::<Vec<_>>())
    .bind(steps)
    .bind(measurements.iter().map(|m| m.value).collect::<Vec<_>>())
    .bind(measurements.iter().map(|m| m.spread).collect::<Vec<_>>())
    .bind(measurements.iter().map(|m| m.evidence.label()).collect::<Vec<_>>())
    .bind(measurements.iter().map(|m| m.source.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected())
}

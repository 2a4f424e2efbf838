//! A worker's hold on a trial: claim, heartbeat, report, release.

use std::time::Duration;

use spaces::{
    Candidate, Measurement, StudySpec,
    protocol::{Progress, TrialState},
};
use sqlx::{FromRow, PgTransaction, Row, postgres::PgRow};
use uuid::Uuid;

use super::{append_measurements, hold};
use crate::{
    Result, Store, StudyState,
    lock::{StudyLock, wake_workers},
    row, workers,
};

/// A claimed trial.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The trial's id.
    pub trial: i64,
    /// The study's id.
    pub study: i64,
    /// The study's name.
    pub study_name: String,
    /// The study as the user wrote it.
    pub spec: StudySpec,
    /// Fingerprint that the data must have.
    pub data_fingerprint: String,
    /// The trial's number within the study.
    pub number: u32,
    /// Whether it trains the configuration of an earlier trial again.
    pub is_repeat: bool,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The point to try.
    pub candidate: Candidate,
    /// Proof of this very claim.
    pub token: Uuid,
    /// The part of the full training after which it is measured.
    pub target: f64,
}

impl FromRow<'_, PgRow> for Lease {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Lease {
            trial: row.try_get("id")?,
            study: row.try_get("study_id")?,
            study_name: row.try_get("name")?,
            spec: row::json(row, "spec")?,
            data_fingerprint: row.try_get("data_fingerprint")?,
            number: row::number(row, "number")?,
            is_repeat: row.try_get("is_repeat")?,
            attempt: row::number(row, "attempt")?,
            candidate: row::json(row, "candidate")?,
            token: row.try_get("lease_token")?,
            target: row.try_get("target")?,
        })
    }
}

impl Store {
    /// Claims the waiting trial of highest priority, then lowest id, of a study that runs. It is given to another after
    /// `duration` without a heartbeat or report. `None` if nothing waits. A worker that is not `partial` is given no part of
    /// a training, neither a first nor a later.
    ///
    /// # Errors
    /// [`crate::StoreError::Database`].
    pub async fn lease(
        &self,
        worker: &str,
        device: &str,
        partial: bool,
        duration: Duration,
    ) -> Result<Option<Lease>> {
        loop {
            let mut transaction = self.pool.begin().await?;
            let waiting: Option<(i64, i64)> = sqlx::query_as(
                // no join: it would sort the whole queue, where this walks its index to the first fit
                "select id, study_id from trials
                where state = 'queued' and not_before <= now()
                    and study_id = any(array(select id from studies where state = 'running'))
                    and ($1 or (target = 1 and checkpoint_attempt is null))
                order by priority desc, id
                limit 1
                for no key update skip locked",
            )
            .bind(partial)
            .fetch_optional(&mut *transaction)
            .await?;
            let Some((trial, study)) = waiting else {
                workers::seen(&mut transaction, worker, device, None).await?;
                transaction.commit().await?;
                return Ok(None);
            };
            let lock = StudyLock::take(&mut transaction, study).await?;
            // paused or ended since the row was read; the next read sees it
            if lock.state == StudyState::Running {
                let lease = claim(transaction, lock, trial, (worker, device), duration).await?;
                return Ok(Some(lease));
            }
        }
    }

    /// Keeps the claim for another `duration`. Returns whether the worker shall stop this trial.
    ///
    /// # Errors
    /// [`crate::StoreError::LeaseLost`].
    pub async fn heartbeat(
        &self,
        trial: i64,
        lease: Uuid,
        duration: Duration,
        progress: Option<&Progress>,
    ) -> Result<bool> {
        self.report(trial, lease, duration, &[], progress).await
    }

    /// Appends points of curves and keeps the claim for another `duration`. The same points again are harmless.
    /// Returns whether the worker shall stop this trial.
    ///
    /// # Errors
    /// [`crate::StoreError::LeaseLost`]; [`crate::StoreError::Invalid`] for a value that is not finite; nothing is written then.
    pub async fn report(
        &self,
        trial: i64,
        lease: Uuid,
        duration: Duration,
        measurements: &[Measurement],
        progress: Option<&Progress>,
    ) -> Result<bool> {
        let mut transaction = self.pool.begin().await?;
        let held = hold(&mut transaction, trial, lease).await?;
        let added = match measurements {
            [] => 0,
            _ => append_measurements(&mut transaction, &held, false, measurements).await?,
        };
        let progress = progress.map(|p| {
            row::to_json(&Progress {
                phase: row::clean(&p.phase).into_owned(),
                ..p.clone()
            })
        });
        // a bare heartbeat shows nothing new, so it takes no revision and leaves the study's row alone
        let mut lock = None;
        if added > 0 || progress.is_some() {
            lock = Some(StudyLock::take(&mut transaction, held.study_id).await?);
        }
        let revision = lock.as_mut().map(|lock| lock.revisions(1));
        sqlx::query(
            "update trials
            set lease_until = now() + make_interval(secs => $2), progress = coalesce($3::json, progress),
                revision = coalesce($4, revision)
            where id = $1",
        )
        .bind(trial)
        .bind(duration.as_secs_f64())
        .bind(progress)
        .bind(revision)
        .execute(&mut *transaction)
        .await?;
        workers::alive(&mut transaction, trial).await?;
        match lock {
            Some(lock) => {
                lock.commit(transaction).await?;
            }
            None => transaction.commit().await?,
        }
        Ok(held.stop_as.is_some())
    }

    /// Gives a trial back, at no cost of an attempt: it waits again at once, or ends if it was asked to stop.
    ///
    /// # Errors
    /// [`crate::StoreError::LeaseLost`].
    pub async fn release(&self, trial: i64, lease: Uuid) -> Result<TrialState> {
        let mut transaction = self.pool.begin().await?;
        let held = hold(&mut transaction, trial, lease).await?;
        let mut lock = StudyLock::take(&mut transaction, held.study_id).await?;
        if held.stop_as.is_some() || lock.state.is_over() {
            let state = held.stopped_state();
            super::finish::end(&mut transaction, &mut lock, &held, state, None).await?;
            lock.commit(transaction).await?;
            return Ok(state);
        }
        // the attempt's number is not used again: measurements of the next one must not mix with what this one reported
        sqlx::query(
            "update trials
            set state = 'queued', max_attempts = max_attempts + 1, lease_token = null, lease_until = null,
                not_before = now(), progress = null, revision = $2
            where id = $1",
        )
        .bind(trial)
        .bind(lock.revisions(1))
        .execute(&mut *transaction)
        .await?;
        wake_workers(&mut transaction).await?;
        lock.commit(transaction).await?;
        Ok(TrialState::Queued)
    }
}

/// Turns a waiting trial, whose row is locked, into a running one.
async fn claim(
    mut transaction: PgTransaction<'_>,
    mut lock: StudyLock,
    trial: i64,
    (worker, device): (&str, &str),
    duration: Duration,
) -> Result<Lease> {
    let lease: Lease = sqlx::query_as(
        "update trials t
        set state = 'running', attempt = attempt + 1, lease_token = gen_random_uuid(),
            lease_until = now() + make_interval(secs => $2), worker = $3, device = $4, started_at = now(),
            progress = null, revision = $5
        from studies s
        where t.id = $1 and s.id = t.study_id
        returning t.id, t.study_id, s.name, s.spec, s.data_fingerprint, t.number, t.attempt, t.candidate, t.lease_token,
            t.target, t.repeats is not null as is_repeat",
    )
    .bind(trial)
    .bind(duration.as_secs_f64())
    .bind(row::clean(worker))
    .bind(row::clean(device))
    .bind(lock.revisions(1))
    .fetch_one(&mut *transaction)
    .await?;
    sqlx::query("update studies set started_at = now() where id = $1 and started_at is null")
        .bind(lease.study)
        .execute(&mut *transaction)
        .await?;
    workers::seen(&mut transaction, worker, device, Some(trial)).await?;
    lock.commit(transaction).await?;
    Ok(lease)
}

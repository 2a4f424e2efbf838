//! What people and the search do to studies and trials that are under way: pause, end, stop, retry, delete.

use spaces::protocol::TrialState;
use sqlx::{FromRow, PgConnection, PgTransaction, Row};

use crate::{
    Result, Store, StoreError, StudyState,
    lock::{StudyLock, wake_workers},
    queue::{Held, finish},
    row,
};

impl Store {
    /// Leases no further trial of the study; those that run go on. Pausing twice is harmless.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] where the study is over.
    pub async fn pause(&self, study: i64) -> Result<()> {
        let mut transaction = self.pool.begin().await?;
        let lock = StudyLock::take(&mut transaction, study).await?;
        if lock.state.is_over() {
            return Err(wrong_study(&lock, "paused", "only a running study can be"));
        }
        set_state(transaction, lock, StudyState::Paused, None).await
    }

    /// Lets a paused or failed study go on. Resuming one that runs is harmless.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] where the study was finished or cancelled.
    pub async fn resume(&self, study: i64) -> Result<()> {
        let mut transaction = self.pool.begin().await?;
        let lock = StudyLock::take(&mut transaction, study).await?;
        if matches!(lock.state, StudyState::Finished | StudyState::Cancelled) {
            return Err(wrong_study(&lock, "resumed", "clone it to search on"));
        }
        wake_workers(&mut transaction).await?;
        set_state(transaction, lock, StudyState::Running, None).await
    }

    /// Ends a study by a person's wish: waiting trials are cancelled, running ones asked to stop.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] where the study is over otherwise.
    pub async fn cancel_study(&self, study: i64) -> Result<()> {
        self.end_study(study, StudyState::Cancelled, "cancelled", None)
            .await
    }

    /// Ends a study that has what it was asked for, or as much of it as `reason` says; trials still waiting or running
    /// are cancelled, those that rest are pruned.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] where the study is over otherwise.
    pub async fn finish_study(&self, study: i64, reason: Option<&str>) -> Result<()> {
        self.end_study(study, StudyState::Finished, "finished", reason)
            .await
    }

    /// Ends a study whose search cannot go on, with the reason; trials still waiting or running are cancelled.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] where the study is over otherwise.
    pub async fn fail_study(&self, study: i64, reason: &str) -> Result<()> {
        self.end_study(study, StudyState::Failed, "failed", Some(reason))
            .await
    }

    /// Ends a trial by a person's wish: at once if it waits; one that runs is asked to stop. Returns its state.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] where the trial is over.
    pub async fn cancel_trial(&self, trial: i64) -> Result<TrialState> {
        self.stop_trial(trial, TrialState::Cancelled).await
    }

    /// Ends a trial because the search has seen enough of it. Returns its state.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] where the trial is over.
    pub async fn prune_trial(&self, trial: i64) -> Result<TrialState> {
        self.stop_trial(trial, TrialState::Pruned).await
    }

    /// Puts a failed trial back into the queue with three more attempts; a study that was finished or failed runs again.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] where the trial has not failed or the study was cancelled.
    pub async fn retry_trial(&self, trial: i64) -> Result<()> {
        let mut transaction = self.pool.begin().await?;
        let row = sqlx::query("select study_id, state from trials where id = $1 for no key update")
            .bind(trial)
            .fetch_optional(&mut *transaction)
            .await?
            .ok_or_else(|| StoreError::no_trial(trial))?;
        let state = row::state(&row)?;
        if state != TrialState::Failed {
            return Err(wrong_trial(trial, state, "retried", "only a failed trial can be"));
        }
        retry(transaction, row.try_get("study_id")?, &[trial]).await
    }

    /// Puts every failed trial of a study back into the queue, as [`Store::retry_trial`] does. Returns how many.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] where the study was cancelled.
    pub async fn retry_failed(&self, study: i64) -> Result<usize> {
        let mut transaction = self.pool.begin().await?;
        let failed: Vec<i64> = sqlx::query_scalar(
            "select id from trials where study_id = $1 and state = 'failed' order by id for no key update",
        )
        .bind(study)
        .fetch_all(&mut *transaction)
        .await?;
        retry(transaction, study, &failed).await?;
        Ok(failed.len())
    }

    /// Deletes a study with its trials and their measurements. Running workers find their lease lost. Returns the
    /// SHA-256 of the files that no remaining trial needs, for the object store to drop.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delete_study(&self, study: i64) -> Result<Vec<String>> {
        // ended first: then nothing is enqueued or leased while we wait for the trials' locks
        match self.cancel_study(study).await {
            Ok(()) | Err(StoreError::WrongState { .. }) => {}
            Err(e) => return Err(e),
        }
        let mut transaction = self.pool.begin().await?;
        sqlx::query("select id from trials where study_id = $1 order by id for update")
            .bind(study)
            .execute(&mut *transaction)
            .await?;
        let orphans: Vec<String> = sqlx::query_scalar(
            "select distinct a.sha256
            from artifacts a join trials t on t.id = a.trial_id
            where t.study_id = $1 and not exists (
                select 1 from artifacts b join trials u on u.id = b.trial_id
                where b.sha256 = a.sha256 and u.study_id <> $1
            )
            order by a.sha256",
        )
        .bind(study)
        .fetch_all(&mut *transaction)
        .await?;
        let deleted = sqlx::query("delete from studies where id = $1")
            .bind(study)
            .execute(&mut *transaction)
            .await?;
        if deleted.rows_affected() == 0 {
            return Err(StoreError::no_study(study));
        }
        sqlx::query(
            "select pg_notify('parsimony', json_build_object('type', 'deleted', 'study', $1::bigint)::text)",
        )
        .bind(study)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(orphans)
    }

    /// Two transactions. After the first, nothing is enqueued or leased, so the second meets every trial that waits or
    /// runs; doing both in one would need the study's lock before the trials', against the order everyone keeps.
    async fn end_study(
        &self,
        study: i64,
        state: StudyState,
        action: &'static str,
        reason: Option<&str>,
    ) -> Result<()> {
        let mut transaction = self.pool.begin().await?;
        let lock = StudyLock::take(&mut transaction, study).await?;
        if lock.state.is_over() && lock.state != state {
            return Err(wrong_study(&lock, action, "it is over already"));
        }
        set_state(transaction, lock, state, reason).await?;

        let mut transaction = self.pool.begin().await?;
        let pending = pending(&mut transaction, study).await?;
        if pending.is_empty() {
            return Ok(());
        }
        let mut lock = StudyLock::take(&mut transaction, study).await?;
        if !lock.state.is_over() {
            return Ok(()); // resumed in between: its trials are wanted again
        }
        for (held, state) in &pending {
            // a study that has what it wanted has seen enough of those that rest
            let stop_as = if *state == TrialState::Paused && lock.state == StudyState::Finished {
                TrialState::Pruned
            } else {
                TrialState::Cancelled
            };
            stop(&mut transaction, &mut lock, held, *state, stop_as).await?;
        }
        lock.commit(transaction).await?;
        Ok(())
    }

    async fn stop_trial(&self, trial: i64, stop_as: TrialState) -> Result<TrialState> {
        let mut transaction = self.pool.begin().await?;
        let row = sqlx::query(
            "select id, study_id, attempt, max_attempts, stop_as, target, state from trials where id = $1
            for no key update",
        )
        .bind(trial)
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| StoreError::no_trial(trial))?;
        let state = row::state(&row)?;
        if state.is_final() {
            return Err(wrong_trial(trial, state, "stopped", "it is over already"));
        }
        let held = Held::from_row(&row)?;
        let mut lock = StudyLock::take(&mut transaction, held.study_id).await?;
        let state = stop(&mut transaction, &mut lock, &held, state, stop_as).await?;
        lock.commit(transaction).await?;
        Ok(state)
    }
}

/// Locks the study's trials that wait, run or rest.
async fn pending(connection: &mut PgConnection, study: i64) -> Result<Vec<(Held, TrialState)>> {
    let rows = sqlx::query(
        "select id, study_id, attempt, max_attempts, stop_as, target, state from trials
        where study_id = $1 and state in ('queued', 'running', 'paused')
        order by id
        for no key update",
    )
    .bind(study)
    .fetch_all(connection)
    .await?;
    let read = |row| Ok((Held::from_row(row)?, row::state(row)?));
    rows.iter().map(read).collect()
}

/// Ends a locked trial that waits or rests, asks one that runs to stop. Returns its state.
async fn stop(
    connection: &mut PgConnection,
    lock: &mut StudyLock,
    held: &Held,
    state: TrialState,
    stop_as: TrialState,
) -> Result<TrialState> {
    if state != TrialState::Running {
        finish::end(connection, lock, held, stop_as, None).await?;
        return Ok(stop_as);
    }
    sqlx::query("update trials set stop_as = $2, revision = $3 where id = $1")
        .bind(held.id)
        .bind(stop_as.label())
        .bind(lock.revisions(1))
        .execute(connection)
        .await?;
    Ok(state)
}

/// Puts failed trials, whose rows are locked, back into the queue.
async fn retry(mut transaction: PgTransaction<'_>, study: i64, trials: &[i64]) -> Result<()> {
    let mut lock = StudyLock::take(&mut transaction, study).await?;
    if lock.state == StudyState::Cancelled {
        return Err(wrong_study(&lock, "retried", "clone it to search on"));
    }
    if trials.is_empty() {
        return Ok(());
    }
    for trial in trials {
        sqlx::query(
            "update trials
            set state = 'queued', max_attempts = attempt + 3, lease_token = null, not_before = now(),
                finished_at = null, revision = $2
            where id = $1",
        )
        .bind(trial)
        .bind(lock.revisions(1))
        .execute(&mut *transaction)
        .await?;
    }
    wake_workers(&mut transaction).await?;
    if lock.state.is_over() {
        return set_state(transaction, lock, StudyState::Running, None).await;
    }
    lock.commit(transaction).await?;
    Ok(())
}

/// Gives a locked study its state and commits.
async fn set_state(
    mut transaction: PgTransaction<'_>,
    mut lock: StudyLock,
    state: StudyState,
    error: Option<&str>,
) -> Result<()> {
    if lock.state == state && error.is_none() {
        return Ok(());
    }
    sqlx::query(
        "update studies
        set state = $2, error = $3, finished_at = case when $4 then coalesce(finished_at, now()) end
        where id = $1",
    )
    .bind(lock.id)
    .bind(state.label())
    .bind(error.map(row::clean))
    .bind(state.is_over())
    .execute(&mut *transaction)
    .await?;
    lock.revisions(1);
    lock.commit(transaction).await?;
    Ok(())
}

fn wrong_study(lock: &StudyLock, action: &'static str, remedy: &'static str) -> StoreError {
    StoreError::WrongState {
        what: format!("study '{}'", lock.name),
        state: lock.state.label(),
        action,
        remedy,
    }
}

fn wrong_trial(trial: i64, state: TrialState, action: &'static str, remedy: &'static str) -> StoreError {
    StoreError::WrongState {
        what: format!("trial {trial}"),
        state: state.label(),
        action,
        remedy,
    }
}

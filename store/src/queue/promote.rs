//! Trials that rest at a part of their training: sent on, and their checkpoints dropped once nobody needs them.

use spaces::protocol::TrialState;
use sqlx::Row;

use super::Snapshot;
use crate::{
    Artifact, Result, Store, StoreError,
    lock::{StudyLock, wake_workers},
    row,
};

impl Store {
    /// Sends a resting trial on to a larger part of its training: it waits for a worker again, at no cost of an attempt.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::WrongState`] where the trial does not rest or its study is over;
    /// [`StoreError::Invalid`] for a part that is no larger.
    pub async fn promote_trial(&self, trial: i64, target: f64, snapshot: &Snapshot) -> Result<()> {
        let mut transaction = self.pool.begin().await?;
        let row = sqlx::query("select study_id, state, reached from trials where id = $1 for no key update")
            .bind(trial)
            .fetch_optional(&mut *transaction)
            .await?
            .ok_or_else(|| StoreError::no_trial(trial))?;
        let (state, reached): (_, f64) = (row::state(&row)?, row.try_get("reached")?);
        let mut lock = StudyLock::take(&mut transaction, row.try_get("study_id")?).await?;
        if let Err(refusal) = promotable(trial, state, lock.state.is_over(), reached, target) {
            // now, not when the connection is next used: until then a worker that asks would pass the trial by
            transaction.rollback().await?;
            return Err(refusal);
        }
        // a finish that is sent again must not be taken for one of the next attempt: the token goes
        sqlx::query(
            "update trials
            set state = 'queued', target = $2, max_attempts = max_attempts + 1, lease_token = null, not_before = now(),
                revision = $3
            where id = $1",
        )
        .bind(trial)
        .bind(target)
        .bind(lock.revisions(1))
        .execute(&mut *transaction)
        .await?;
        sqlx::query("insert into promotions (trial_id, target, snapshot) values ($1, $2, $3::json)")
            .bind(trial)
            .bind(target)
            .bind(row::to_json(snapshot))
            .execute(&mut *transaction)
            .await?;
        wake_workers(&mut transaction).await?;
        lock.commit(transaction).await?;
        Ok(())
    }

    /// The files from which a trial's training goes on; none for one that starts anew.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn checkpoint(&self, trial: i64) -> Result<Vec<Artifact>> {
        Ok(sqlx::query_as(
            "select a.name, a.sha256, a.size_bytes
            from trials t join artifacts a on a.trial_id = t.id and a.attempt = t.checkpoint_attempt
            where t.id = $1
            order by a.position nulls last, a.name",
        )
        .bind(trial)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Drops the checkpoints of trials that are over. Returns the SHA-256 of the files that no trial needs any more, for
    /// the object store to drop. Call it now and then, while nobody writes files.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn drop_checkpoints(&self) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(
            "with over as (
                update trials set checkpoint_attempt = null
                where checkpoint_attempt is not null and finished_at is not null
                returning id
            ), dropped as (
                delete from artifacts a using over, finishes f
                where a.trial_id = over.id and f.trial_id = a.trial_id and f.attempt = a.attempt and f.state = 'paused'
                returning a.trial_id, a.attempt, a.name, a.sha256
            )
            select distinct sha256 from dropped d
            where not exists (
                select 1 from artifacts b
                where b.sha256 = d.sha256
                    and (b.trial_id, b.attempt, b.name) not in (select trial_id, attempt, name from dropped)
            )
            order by sha256",
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

/// Whether a trial that has reached a part of its training can be sent on to a larger one.
fn promotable(trial: i64, state: TrialState, is_over: bool, reached: f64, target: f64) -> Result<()> {
    if state != TrialState::Paused || is_over {
        return Err(StoreError::WrongState {
            what: format!("trial {trial}"),
            state: state.label(),
            action: "trained on",
            remedy: "only a paused trial of a running study can be",
        });
    }
    if !(target > reached && target <= 1.0) {
        return Err(StoreError::Invalid(format!(
            "trial {trial} has reached {reached} of its training and cannot be sent to {target}; give more, up to 1"
        )));
    }
    Ok(())
}

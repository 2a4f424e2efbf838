//! The study's row lock, under which revisions and finish orders are handed out.

use sqlx::{PgConnection, PgTransaction};

use crate::{Result, StoreError, StudyState};

/// The study's counters, locked until commit: whoever holds this is alone in changing the study or its trials.
pub(crate) struct StudyLock {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) state: StudyState,
    revision: i64,
    trial_count: i32,
    finished_count: i32,
}

impl StudyLock {
    /// Waits for the lock. Trials that the transaction changes are locked before, never after.
    pub(crate) async fn take(connection: &mut PgConnection, study: i64) -> Result<StudyLock> {
        let row: Option<(String, String, i64, i32, i32)> = sqlx::query_as(
            "select name, state, revision, trial_count, finished_count from studies where id = $1 for no key update",
        )
        .bind(study)
        .fetch_optional(connection)
        .await?;
        let (name, state, revision, trial_count, finished_count) =
            row.ok_or_else(|| StoreError::no_study(study))?;
        Ok(StudyLock {
            id: study,
            name,
            state: StudyState::from_label(&state).expect("a check constraint allows only these labels"),
            revision,
            trial_count,
            finished_count,
        })
    }

    /// Hands out `n` revisions: the given one and those after it.
    pub(crate) fn revisions(&mut self, n: usize) -> i64 {
        let first = self.revision + 1;
        self.revision += n as i64;
        first
    }

    /// Hands out `n` places in the order of finishes: the given one and those after it.
    pub(crate) fn finishes(&mut self, n: usize) -> i32 {
        let first = self.finished_count;
        self.finished_count += n as i32;
        first
    }

    /// Hands out `n` trial numbers: the given one and those after it.
    pub(crate) fn numbers(&mut self, n: usize) -> i32 {
        let first = self.trial_count;
        self.trial_count += n as i32;
        first
    }

    /// Writes the counters, tells the listeners and commits. Returns the study's revision.
    pub(crate) async fn commit(self, mut transaction: PgTransaction<'_>) -> Result<i64> {
        sqlx::query(
            "with changed as (
                update studies
                set revision = $2, trial_count = $3, finished_count = $4, changed_at = now()
                where id = $1
                returning id, revision
            )
            select pg_notify('parsimony', json_build_object('type', 'changed', 'study', id, 'revision', revision)::text)
            from changed",
        )
        .bind(self.id)
        .bind(self.revision)
        .bind(self.trial_count)
        .bind(self.finished_count)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(self.revision)
    }
}

/// Wakes whoever waits for a trial, once the transaction commits.
pub(crate) async fn wake_workers(connection: &mut PgConnection) -> Result<()> {
    sqlx::query("select pg_notify('parsimony', '{\"type\":\"queued\"}')")
        .execute(connection)
        .await?;
    Ok(())
}

//! How a trial ends, and what happens to one whose worker went silent.

use std::collections::BTreeSet;

use spaces::protocol::{Evaluation, FailureKind, Outcome, TrialState};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Held, append_measurements, hold};
use crate::{
    Result, Store, StoreError,
    lock::{StudyLock, wake_workers},
    row, workers,
};

impl Held {
    /// The state of a trial that was stopped: what was asked for, or else cancelled.
    pub(crate) fn stopped_state(&self) -> TrialState {
        match self.stop_as.as_deref() {
            Some("pruned") => TrialState::Pruned,
            _ => TrialState::Cancelled,
        }
    }
}

impl Store {
    /// Ends an attempt: final values, state and place in the order of finishes in one transaction.
    ///
    /// A trial that was trained to a part of its full length rests then.
    /// A failure worth another attempt puts the trial back into the queue while it has attempts left. Returns the trial's
    /// state. The same finish again returns it too, so a worker may repeat one whose answer was lost.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`]; [`StoreError::Invalid`] for results that cannot be kept; nothing is written then.
    pub async fn finish(&self, trial: i64, lease: Uuid, outcome: &Outcome) -> Result<TrialState> {
        let mut transaction = self.pool.begin().await?;
        let first = lock_repeated(&mut transaction, trial).await?;
        let held = match hold(&mut transaction, trial, lease).await {
            Err(StoreError::LeaseLost { .. }) => {
                return finished_before(&mut transaction, trial, lease).await;
            }
            held => held?,
        };
        let mut lock = StudyLock::take(&mut transaction, held.study_id).await?;
        let state = match outcome {
            Outcome::Done(evaluation) => {
                keep(&mut transaction, &held, evaluation).await?;
                if held.target < 1.0 && held.stop_as.is_none() && !lock.state.is_over() {
                    rest(&mut transaction, &mut lock, &held).await?;
                    TrialState::Paused
                } else {
                    let state = if held.target < 1.0 {
                        held.stopped_state()
                    } else {
                        TrialState::Done
                    };
                    end(&mut transaction, &mut lock, &held, state, None).await?;
                    if let (Some(first), TrialState::Done) = (first, state) {
                        average(&mut transaction, &mut lock, first).await?;
                    }
                    state
                }
            }
            Outcome::Failed { kind, message } => {
                fail(&mut transaction, &mut lock, &held, *kind, message).await?
            }
            Outcome::Cancelled => {
                let state = held.stopped_state();
                end(&mut transaction, &mut lock, &held, state, None).await?;
                state
            }
        };
        lock.commit(transaction).await?;
        Ok(state)
    }

    /// Takes trials from workers that went silent; each costs an attempt. Returns how many. Call it every few seconds.
    /// Workers that were not heard of for a week are forgotten on the way.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn reap(&self) -> Result<u32> {
        workers::forget(&self.pool).await?;
        let mut reaped = 0;
        loop {
            let mut transaction = self.pool.begin().await?;
            let expired: Option<Held> = sqlx::query_as(
                "select id, study_id, attempt, max_attempts, stop_as, target from trials
                where state = 'running' and lease_until < now()
                order by id
                limit 1
                for no key update skip locked",
            )
            .fetch_optional(&mut *transaction)
            .await?;
            let Some(held) = expired else { return Ok(reaped) };
            let mut lock = StudyLock::take(&mut transaction, held.study_id).await?;
            let message = "its worker sent no heartbeat until the lease ran out";
            fail(&mut transaction, &mut lock, &held, FailureKind::Lost, message).await?;
            lock.commit(transaction).await?;
            reaped += 1;
        }
    }
}

/// Locks the trial that this one repeats, whose means change with its end, and gives its id: before this one, since that id is
/// lower.
async fn lock_repeated(connection: &mut PgConnection, trial: i64) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar(
        "select first.id from trials first join trials t on first.study_id = t.study_id and first.number = t.repeats
        where t.id = $1
        for no key update of first",
    )
    .bind(trial)
    .fetch_optional(connection)
    .await?)
}

/// Averages the final values of all trainings of a configuration, for the trial that was the first.
async fn average(connection: &mut PgConnection, lock: &mut StudyLock, first: i64) -> Result<()> {
    sqlx::query(
        "update trials first
        set revision = $2, means = (
            select json_object_agg(metric, json_build_object('value', mean, 'spread', spread, 'trainings', trainings))
            from (
                select m.metric, avg(m.value order by t.number) as mean, (percentile_cont(0.75) within group (order by m.value)
                        - percentile_cont(0.25) within group (order by m.value)) / 2 as spread,
                    count(*) as trainings
                from trials t join measurements m on m.trial_id = t.id and m.attempt = t.attempt and m.is_final
                where t.study_id = first.study_id and (t.id = first.id or t.repeats = first.number) and t.state = 'done'
                group by m.metric
            ) each
        )
        where id = $1",
    )
    .bind(first)
    .bind(lock.revisions(1))
    .execute(connection)
    .await?;
    Ok(())
}

/// The state of a trial that this very lease has ended already.
async fn finished_before(connection: &mut PgConnection, trial: i64, lease: Uuid) -> Result<TrialState> {
    let row = sqlx::query(
        "select state from trials where id = $1 and lease_token = $2 and state not in ('queued', 'running')",
    )
    .bind(trial)
    .bind(lease)
    .fetch_optional(connection)
    .await?
    .ok_or(StoreError::LeaseLost { trial })?;
    Ok(row::state(&row)?)
}

/// Keeps the results of an attempt that is done.
async fn keep(connection: &mut PgConnection, held: &Held, evaluation: &Evaluation) -> Result<()> {
    let mut metrics = BTreeSet::new();
    if let Some(twice) = evaluation
        .measurements
        .iter()
        .find(|m| !metrics.insert(&m.metric))
    {
        return Err(StoreError::Invalid(format!(
            "the results of trial {} name the metric '{}' twice; send one final value of each",
            held.id, twice.metric
        )));
    }
    append_measurements(connection, held, true, &evaluation.measurements).await?;
    for (position, name) in (0i32..).zip(&evaluation.artifacts) {
        let placed = sqlx::query(
            "update artifacts set position = $4 where trial_id = $1 and attempt = $2 and name = $3",
        )
        .bind(held.id)
        .bind(held.attempt)
        .bind(row::clean(name))
        .bind(position)
        .execute(&mut *connection)
        .await?;
        if placed.rows_affected() == 0 {
            return Err(StoreError::Invalid(format!(
                "the results of trial {} name the file '{name}', which was not uploaded; upload it first",
                held.id
            )));
        }
    }
    let wall_s = Some(evaluation.wall_s).filter(|s| s.is_finite());
    sqlx::query("update trials set activity = $2::json, provenance = $3::json, wall_s = $4 where id = $1")
        .bind(held.id)
        .bind(row::to_json(&evaluation.activity))
        .bind(row::to_json(&evaluation.provenance))
        .bind(wall_s)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends the attempt with an error: back to the queue if another attempt can help, otherwise for good.
async fn fail(
    connection: &mut PgConnection,
    lock: &mut StudyLock,
    held: &Held,
    kind: FailureKind,
    message: &str,
) -> Result<TrialState> {
    if held.stop_as.is_some() || lock.state.is_over() {
        let state = held.stopped_state();
        end(connection, lock, held, state, None).await?;
        return Ok(state);
    }
    if !kind.is_worth_a_retry() || held.attempt >= held.max_attempts {
        end(connection, lock, held, TrialState::Failed, Some((kind, message))).await?;
        return Ok(TrialState::Failed);
    }
    // 10 s, 20 s, 40 s ... at most 10 min: what broke the attempt may need time to mend
    sqlx::query(
        "update trials
        set state = 'queued', lease_token = null, lease_until = null, progress = null,
            not_before = now() + least(interval '10 seconds' * power(2, least($2, 7) - 1), interval '10 minutes'),
            failure_kind = $3, failure_message = $4, revision = $5
        where id = $1",
    )
    .bind(held.id)
    .bind(held.attempt)
    .bind(kind.label())
    .bind(row::clean(message))
    .bind(lock.revisions(1))
    .execute(&mut *connection)
    .await?;
    wake_workers(connection).await?;
    Ok(TrialState::Queued)
}

/// Ends the trial in a final state.
pub(crate) async fn end(
    connection: &mut PgConnection,
    lock: &mut StudyLock,
    held: &Held,
    state: TrialState,
    failure: Option<(FailureKind, &str)>,
) -> Result<()> {
    // the token stays, so that the same finish again is recognised; the state alone makes it worthless
    sqlx::query(
        "update trials
        set state = $2, failure_kind = $3, failure_message = $4, finished_at = now(), lease_until = null,
            stop_as = null, progress = null, revision = $5, reached = case when $2 = 'done' then 1 else reached end
        where id = $1",
    )
    .bind(held.id)
    .bind(state.label())
    .bind(failure.map(|(kind, _)| kind.label()))
    .bind(failure.map(|(_, message)| row::clean(message)))
    .bind(lock.revisions(1))
    .execute(&mut *connection)
    .await?;
    append(connection, lock, (held.id, held.attempt), state.label(), 1.0).await
}

/// Lets a trial rest at a part of its training; its files are the training's state.
async fn rest(connection: &mut PgConnection, lock: &mut StudyLock, held: &Held) -> Result<()> {
    sqlx::query(
        "update trials
        set state = 'paused', failure_kind = null, failure_message = null, lease_until = null, progress = null,
            reached = target, checkpoint_attempt = attempt, revision = $2
        where id = $1",
    )
    .bind(held.id)
    .bind(lock.revisions(1))
    .execute(&mut *connection)
    .await?;
    append(connection, lock, (held.id, held.attempt), "paused", held.target).await
}

/// Gives an attempt that ended its place in the order of finishes.
pub(super) async fn append(
    connection: &mut PgConnection,
    lock: &mut StudyLock,
    (trial, attempt): (i64, i32),
    state: &str,
    fidelity: f64,
) -> Result<()> {
    sqlx::query(
        "insert into finishes (study_id, finish_order, trial_id, attempt, state, fidelity)
        values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(lock.id)
    .bind(lock.finishes(1))
    .bind(trial)
    .bind(attempt)
    .bind(state)
    .bind(fidelity)
    .execute(connection)
    .await?;
    Ok(())
}

//! Who has been seen working; for display only.

use serde::Serialize;
use sqlx::{FromRow, PgConnection, PgPool};
use time::OffsetDateTime;

use crate::{Result, Store, row};

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize, FromRow)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// What it computes on.
    pub device: String,
    /// When it first asked for a trial.
    #[serde(with = "time::serde::rfc3339")]
    pub first_seen: OffsetDateTime,
    /// When it was last heard of.
    #[serde(with = "time::serde::rfc3339")]
    pub last_seen: OffsetDateTime,
    /// The trial it works on.
    pub trial: Option<i64>,
    /// That trial's number.
    pub trial_number: Option<i32>,
    /// That trial's study.
    pub study: Option<String>,
}

impl Store {
    /// The workers heard of in the last week, the last heard of first.
    ///
    /// # Errors
    /// [`crate::StoreError::Database`].
    pub async fn workers(&self) -> Result<Vec<Worker>> {
        Ok(sqlx::query_as(
            "select w.name, w.device, w.first_seen, w.last_seen,
                t.id as trial, t.number as trial_number, s.name as study
            from workers w
            left join trials t on t.id = w.trial_id and t.state = 'running' and t.worker = w.name
            left join studies s on s.id = t.study_id
            order by w.last_seen desc, w.name",
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

/// Notes that a worker asked for a trial, and which it got.
pub(crate) async fn seen(
    connection: &mut PgConnection,
    name: &str,
    device: &str,
    trial: Option<i64>,
) -> Result<()> {
    sqlx::query(
        "insert into workers (name, device, trial_id) values ($1, $2, $3)
        on conflict (name) do update
            set device = excluded.device, trial_id = excluded.trial_id, last_seen = now()",
    )
    .bind(row::clean(name))
    .bind(row::clean(device))
    .bind(trial)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that the worker of a trial is alive.
pub(crate) async fn alive(connection: &mut PgConnection, trial: i64) -> Result<()> {
    sqlx::query("update workers w set last_seen = now() from trials t where t.id = $1 and w.name = t.worker")
        .bind(trial)
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets workers of old: each job of a cluster brings new names.
pub(crate) async fn forget(pool: &PgPool) -> Result<()> {
    sqlx::query("delete from workers where last_seen < now() - interval '7 days'")
        .execute(pool)
        .await?;
    Ok(())
}

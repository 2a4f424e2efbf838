//! Keys of the files that trials leave behind; the bytes are in the object store.

use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::{Result, Store, StoreError, queue::hold, row};

/// A file of a trial, addressed by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct Artifact {
    /// Its name in the bundle, such as `model.safetensors`.
    pub name: String,
    /// SHA-256 of its bytes, in lower-case hex.
    pub sha256: String,
    /// Its size in bytes.
    pub size_bytes: i64,
}

impl Store {
    /// Notes a file of the running attempt; the same name again replaces it. Upload the bytes before.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`]; [`StoreError::Invalid`] for an empty name or something that is not a SHA-256.
    pub async fn put_artifact(&self, trial: i64, lease: Uuid, artifact: &Artifact) -> Result<()> {
        let mut transaction = self.pool.begin().await?;
        let held = hold(&mut transaction, trial, lease).await?;
        sqlx::query(
            "insert into artifacts (trial_id, attempt, name, sha256, size_bytes) values ($1, $2, $3, $4, $5)
            on conflict (trial_id, attempt, name)
                do update set sha256 = excluded.sha256, size_bytes = excluded.size_bytes",
        )
        .bind(trial)
        .bind(held.attempt)
        .bind(row::clean(&artifact.name))
        .bind(row::clean(&artifact.sha256))
        .bind(artifact.size_bytes)
        .execute(&mut *transaction)
        .await
        .map_err(|e| match e.as_database_error().and_then(|e| e.constraint()) {
            Some("artifacts_name_given") => {
                StoreError::Invalid(format!("an artifact of trial {trial} has no name; give it one"))
            }
            Some("artifacts_sha256_form") => StoreError::Invalid(format!(
                "'{}' of artifact '{}' is not a SHA-256; send 64 lower-case hex digits",
                artifact.sha256, artifact.name
            )),
            Some("artifacts_size_positive") => StoreError::Invalid(format!(
                "the size {} of artifact '{}' is negative; send its bytes",
                artifact.size_bytes, artifact.name
            )),
            _ => e.into(),
        })?;
        transaction.commit().await?;
        Ok(())
    }

    /// Files of one attempt of a trial: those of the bundle in its order, then any others but results of stages.
    ///
    /// # Errors
    /// [`StoreError::Database`]; an unknown trial has none.
    pub async fn artifacts(&self, trial: i64, attempt: u32) -> Result<Vec<Artifact>> {
        Ok(sqlx::query_as(
            "select name, sha256, size_bytes from artifacts where trial_id = $1 and attempt = $2 and name not like 'stage.%'
            order by position nulls last, name",
        )
        .bind(trial)
        .bind(i64::from(attempt))
        .fetch_all(&self.pool)
        .await?)
    }

    /// The result of a stage of that name, whichever trial made it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn stage(&self, name: &str) -> Result<Option<Artifact>> {
        Ok(sqlx::query_as(
            "select name, sha256, size_bytes from artifacts where name = $1 and name like 'stage.%' limit 1",
        )
        .bind(row::clean(name))
        .fetch_optional(&self.pool)
        .await?)
    }
}

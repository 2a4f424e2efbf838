//! A model's files in a folder.

use std::{fs, path::Path};

use anyhow::Context;
use object_store::{ObjectStore, ObjectStoreExt};
use store::Store;

use super::{StagedFolder, unwritable};
use crate::errors::BadInput;

/// Writes the files of a trial's model; the folder appears whole or not at all.
///
/// # Errors
/// A trial that left no model; a folder that cannot be written.
pub(crate) async fn write_bundle(
    store: &Store,
    objects: &dyn ObjectStore,
    trial: i64,
    attempt: u32,
    out: &Path,
) -> anyhow::Result<()> {
    let artifacts = store.artifacts(trial, attempt).await?;
    if artifacts.is_empty() {
        return Err(BadInput::error(format!(
            "trial {trial} has left no model; choose a finished one with --pick trial:ID"
        )));
    }
    let staged = StagedFolder::beside(out)?;
    for artifact in artifacts {
        let bytes = objects
            .get(&web::object_path(&artifact.sha256))
            .await?
            .bytes()
            .await;
        let bytes =
            bytes.with_context(|| format!("file '{}' of trial {trial} cannot be read", artifact.name))?;
        fs::write(staged.path().join(&artifact.name), bytes).with_context(|| unwritable(out))?;
    }
    staged.appear()
}

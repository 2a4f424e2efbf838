//! A model's files in a folder.

use std::{fs, path::Path};

use anyhow::Context;
use object_store::{ObjectStore, ObjectStoreExt};
use store::Store;

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
    let unwritable = || {
        format!(
            "'{}' cannot be written; free space or choose another --out",
            out.display()
        )
    };
    let out = std::path::absolute(out)?;
    let parent = out.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).with_context(unwritable)?;
    let part = tempfile::Builder::new()
        .prefix(".parsimony-")
        .tempdir_in(parent)
        .with_context(unwritable)?;
    for artifact in artifacts {
        let bytes = objects
            .get(&web::object_path(&artifact.sha256))
            .await?
            .bytes()
            .await;
        let bytes =
            bytes.with_context(|| format!("file '{}' of trial {trial} cannot be read", artifact.name))?;
        fs::write(part.path().join(&artifact.name), bytes).with_context(unwritable)?;
    }
    if out.exists() {
        fs::remove_dir(&out).with_context(unwritable)?;
    }
    let part = part.keep();
    // temporary folders are closed to others; a model is not
    fs::set_permissions(&part, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .with_context(unwritable)?;
    fs::rename(&part, &out).with_context(unwritable)
}

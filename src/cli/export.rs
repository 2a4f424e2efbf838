//! `parsimony export`: the chosen model as a folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use object_store::{ObjectStore, ObjectStoreExt};
use search::Rule;
use store::Store;

use super::{block_on, front::limits};
use crate::{
    admission::catalog,
    errors::BadInput,
    output::{load, say, write_json},
    server::{Database, objects},
    settings::Global,
};

/// Writes the chosen model of a study into a folder
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  parsimony export demo --pick knee --out model\n  parsimony export demo --pick min:validation_loss --where 'model_bytes<=200 KiB' --out model\n  parsimony export demo --pick trial:17 --out model"
)]
pub(crate) struct Export {
    /// Name or id of the study
    study: String,
    /// knee, trial:ID, min:METRIC or max:METRIC
    #[arg(long, default_value = "knee", value_name = "RULE")]
    pick: String,
    /// Limit that the model must keep; may be given several times
    #[arg(long = "where", value_name = "METRIC<=VALUE")]
    limits: Vec<String>,
    /// Folder to make; must not exist or be empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Export {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let rule = Rule::parse(&self.pick).map_err(|e| BadInput::error(format!("--pick: {e}")))?;
        let limits = limits(&self.limits)?;
        check_free(&self.out)?;
        block_on(async {
            let database = Database::open(global).await?;
            let exported = async {
                let results = load(&database.store, &self.study, &catalog()).await?;
                let chosen = results.recommend(&rule, &limits)?;
                write_bundle(
                    &database.store,
                    objects(global)?.as_ref(),
                    chosen.trial.id,
                    chosen.trial.attempt,
                    &self.out,
                )
                .await?;
                anyhow::Ok(chosen)
            };
            let exported = exported.await;
            database.close().await;
            let chosen = exported?;
            if self.json {
                return write_json(&serde_json::json!({
                    "study": chosen.study,
                    "trial": chosen.trial.id,
                    "rule": chosen.rule,
                    "reason": chosen.reason,
                    "out": self.out,
                    "metrics": chosen.trial.metrics,
                }));
            }
            say(&chosen.reason);
            say(format!(
                "written to {}; try `parsimony generate {} --prompt \"The\"`",
                self.out.display(),
                self.out.display()
            ));
            Ok(())
        })
    }
}

/// Refuses a folder that holds something.
pub(super) fn check_free(dir: &Path) -> anyhow::Result<()> {
    match fs::read_dir(dir).map(Iterator::count) {
        Ok(0) => Ok(()),
        Ok(_) => Err(BadInput::error(format!(
            "'{}' is not empty; choose another --out or empty it",
            dir.display()
        ))),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => Err(BadInput::error(format!(
            "'{}' is a file; choose another --out",
            dir.display()
        ))),
        Err(_) => Ok(()),
    }
}

/// Writes the files of a trial's model; the folder appears whole or not at all.
pub(super) async fn write_bundle(
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

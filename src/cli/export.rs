//! `parsimony export`: the chosen model as a folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use search::Rule;

use super::{block_on, front::limits};
use crate::{
    admission::catalog,
    errors::BadInput,
    output::{load, say, write_bundle, write_json},
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

//! `parsimony replay`: whether a study's proposals come out once more as they did.

use std::{path::PathBuf, sync::Arc};

use anyhow::bail;
use clap::Args;

use super::block_on;
use crate::{
    admission::{Inspector, catalog},
    controller::replay,
    files::ReadableData,
    output::{replay_bar, say, write_json},
    server::Database,
    settings::Global,
};

/// Draws a study's proposals again from what they were derived from, and says which differ
///
/// Each trial is kept with the results and the pending trials that its proposal was derived from, so the search can be
/// repeated without training anything, whatever the number of workers was. A difference means another version of the
/// search, or other data.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  parsimony replay demo")]
pub(crate) struct Replay {
    /// Name or id of the study
    study: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let everything = ReadableData::new(vec![PathBuf::from("/")], &global.data_dir());
        let inspector = Inspector::new(Arc::new(catalog()), everything);
        let replay = block_on(async {
            let database = Database::open(global).await?;
            let mut bar = replay_bar();
            let row = database.store.find_study(&self.study).await;
            let replay = match row {
                Ok(row) => {
                    replay::replay(&database.store, &inspector, &row, |n, of| {
                        bar.set(n as u64, of as u64, "")
                    })
                    .await
                }
                Err(error) => Err(error.into()),
            };
            database.close().await;
            replay
        })?;
        let differing = replay.differing.len();
        if self.json {
            write_json(&replay)?;
        } else {
            for each in &replay.differing {
                let tried = serde_json::to_string(&each.tried.values)?;
                let drawn = match &each.drawn {
                    Ok(candidate) => serde_json::to_string(&candidate.values)?,
                    Err(reason) => reason.clone(),
                };
                say(format!("trial {}: tried {tried}, now {drawn}", each.number));
            }
            say(format!(
                "{} of {} proposals are the same, drawn beside up to {} pending trials",
                replay.drawn as usize - differing,
                replay.drawn,
                replay.most_pending
            ));
        }
        if differing > 0 {
            bail!("{differing} of {} proposals differ", replay.drawn);
        }
        Ok(())
    }
}

//! `parsimony measure`: one configuration through the whole pipeline, without a search.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use evaluator::device::DeviceChoice;
use spaces::{
    protocol::{Evaluation, FailureKind},
    study::config_from_toml,
};

use super::{block_on, export::check_free};
use crate::{
    errors::{BadInput, spec_errors},
    files::{make_absolute, read_text},
    output::{StagedFolder, measured_json, metrics_table, say, trial_bar, unwritable, write_json},
    settings::Global,
    worker::{TrialEvent, TrialJob, TrialProcess},
};

/// Trains, compresses and measures one configuration
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  parsimony measure config.toml --out model\n\nA configuration file is a study file with only [data], [base], [teacher] and [fixed]."
)]
pub(crate) struct Measure {
    /// Configuration file
    config: PathBuf,
    /// Folder for the exported model; must not exist or be empty
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seed of weights and batches
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, env = "PARSIMONY_DEVICE", default_value = "auto", value_parser = clap::value_parser!(DeviceChoice))]
    device: DeviceChoice,
    /// Threads; 0 for all cores
    #[arg(long, env = "PARSIMONY_THREADS", default_value_t = 0)]
    threads: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Measure {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let text = read_text(&self.config)?;
        let name = self.config.display().to_string();
        let catalog = evaluator::catalog();
        let mut config = config_from_toml(&text, &catalog).map_err(|e| spec_errors(&name, &e))?;
        make_absolute(
            &mut config.data,
            [config.base.as_mut(), config.teacher.as_mut()],
            &self.config,
        )?;
        if let Some(out) = &self.out {
            check_free(out)?;
        }
        self.device.find().map_err(BadInput::error)?;
        let parent = global.data_dir().join("work");
        fs::create_dir_all(&parent)
            .with_context(|| format!("'{}' cannot be made; choose another --data-dir", parent.display()))?;
        // by content, so that an interrupted measurement of the same configuration goes on
        let identity = spaces::fingerprint(&serde_json::to_vec(&(&config, self.seed))?);
        let work_dir = parent.join(format!("measure-{identity}"));
        let job = TrialJob {
            config: config.clone(),
            seed: self.seed,
            work_dir: work_dir.clone(),
            target: 1.0,
            data_folders: None,
            fingerprint: None,
            device: self.device.to_string(),
            // what is asked to be measured is not looked up
            stages: None,
            labels: Default::default(),
        };
        let evaluation = block_on(follow(&job, self.threads, &name))?;
        if let Some(out) = &self.out {
            move_folder(&work_dir.join("bundle"), out)?;
        }
        fs::remove_dir_all(&work_dir)
            .with_context(|| format!("'{}' cannot be removed", work_dir.display()))?;
        if self.json {
            return write_json(&measured_json(&config, &evaluation));
        }
        say(metrics_table(&evaluation.measurements));
        let activity: Vec<String> = evaluation
            .activity
            .iter()
            .map(|(name, n)| format!("{name} {n}"))
            .collect();
        if !activity.is_empty() {
            say(format!("activity: {}", activity.join(", ")));
        }
        if let Some(out) = &self.out {
            say(format!("written to {}", out.display()));
        }
        Ok(())
    }
}

async fn follow(job: &TrialJob, threads: usize, name: &str) -> anyhow::Result<Evaluation> {
    let mut process = TrialProcess::start(job, threads).await?;
    let mut bar = trial_bar();
    loop {
        let event = tokio::select! {
            event = process.next() => event,
            () = super::interrupted() => {
                process.kill().await;
                anyhow::bail!("interrupted; the same command goes on from the last checkpoint");
            }
        };
        match event {
            Some(TrialEvent::Progress(progress)) => bar.progress(&progress),
            Some(TrialEvent::Report { measurements }) => bar.report(&measurements),
            // it is given no folder to look for them in
            Some(TrialEvent::StageWanted { .. } | TrialEvent::StageMade { .. }) => process.go_on().await,
            Some(TrialEvent::Done(evaluation)) => {
                bar.finish();
                return Ok(evaluation);
            }
            Some(TrialEvent::Failed {
                kind,
                message,
                bad_input,
            }) => {
                bar.finish();
                return Err(match kind {
                    FailureKind::NotANumber => anyhow::anyhow!(message),
                    FailureKind::Disk => BadInput::error(message),
                    _ if bad_input => BadInput::error(format!("{name}: {message}")),
                    _ => anyhow::anyhow!(message),
                });
            }
            None => {
                bar.finish();
                return Err(match process.ending().await {
                    crate::worker::Ending::Killed => {
                        anyhow::anyhow!("the process was killed by the system, most likely for memory")
                    }
                    crate::worker::Ending::Crashed(message) => anyhow::anyhow!(message),
                });
            }
        }
    }
}

/// Moves a folder, with copies where the target is on another file system.
fn move_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    let staged = StagedFolder::beside(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = staged.path().join(entry.file_name());
        // linked, so that nothing is lost should a later file fail
        if fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target).with_context(|| unwritable(to))?;
        }
    }
    staged.appear()
}

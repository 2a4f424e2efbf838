//! One leased trial, from its process's start to the server's receipt.

use std::{collections::BTreeMap, path::Path, time::Duration};

use spaces::{
    Measurement,
    protocol::{Evaluation, FailureKind, Finish, Heartbeat, LeasedTrial, Outcome, Progress, Report},
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    Client, TrialEvent, TrialJob, TrialProcess, WorkerSettings, client::ClientError, process::Ending,
};

/// Least time between two reports, so that a fast training does not flood the server.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What became of a trial's process.
enum End {
    Finished(Outcome),
    /// The server wants it no more: stopped by a person, or leased to another.
    Dropped,
    /// This worker is told to stop.
    Stopped,
}

/// Evaluates a trial and delivers its result.
///
/// # Errors
/// Where the trial's process cannot be started, or the server refuses this worker.
pub(super) async fn evaluate(
    client: &Client,
    settings: &WorkerSettings,
    leased: LeasedTrial,
    stop: &mut watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let (trial, lease) = (leased.trial, leased.lease.clone());
    // of the study too: ids of trials start again in a new database
    let work_dir = settings
        .work_dir
        .join(format!("{}-{}-{}", leased.study_name, leased.number, trial));
    let job = job(settings, &leased, &work_dir);
    match fetch(client, &leased, &work_dir).await {
        Ok(()) => {}
        Err(ClientError::LeaseLost) => {
            tracing::info!(trial, "the trial is dropped");
            return Ok(());
        }
        Err(error) => anyhow::bail!("the checkpoint of trial {trial} was not had: {error}"),
    }
    let process = TrialProcess::start(&job, settings.threads).await?;
    let end = follow(client, process, &leased, stop).await;
    let outcome = match end {
        End::Finished(outcome) => outcome,
        End::Dropped => {
            tracing::info!(trial, "the trial is dropped");
            remove(&work_dir);
            return Ok(());
        }
        End::Stopped => {
            // its checkpoint stays, for whoever of this machine leases it next
            if let Err(error) = client.release(trial, &lease).await {
                tracing::warn!(trial, %error, "the trial could not be given back; its lease will run out");
            }
            return Ok(());
        }
    };
    let keep = matches!(&outcome, Outcome::Failed { kind, .. } if kind.is_worth_a_retry());
    match deliver(client, &leased, &work_dir, outcome).await {
        Ok(()) => {}
        Err(ClientError::LeaseLost) => tracing::warn!(trial, "the result came too late and is dropped"),
        Err(error) => anyhow::bail!("the result of trial {trial} was not taken: {error}"),
    }
    if !keep {
        remove(&work_dir);
    }
    Ok(())
}

fn job(settings: &WorkerSettings, leased: &LeasedTrial, work_dir: &Path) -> TrialJob {
    let labels = BTreeMap::from([
        ("study".to_owned(), leased.study_name.clone()),
        ("trial".to_owned(), leased.trial.to_string()),
        ("number".to_owned(), leased.number.to_string()),
        ("attempt".to_owned(), leased.attempt.to_string()),
        ("worker".to_owned(), settings.name.clone()),
    ]);
    TrialJob {
        config: leased.config.clone(),
        seed: leased.seed,
        work_dir: work_dir.to_owned(),
        target: leased.target,
        data_folders: settings.readable.paths(),
        fingerprint: Some(leased.data_fingerprint.clone()),
        device: settings.device.to_string(),
        stages: settings.stages.clone(),
        labels,
    }
}

/// Follows the process to its end, telling the server how it goes.
async fn follow(
    client: &Client,
    mut process: TrialProcess,
    leased: &LeasedTrial,
    stop: &mut watch::Receiver<bool>,
) -> End {
    let mut told = Told {
        client,
        leased,
        unsent: vec![],
        progress: None,
    };
    let period = Duration::from_secs_f64((leased.lease_s / 3.0).clamp(0.5, 20.0));
    let mut heartbeat = interval_at(Instant::now() + period, period);
    let mut report = interval_at(Instant::now() + REPORT_EVERY, REPORT_EVERY);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    report.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let wanted = tokio::select! {
            event = process.next() => match event {
                Some(TrialEvent::Progress(progress)) => {
                    told.progress = Some(progress);
                    true
                }
                Some(TrialEvent::Report { measurements }) => {
                    told.unsent.extend(measurements);
                    true
                }
                Some(TrialEvent::StageWanted { key, file }) => {
                    let wanted = told.fetch_stage(&key, &file).await;
                    process.go_on().await;
                    wanted
                }
                Some(TrialEvent::StageMade { key, file }) => told.offer_stage(&key, &file).await,
                Some(TrialEvent::Done(evaluation)) => {
                    told.report().await;
                    return End::Finished(Outcome::Done(evaluation));
                }
                Some(TrialEvent::Failed { kind, message, .. }) => return End::Finished(Outcome::Failed { kind, message }),
                None => return End::Finished(unspoken(process.ending().await)),
            },
            _ = report.tick(), if !told.unsent.is_empty() => told.report().await,
            _ = heartbeat.tick() => told.heartbeat().await,
            _ = stop.wait_for(|stop| *stop) => {
                process.kill().await;
                return End::Stopped;
            }
        };
        if !wanted {
            process.kill().await;
            return End::Dropped;
        }
    }
}

fn unspoken(ending: Ending) -> Outcome {
    match ending {
        Ending::Killed => Outcome::Failed {
            kind: FailureKind::OutOfMemory,
            message: "the trial's process was killed by the system, most likely for memory; limit peak memory or model size".into(),
        },
        Ending::Crashed(message) => Outcome::Failed { kind: FailureKind::Crash, message },
    }
}

/// What the server has yet to hear of a trial.
struct Told<'a> {
    client: &'a Client,
    leased: &'a LeasedTrial,
    unsent: Vec<Measurement>,
    progress: Option<Progress>,
}

impl Told<'_> {
    /// Sends what is unsent; gives whether the server still wants the trial.
    async fn report(&mut self) -> bool {
        if self.unsent.is_empty() {
            return true;
        }
        let report = Report {
            lease: self.leased.lease.clone(),
            measurements: self.unsent.clone(),
            progress: self.progress.clone(),
        };
        match self.client.report(self.leased.trial, &report).await {
            Ok(answer) => {
                self.unsent.clear();
                !answer.cancel
            }
            Err(error) => self.survives(&error),
        }
    }

    async fn heartbeat(&self) -> bool {
        let heartbeat = Heartbeat {
            lease: self.leased.lease.clone(),
            progress: self.progress.clone(),
        };
        match self.client.heartbeat(self.leased.trial, &heartbeat).await {
            Ok(answer) => !answer.cancel,
            Err(error) => self.survives(&error),
        }
    }

    /// Has the server look for a stage's result that another worker made, and puts it into `file`; none is no failure.
    async fn fetch_stage(&self, key: &str, file: &Path) -> bool {
        let part = file.with_extension("download");
        let claim = (self.leased.trial, self.leased.lease.as_str());
        let had = match self.client.download_stage(claim, key, &part).await {
            Ok(true) => std::fs::rename(&part, file).is_ok(),
            Ok(false) => false,
            Err(error) => return self.survives(&error),
        };
        if !had {
            // nothing may have been written
            let _ = std::fs::remove_file(&part);
        }
        true
    }

    /// Lets other workers have a stage's result.
    async fn offer_stage(&self, key: &str, file: &Path) -> bool {
        let (trial, lease) = (self.leased.trial, &self.leased.lease);
        let name = spaces::protocol::stage_file(key);
        match self.client.upload(trial, lease, &name, file).await {
            Ok(()) => true,
            Err(error) => self.survives(&error),
        }
    }

    /// A server that is away will be back; only a lost lease ends the work.
    fn survives(&self, error: &ClientError) -> bool {
        tracing::warn!(trial = self.leased.trial, %error, "the server did not hear of the trial");
        !matches!(error, ClientError::LeaseLost)
    }
}

/// Downloads the state from which the training goes on, if there is one.
async fn fetch(client: &Client, leased: &LeasedTrial, work_dir: &Path) -> Result<(), ClientError> {
    let start = work_dir.join("start");
    for name in &leased.checkpoint {
        client
            .download(leased.trial, &leased.lease, name, &start.join(name))
            .await?;
    }
    Ok(())
}

/// Uploads the files and the result. While the server is away the lease may run out: then the result is not taken.
async fn deliver(
    client: &Client,
    leased: &LeasedTrial,
    work_dir: &Path,
    outcome: Outcome,
) -> Result<(), ClientError> {
    if let Outcome::Done(Evaluation { artifacts, .. }) = &outcome {
        // a part of a training leaves the state to go on from, a whole one the model
        let folder = work_dir.join(if leased.target < 1.0 { "state" } else { "bundle" });
        for name in artifacts {
            client
                .upload(leased.trial, &leased.lease, name, &folder.join(name))
                .await?;
        }
    }
    client
        .finish(
            leased.trial,
            &Finish {
                lease: leased.lease.clone(),
                outcome,
            },
        )
        .await
}

fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %dir.display(), %error, "a finished trial's folder stays");
    }
}

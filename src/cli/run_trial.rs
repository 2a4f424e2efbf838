//! `parsimony run-trial`: the process of one trial. Reads a job on stdin, writes events on stdout. Not for people.

use std::{
    io::{BufRead, Write},
    path::Path,
    sync::mpsc::{Receiver, channel},
};

use clap::Args;
use evaluator::{Events, Job, Shelf, data::DataAccess};
use spaces::{
    Measurement,
    protocol::{FailureKind, Progress},
};

use crate::{
    errors::BadInput,
    settings::Global,
    worker::{TrialEvent, TrialJob},
};

/// Evaluates one trial (used by workers)
#[derive(Debug, Args)]
pub(crate) struct RunTrial {}

/// Writes events as JSON lines, and hears the answers to those that want one.
struct Lines {
    answers: Receiver<()>,
}

impl Lines {
    fn write(event: &TrialEvent) {
        let mut line = serde_json::to_vec(event).expect("plain data serialises");
        line.push(b'\n');
        let mut stdout = std::io::stdout().lock();
        // a worker that has gone is noticed by the watcher
        let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
    }
}

impl Events for Lines {
    fn progress(&mut self, progress: Progress) {
        Lines::write(&TrialEvent::Progress(progress));
    }

    fn report(&mut self, measurements: Vec<Measurement>) {
        Lines::write(&TrialEvent::Report { measurements });
    }

    fn stage_wanted(&mut self, key: &str, file: &Path) {
        Lines::write(&TrialEvent::StageWanted {
            key: key.to_owned(),
            file: file.to_owned(),
        });
        // without an answer the process is about to end
        let _ = self.answers.recv();
    }

    fn stage_made(&mut self, key: &str, file: &Path) {
        Lines::write(&TrialEvent::StageMade {
            key: key.to_owned(),
            file: file.to_owned(),
        });
    }
}

impl RunTrial {
    pub(crate) fn run(self, _: &Global) -> anyhow::Result<()> {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        let job: TrialJob = serde_json::from_str(&line).map_err(|_| {
            BadInput::error("run-trial is started by workers; use `parsimony measure CONFIG.toml`")
        })?;
        // the end of the input means that the worker has died: a result would reach nobody
        let (told, answers) = channel();
        std::thread::spawn(move || {
            for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
                // the evaluation may have ended
                let _ = told.send(());
            }
            std::process::exit(3);
        });
        let job = Job {
            config: job.config,
            seed: job.seed,
            work_dir: job.work_dir,
            target: job.target,
            access: job
                .data_folders
                .map_or_else(DataAccess::anywhere, DataAccess::only),
            expected_fingerprint: job.fingerprint,
            device: job.device.parse().map_err(BadInput::error)?,
            stages: job.stages.map(|stages| Shelf {
                dir: stages.dir,
                limit_bytes: stages.limit_bytes,
            }),
            times: None,
            labels: job.labels,
        };
        Lines::write(&match evaluator::evaluate(&job, &mut Lines { answers }) {
            Ok(evaluation) => TrialEvent::Done(evaluation),
            Err(error) => TrialEvent::Failed {
                kind: error.kind().unwrap_or(FailureKind::Crash),
                bad_input: error.is_input(),
                message: error.to_string(),
            },
        });
        Ok(())
    }
}

//! `parsimony worker`: evaluates trials of a server.

use std::{io::Read, path::PathBuf};

use clap::Args;
use evaluator::device::DeviceChoice;
use tokio::sync::watch;

use super::block_on;
use crate::{
    errors::BadInput,
    files::ReadableData,
    settings::Global,
    worker::{self, Client, Stages, WorkerSettings},
};

/// Evaluates trials of a server, on this machine
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  PARSIMONY_TOKEN=psy_... parsimony worker --server http://lab:8080 --device cuda:0"
)]
pub(crate) struct Worker {
    /// Address of the server
    #[arg(long, env = "PARSIMONY_SERVER", value_name = "URL")]
    server: String,
    /// A token of role worker (`parsimony serve` prints one)
    #[arg(long, env = "PARSIMONY_TOKEN", hide_env_values = true)]
    token: String,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, env = "PARSIMONY_DEVICE", default_value = "auto", value_parser = clap::value_parser!(DeviceChoice))]
    device: DeviceChoice,
    /// Threads of a trial; 0 for all cores
    #[arg(long, env = "PARSIMONY_THREADS", default_value_t = 0)]
    threads: usize,
    /// Name shown to people; the machine's by default
    #[arg(long)]
    name: Option<String>,
    /// End when no trial waits
    #[arg(long)]
    once: bool,
    /// End after so many trials
    #[arg(long, value_name = "N")]
    max_trials: Option<u64>,
    /// Room for results of stages that trials share, such as "8 GiB"; 0 to make every stage of every trial
    #[arg(long, env = "PARSIMONY_STAGE_CACHE", value_name = "SIZE", default_value = "8 GiB", value_parser = bytes)]
    stage_cache: u64,
    /// Folder that trials may read; may be given several times; by default data/ below the data folder
    #[arg(long, value_name = "DIR")]
    data_folder: Vec<PathBuf>,
    /// End when stdin does (for the server that starts it)
    #[arg(long, hide = true)]
    with_parent: bool,
}

impl Worker {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = Client::new(&self.server, &self.token)?;
        let data_dir = global.data_dir();
        let work_dir = data_dir.join("work");
        std::fs::create_dir_all(&work_dir).map_err(|e| {
            BadInput::error(format!(
                "'{}' cannot be made: {e}; choose another --data-dir",
                work_dir.display()
            ))
        })?;
        let settings = WorkerSettings {
            name: self.name.unwrap_or_else(machine_name),
            device: self.device,
            threads: self.threads,
            max_trials: self.max_trials,
            once: self.once,
            work_dir,
            stages: (self.stage_cache > 0).then(|| Stages {
                dir: data_dir.join("stages"),
                limit_bytes: self.stage_cache,
            }),
            readable: ReadableData::new(self.data_folder, &data_dir),
        };
        let (stop, stopped) = watch::channel(false);
        if self.with_parent {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut rest = vec![];
                let _ = std::io::stdin().lock().read_to_end(&mut rest);
                stop.send_replace(true);
            });
        }
        block_on(async move {
            tokio::spawn(async move {
                super::interrupted().await;
                stop.send_replace(true);
            });
            worker::run(client, settings, stopped).await
        })
    }
}

/// Reads a size with its unit.
fn bytes(text: &str) -> Result<u64, String> {
    let bytes = spaces::quantity::parse(text, "B")?;
    if (0.0..=1e18).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err(format!("'{text}' is no size; use for example \"8 GiB\", or 0"))
    }
}

fn machine_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "worker".into(), |name| name.to_string_lossy().into_owned())
}

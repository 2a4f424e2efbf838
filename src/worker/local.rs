//! Local workers: child processes of a server, one for each device, started again when they die.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context;
use evaluator::device::{Device, DeviceChoice, gpus};
use tokio::{
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

use crate::server::Server;

/// Pause before a worker that died is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// Which local workers a server runs.
#[derive(Clone, Debug)]
pub(crate) struct LocalWorkers {
    pub(crate) device: DeviceChoice,
    /// Workers on the processor, which share its threads.
    pub(crate) workers: usize,
    pub(crate) data_dir: PathBuf,
    /// As given to the server.
    pub(crate) data_folders: Vec<PathBuf>,
    pub(crate) log: String,
}

/// Running local workers.
pub(crate) struct Supervised {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl LocalWorkers {
    /// Starts one worker for each device: every GPU where there are some, else the processor.
    pub(crate) async fn start(self, server: &Server) -> anyhow::Result<Supervised> {
        let devices: Vec<(DeviceChoice, usize)> = match (self.device, gpus()) {
            (DeviceChoice::Auto, Ok(gpus)) => gpus.iter().filter_map(choice).map(|c| (c, 0)).collect(),
            (DeviceChoice::Auto | DeviceChoice::Cpu, _) => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                let workers = self.workers.clamp(1, cores);
                vec![(DeviceChoice::Cpu, cores / workers); workers]
            }
            (cuda, _) => {
                cuda.find().map_err(crate::errors::BadInput::error)?;
                vec![(cuda, 0)]
            }
        };
        let token = server.worker_token().await?;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = vec![];
        for (i, (device, threads)) in devices.into_iter().enumerate() {
            let command = self.command(&server.url, &token, device, threads, i)?;
            tasks.push(tokio::spawn(supervise(command, stopped.clone())));
        }
        Ok(Supervised { stop, tasks })
    }

    fn command(
        &self,
        url: &str,
        token: &str,
        device: DeviceChoice,
        threads: usize,
        i: usize,
    ) -> anyhow::Result<Command> {
        let mut command =
            Command::new(std::env::current_exe().context("this program's own file cannot be found")?);
        command
            .arg("worker")
            .args(["--server", url, "--device", &device.to_string(), "--with-parent"]);
        command.args(["--name", &format!("local-{i}"), "--log", &self.log]);
        command
            .arg("--threads")
            .arg(threads.to_string())
            .arg("--data-dir")
            .arg(&self.data_dir);
        for folder in &self.data_folders {
            command.arg("--data-folder").arg(folder);
        }
        // not on the command line, which every user of the machine can read
        command.env("PARSIMONY_TOKEN", token).env_remove("DATABASE_URL");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }
}

fn choice(device: &Device) -> Option<DeviceChoice> {
    match device {
        Device::Cuda { index, .. } => Some(DeviceChoice::Cuda(*index)),
        Device::Cpu => None,
    }
}

async fn supervise(mut command: Command, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        match command.spawn() {
            Ok(mut child) => {
                // taken out, because waiting for the child would close it
                let input = child.stdin.take();
                let ended = tokio::select! {
                    status = child.wait() => Some(status),
                    () = told(&mut stop) => None,
                };
                match ended {
                    Some(status) => tracing::warn!(?status, "a local worker ended and is started again"),
                    None => {
                        drop(input);
                        return end(child).await;
                    }
                }
            }
            Err(error) => tracing::error!(%error, "a local worker cannot be started"),
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = told(&mut stop) => {}
        }
    }
}

async fn told(stop: &mut watch::Receiver<bool>) {
    // a sender that is gone is a reason to stop as well
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits for a worker whose input was closed, which tells it to give its trial back and end.
async fn end(mut child: Child) {
    let ended = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
    if ended.is_err() {
        // it may have ended just now
        let _ = child.kill().await;
    }
}

impl Supervised {
    /// Ends the workers; trials they work on are given back.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            // a task that panicked has killed its child by dropping it
            let _ = task.await;
        }
    }
}

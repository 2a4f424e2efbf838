//! The worker: leases trials from a server and evaluates each in a process of its own.
//!
//! It speaks HTTP to the server and sees neither the database nor other workers. What it cannot deliver while the
//! server is away it keeps and sends later; what the server no longer wants it drops.

mod client;
pub(crate) mod local;
mod messages;
mod process;
mod trial;

use std::{path::PathBuf, time::Duration};

use spaces::protocol::{LeaseRequest, PROTOCOL_VERSION};
use tokio::sync::watch;

pub(crate) use self::{
    client::Client,
    messages::{Stages, TrialEvent, TrialJob},
    process::{ALLOCATOR, Ending, TrialProcess},
};
use crate::files::ReadableData;

/// How long the server may hold a lease request open.
const WAIT: Duration = Duration::from_secs(20);

/// How a worker is run.
#[derive(Clone, Debug)]
pub(crate) struct WorkerSettings {
    /// For people.
    pub(crate) name: String,
    /// `auto`, `cpu` or `cuda:N`.
    pub(crate) device: evaluator::device::DeviceChoice,
    /// Threads of a trial; 0 for all cores.
    pub(crate) threads: usize,
    /// Ends after so many trials.
    pub(crate) max_trials: Option<u64>,
    /// Ends when no trial waits.
    pub(crate) once: bool,
    /// Holds checkpoints and exported models.
    pub(crate) work_dir: PathBuf,
    /// Where results of stages are kept for further trials; `None` to make every stage.
    pub(crate) stages: Option<Stages>,
    /// What trials may read.
    pub(crate) readable: ReadableData,
}

/// Works until told to stop, or to the end that the settings set. A trial that is cut off by `stop` is given back.
pub(crate) async fn run(
    client: Client,
    settings: WorkerSettings,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let device = settings.device.find().map_err(crate::errors::BadInput::error)?;
    let request = LeaseRequest {
        protocol: PROTOCOL_VERSION,
        worker: settings.name.clone(),
        device: device.describe(),
        partial: true,
        wait_s: if settings.once { 0.0 } else { WAIT.as_secs_f64() },
    };
    let mut done = 0;
    while settings.max_trials.is_none_or(|most| done < most) {
        let leased = tokio::select! {
            leased = client.lease(&request) => leased?,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match leased {
            Some(leased) => {
                tracing::info!(
                    trial = leased.trial,
                    study = leased.study_name,
                    number = leased.number,
                    "trial begins"
                );
                trial::evaluate(&client, &settings, leased, &mut stop).await?;
                done += 1;
            }
            None if settings.once => break,
            None => {}
        }
        if *stop.borrow() {
            break;
        }
    }
    Ok(())
}

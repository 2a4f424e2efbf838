//! Messages between the server and its workers, as JSON over HTTP.
//!
//! A worker asks for a lease, sends heartbeats and reports while it works, then finishes or releases the trial.
//! Every message after the lease carries the lease's token: the server answers 409 to a token that is no longer
//! valid, and the worker drops that trial, not itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Config, Measurement};

/// Version of these messages; a server refuses a worker of another one.
pub const PROTOCOL_VERSION: u32 = 1;

/// The state of a trial. Only forward, except that an expired lease and a promotion lead back to `Queued`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TrialState {
    /// Waits for a worker.
    Queued,
    /// Leased by a worker.
    Running,
    /// Has results of a part of its training and rests until it is trained on or stopped.
    Paused,
    /// Finished with all its measurements.
    Done,
    /// Ended early by the search.
    Pruned,
    /// Refused before training, with a reason.
    Infeasible,
    /// Ended by an error, with a reason.
    Failed,
    /// Ended by a person.
    Cancelled,
}

impl TrialState {
    /// Every state, in the order of a trial's life.
    pub const ALL: [TrialState; 8] = [
        TrialState::Queued,
        TrialState::Running,
        TrialState::Paused,
        TrialState::Done,
        TrialState::Pruned,
        TrialState::Infeasible,
        TrialState::Failed,
        TrialState::Cancelled,
    ];

    /// The name as stored and shown.
    pub fn label(self) -> &'static str {
        match self {
            TrialState::Queued => "queued",
            TrialState::Running => "running",
            TrialState::Paused => "paused",
            TrialState::Done => "done",
            TrialState::Pruned => "pruned",
            TrialState::Infeasible => "infeasible",
            TrialState::Failed => "failed",
            TrialState::Cancelled => "cancelled",
        }
    }

    /// Reads a name back.
    pub fn from_label(label: &str) -> Option<TrialState> {
        TrialState::ALL.into_iter().find(|s| s.label() == label)
    }

    /// Whether nothing more will happen to the trial.
    pub fn is_final(self) -> bool {
        !matches!(
            self,
            TrialState::Queued | TrialState::Running | TrialState::Paused
        )
    }
}

/// Why a trial failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Killed for memory.
    OutOfMemory,
    /// The loss was not a number.
    NotANumber,
    /// Ran past its time limit.
    Timeout,
    /// The trial's process ended without a result.
    Crash,
    /// The data is missing, empty or another than the study's.
    Data,
    /// A technique was on and did nothing.
    Inert,
    /// The lease ran out too often.
    Lost,
    /// The disk is full or cannot be written.
    Disk,
}

impl FailureKind {
    /// Whether another attempt can end otherwise.
    pub fn is_worth_a_retry(self) -> bool {
        matches!(self, FailureKind::Crash | FailureKind::Lost | FailureKind::Disk)
    }

    /// The name as stored and shown.
    pub fn label(self) -> &'static str {
        match self {
            FailureKind::OutOfMemory => "out_of_memory",
            FailureKind::NotANumber => "not_a_number",
            FailureKind::Timeout => "timeout",
            FailureKind::Crash => "crash",
            FailureKind::Data => "data",
            FailureKind::Inert => "inert",
            FailureKind::Lost => "lost",
            FailureKind::Disk => "disk",
        }
    }
}

/// `POST /api/v1/worker/lease`. The answer is a [`LeasedTrial`], or 204 where nothing waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseRequest {
    /// [`PROTOCOL_VERSION`] of the worker.
    pub protocol: u32,
    /// The worker's name, for people; a lease never hangs on it.
    pub worker: String,
    /// What it computes on, such as `cpu: AMD EPYC, 2 threads`.
    pub device: String,
    /// How long the server may hold the request until a trial turns up, in seconds.
    #[serde(default)]
    pub wait_s: f64,
    /// Whether the worker can stop at a part of a training, leave a checkpoint, and go on from one. Others are given
    /// only whole trainings.
    #[serde(default)]
    pub partial: bool,
}

/// A claimed trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeasedTrial {
    /// The trial's id.
    pub trial: i64,
    /// The study's id.
    pub study: i64,
    /// The study's name.
    pub study_name: String,
    /// Number of the trial within its study, from 0.
    pub number: u32,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Proof of this very claim.
    pub lease: String,
    /// Seconds until the lease ends without a heartbeat.
    pub lease_s: f64,
    /// Seed of the training.
    pub seed: u64,
    /// What to evaluate.
    pub config: Config,
    /// Fingerprint that the data must have.
    pub data_fingerprint: String,
    /// The part of the full training after which the trial is measured and finished; its schedule is that of the whole.
    #[serde(default = "whole")]
    pub target: f64,
    /// Files to go on from, downloaded like other files of the trial; none for a training from the start.
    #[serde(default)]
    pub checkpoint: Vec<String>,
}

fn whole() -> f64 {
    1.0
}

/// How far a trial is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Progress {
    /// What is going on: `train`, `prune`, `measure` ...
    pub phase: String,
    /// Steps done of this phase.
    pub step: u64,
    /// Steps of this phase.
    pub steps: u64,
    /// Estimated seconds until the trial ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_s: Option<f64>,
}

/// `POST /api/v1/worker/trials/{id}/heartbeat`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Heartbeat {
    /// The lease.
    pub lease: String,
    /// How far the trial is.
    #[serde(default)]
    pub progress: Option<Progress>,
}

/// The answer to a heartbeat or report.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeartbeatAnswer {
    /// Seconds until the lease ends without another heartbeat.
    pub lease_s: f64,
    /// The worker shall stop this trial.
    pub cancel: bool,
}

/// `POST /api/v1/worker/trials/{id}/report`. Sending the same rows twice is harmless.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Report {
    /// The lease.
    pub lease: String,
    /// Values along the way.
    pub measurements: Vec<Measurement>,
    /// How far the trial is.
    #[serde(default)]
    pub progress: Option<Progress>,
}

/// `POST /api/v1/worker/trials/{id}/finish`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Finish {
    /// The lease.
    pub lease: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// The name under which the result of a trial's stage is uploaded, for other trials to go on from. It is no file of the model.
pub fn stage_file(key: &str) -> String {
    format!("stage.{key}.safetensors")
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Outcome {
    /// With results.
    Done(Evaluation),
    /// With an error.
    Failed {
        /// Of which kind.
        kind: FailureKind,
        /// One sentence.
        message: String,
    },
    /// Stopped because the server asked for it.
    Cancelled,
}

/// The results of a trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Evaluation {
    /// Final values.
    pub measurements: Vec<Measurement>,
    /// How much each technique that is on has done; none is zero.
    pub activity: BTreeMap<String, u64>,
    /// Version, device, threads, fingerprints: what is needed to do it again.
    pub provenance: BTreeMap<String, String>,
    /// Wall time of the whole evaluation in seconds.
    pub wall_s: f64,
    /// Files uploaded beforehand, such as `model.safetensors`, in the order of the bundle; of a part of a training those
    /// from which it can go on.
    #[serde(default)]
    pub artifacts: Vec<String>,
}

/// `POST /api/v1/worker/trials/{id}/release`: the worker gives the trial back, at no cost of an attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Release {
    /// The lease.
    pub lease: String,
}

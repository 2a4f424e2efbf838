//! What a worker and its trial's process say to each other: a job in, events out, one JSON object a line.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use spaces::{
    Config, Measurement,
    protocol::{Evaluation, FailureKind, Progress},
};

/// The first line of the process's input. The input stays open: its end tells the process that nobody waits any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TrialJob {
    pub(crate) config: Config,
    pub(crate) seed: u64,
    pub(crate) work_dir: PathBuf,
    pub(crate) target: f64,
    pub(crate) data_folders: Option<Vec<PathBuf>>,
    pub(crate) fingerprint: Option<String>,
    pub(crate) device: String,
    /// Where results of stages are kept; `None` to make every stage.
    pub(crate) stages: Option<Stages>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// The folder of stages' results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stages {
    pub(crate) dir: PathBuf,
    pub(crate) limit_bytes: u64,
}

/// A line of the process's output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum TrialEvent {
    Progress(Progress),
    Report {
        measurements: Vec<Measurement>,
    },
    /// The result of a stage is not on this machine; a line on the process's input answers once `file` holds it or nobody has it.
    StageWanted {
        key: String,
        file: PathBuf,
    },
    /// The result of a stage was made.
    StageMade {
        key: String,
        file: PathBuf,
    },
    Done(Evaluation),
    Failed {
        kind: FailureKind,
        message: String,
        bad_input: bool,
    },
}

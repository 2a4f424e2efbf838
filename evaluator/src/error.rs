//! Why an evaluation ends without a result.

use std::io;

use spaces::protocol::FailureKind;

use crate::{bundle::BundleError, data::DataError};

/// Why an evaluation ends without a result.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// The configuration cannot be built.
    #[error("{0}")]
    Invalid(String),
    /// The data cannot be had.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The data is not the study's.
    #[error(
        "the data has fingerprint {found}, but the study was made with {expected}; restore the file or make a new study"
    )]
    OtherData {
        /// Fingerprint of the data here.
        found: String,
        /// Fingerprint that the study states.
        expected: String,
    },
    /// The loss became infinite or not a number.
    #[error(
        "the training loss was not a number at step {step}; use a learning_rate below {learning_rate} or a smaller gradient_clip"
    )]
    NotANumber {
        /// The step.
        step: u64,
        /// The plan's highest rate.
        learning_rate: f64,
    },
    /// A technique was on and did nothing.
    #[error("{0}")]
    Inert(String),
    /// A count does not agree with its formula: a defect of this program.
    #[error("counted {counted} {what}, but the formula says {formula}; this is a defect, please report it")]
    Miscounted {
        /// What was counted.
        what: String,
        /// The count.
        counted: u64,
        /// What the formula says.
        formula: u64,
    },
    /// A file cannot be written.
    #[error("'{path}' cannot be written: {source}; free space or choose another --data-dir")]
    Disk {
        /// The file or folder.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The exported model cannot be written or read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(String),
    /// Whoever asked for the evaluation wants it no more.
    #[error("cancelled")]
    Cancelled,
}

impl EvaluationError {
    /// A failure of the device.
    pub(crate) fn device(error: impl ToString) -> Self {
        EvaluationError::Device(error.to_string())
    }

    /// Whether the user can mend it: what was named, or the room on a disk.
    pub fn is_input(&self) -> bool {
        use EvaluationError as E;
        matches!(
            self,
            E::Invalid(_) | E::Data(_) | E::OtherData { .. } | E::Bundle(_) | E::Disk { .. }
        )
    }

    /// The kind of failure that is stored; `None` for a cancellation.
    pub fn kind(&self) -> Option<FailureKind> {
        Some(match self {
            EvaluationError::Cancelled => return None,
            EvaluationError::Data(_) | EvaluationError::OtherData { .. } | EvaluationError::Invalid(_) => {
                FailureKind::Data
            }
            EvaluationError::NotANumber { .. } => FailureKind::NotANumber,
            EvaluationError::Inert(_) => FailureKind::Inert,
            EvaluationError::Disk { .. } | EvaluationError::Bundle(BundleError::File { .. }) => {
                FailureKind::Disk
            }
            EvaluationError::Bundle(_) | EvaluationError::Device(_) | EvaluationError::Miscounted { .. } => {
                FailureKind::Crash
            }
        })
    }
}

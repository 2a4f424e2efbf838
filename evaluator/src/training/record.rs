//! What a training, and work on a model beside it, took.

use serde::{Deserialize, Serialize};

use crate::{
    EvaluationError, counter,
    energy::{self, Source},
};

/// What a training did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Optimizer steps.
    pub steps: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// Executed multiply-adds, forward and backward.
    pub macs: u64,
    /// Multiply-adds that the formula has and that were left out, as for rows that an expert had no room for.
    #[serde(default)]
    pub skipped_macs: u64,
    /// Executed multiply-adds of work that is as long as it takes, so that no formula has it: finding where exits are sure.
    #[serde(default)]
    pub searching_macs: u64,
    /// Wall time of the steps in seconds, evaluation and checkpoints left out.
    pub seconds: f64,
    /// Energy, that of evaluation and checkpoints included.
    pub joules: f64,
}

impl Record {
    /// Both trainings together.
    pub fn and(self, other: Record) -> Record {
        Record {
            steps: self.steps + other.steps,
            tokens: self.tokens + other.tokens,
            macs: self.macs + other.macs,
            skipped_macs: self.skipped_macs + other.skipped_macs,
            searching_macs: self.searching_macs + other.searching_macs,
            seconds: self.seconds + other.seconds,
            joules: self.joules + other.joules,
        }
    }

    /// All that was executed.
    pub fn executed_macs(self) -> u64 {
        self.macs + self.searching_macs
    }

    /// The same as work that no formula has.
    pub(crate) fn as_search(self) -> Record {
        Record {
            macs: 0,
            skipped_macs: 0,
            searching_macs: self.macs,
            ..self
        }
    }

    /// What `work` took, with its result: multiply-adds, time and energy, but no steps of a training.
    ///
    /// # Errors
    /// [`EvaluationError::Device`] where energy cannot be read.
    pub fn of<T>(energy: &mut dyn Source, work: impl FnOnce() -> T) -> Result<(T, Record), EvaluationError> {
        let counted = || counter::count_skipped(|| counter::count_macs(work));
        let (((result, macs), skipped), reading) =
            energy::measure(energy, counted).map_err(EvaluationError::Device)?;
        let record = Record {
            macs,
            skipped_macs: skipped.total(),
            seconds: reading.seconds,
            joules: reading.joules,
            ..Record::default()
        };
        Ok((result, record))
    }
}

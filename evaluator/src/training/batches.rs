//! A training's batches, and others that no training sees.

use crate::{
    data::{Batch, Dataset, Rows},
    plan::TrainingPlan,
};

/// A training's batches: functions of seed and step.
#[derive(Clone, Copy)]
pub struct Batches<'a> {
    /// The data.
    pub data: &'a Dataset,
    /// Seed of the training.
    pub seed: u64,
    /// Examples of a batch.
    pub batch: usize,
    /// How its rows are cut.
    pub rows: Rows,
}

/// What batches of training data are read for beside a training. Their steps are far beyond those of any training, and each
/// purpose has steps of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Beside {
    /// What a model loses by fewer bits.
    Sensitivity,
    /// What a model loses by smaller layers.
    Sizes,
    /// What matrices are given.
    Calibration,
    /// Which neurons are active.
    Choice,
    /// Which structures matter.
    Importance,
    /// Fisher information.
    Information,
}

impl Beside {
    fn first_step(self) -> u64 {
        match self {
            Beside::Sensitivity => u64::MAX / 8,
            Beside::Calibration => u64::MAX / 4,
            Beside::Choice => u64::MAX / 8 * 3,
            Beside::Importance => u64::MAX / 2,
            Beside::Sizes => u64::MAX / 8 * 5,
            Beside::Information => u64::MAX / 4 * 3,
        }
    }
}

impl<'a> Batches<'a> {
    /// The batches that a plan asks for.
    pub fn new(data: &'a Dataset, seed: u64, plan: &TrainingPlan) -> Self {
        Batches {
            data,
            seed,
            batch: plan.batch,
            rows: plan.rows,
        }
    }

    /// The batch of a step.
    pub(super) fn of_step(&self, step: u64) -> Batch {
        self.data.train_batch(self.seed, step, self.batch, self.rows)
    }

    /// So many batches beside the training.
    pub(crate) fn beside(&self, purpose: Beside, n: u64) -> impl Iterator<Item = Batch> {
        (0..n).map(move |i| self.one_beside(purpose, i))
    }

    /// The batch of this number, from 0, of those.
    pub(crate) fn one_beside(&self, purpose: Beside, i: u64) -> Batch {
        self.of_step(purpose.first_step() + i)
    }
}

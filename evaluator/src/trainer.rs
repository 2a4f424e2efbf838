//! The training part of an evaluation: from the start or a checkpoint, with pruning and recovery.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use burn::tensor::backend::{AutodiffBackend, Backend};
use spaces::{Measurement, protocol::Progress};

use crate::{
    EvaluationError, Events, Job, counter,
    data::Dataset,
    energy,
    model::{Model, ModelPlan},
    ops::Ops,
    plan::{Budget, IMPORTANCE_BATCHES, Plan},
    techniques::pruning,
    training::{Batches, Checkpoint, Record, Stop, Stretch, gradients, train},
};

/// Passes on what a recovery says. After a part of the training its curve is left out: the steps belong to the training,
/// which may still go on.
struct Recovery<'a> {
    events: &'a mut dyn Events,
    is_part: bool,
}

impl Events for Recovery<'_> {
    fn progress(&mut self, progress: Progress) {
        self.events.progress(progress);
    }

    fn report(&mut self, measurements: Vec<Measurement>) {
        if !self.is_part {
            self.events.report(measurements);
        }
    }

    fn cancelled(&self) -> bool {
        self.events.cancelled()
    }
}

/// The training part of an evaluation.
pub(crate) struct Trainer<'a> {
    pub(crate) job: &'a Job,
    pub(crate) plan: &'a Plan,
    pub(crate) data: &'a Dataset,
    pub(crate) checkpoints: PathBuf,
    /// Where the state is kept at a part of the training.
    pub(crate) state: PathBuf,
}

/// What a training gives.
pub(crate) struct Trained<A: Backend> {
    /// The dense model to be served.
    pub(crate) model: Model<A>,
    /// Everything that was spent on it.
    pub(crate) record: Record,
    /// Steps of the main training.
    pub(crate) main: u64,
    /// Steps that were done already when this process took over.
    pub(crate) from: u64,
}

/// The folder in which a part of a training leaves its state.
pub(crate) const STATE: &str = "state";
/// The folder with the state that a training goes on from.
const START: &str = "start";

/// Time between two checkpoints: what a killed worker loses at most.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(15);

const MAIN: &str = "train";
const RECOVERY: &str = "recover";

impl Trainer<'_> {
    /// Trains, prunes and recovers.
    pub(crate) fn run<A>(
        &self,
        start: impl Fn(&ModelPlan) -> Result<Model<A>, EvaluationError>,
        backend: &A::Device,
        energy: &mut dyn energy::Source,
        events: &mut dyn Events,
    ) -> Result<Trained<A>, EvaluationError>
    where
        A: AutodiffBackend + Ops,
        A::InnerBackend: Ops,
    {
        let plan = self.plan;
        let find = |dir: &Path| Checkpoint::<A::InnerBackend>::find(dir, backend);
        let mut resumed = find(&self.checkpoints).or_else(|| find(&self.job.work_dir.join(START)));
        let from = resumed.as_ref().map_or(0, |c| c.earlier.and(c.record).steps);
        let trained = |model, record, main| Trained {
            model,
            record,
            main,
            from,
        };
        let batches = Batches::new(self.data, self.job.seed, &plan.training);
        let stretch = |phase, budget, earlier| Stretch {
            phase,
            plan: &plan.training,
            budget,
            tuning: None,
            batches,
            checkpoints: &self.checkpoints,
            checkpoint_every: CHECKPOINT_EVERY,
            earlier,
            stop: None,
        };
        let is_part = self.job.target < 1.0;
        if let Some(checkpoint) = resumed.take_if(|c| c.phase == RECOVERY) {
            let earlier = checkpoint.earlier;
            let budget = Budget::Steps(checkpoint.total_steps);
            let model = Model::new(&plan.served, self.job.seed, backend);
            let (model, record) = train(
                model,
                &stretch(RECOVERY, budget, earlier),
                Some(checkpoint),
                energy,
                &mut Recovery { events, is_part },
            )?;
            return Ok(trained(model, earlier.and(record), earlier.steps));
        }
        let mut model = start(&plan.model)?;
        let mut record = Record::default();
        if let Some(tuning) = plan.fine_tuning {
            tuning.attach(&mut model, &plan.model, self.job.seed);
        }
        if plan.trainable().is_some() {
            let stop = Stop {
                part: self.job.target,
                keep: &self.state,
            };
            let main = Stretch {
                tuning: plan.fine_tuning,
                stop: is_part.then_some(stop),
                ..stretch(MAIN, plan.training.budget, Record::default())
            };
            (model, record) = train(model, &main, resumed, energy, events)?;
        }
        if let Some(tuning) = plan.fine_tuning {
            tuning.finish(&mut model);
        }
        let main = record.steps;
        let Some(pruning) = plan.pruning else {
            return Ok(trained(model, record, main));
        };

        events.progress(Progress {
            phase: "prune".into(),
            ..Progress::default()
        });
        let ((importance, macs), skipped) =
            counter::count_skipped(|| counter::count_macs(|| self.importance(&mut model, &batches, pruning)));
        record.macs += macs;
        record.skipped_macs += skipped.total();
        pruning::shrink(&mut model, &plan.served, &importance);
        let steps = plan.recovery_steps(record.steps);
        if steps > 0 {
            let recovery = stretch(RECOVERY, Budget::Steps(steps), record);
            let (recovered, more) = train(model, &recovery, None, energy, &mut Recovery { events, is_part })?;
            return Ok(trained(recovered, record.and(more), main));
        }
        Ok(trained(model, record, main))
    }

    fn importance<A>(
        &self,
        model: &mut Model<A>,
        batches: &Batches,
        plan: pruning::PruningPlan,
    ) -> pruning::Importance
    where
        A: AutodiffBackend + Ops,
    {
        let attention = self.plan.model.layers.first().map(|l| l.attention);
        let (depth, share) = attention.map_or((1, 1), |a| (a.depth, a.share()));
        if !plan.judges_by_gradient() {
            return pruning::by_magnitude(model, depth, share);
        }
        let mut sum = None;
        for step in 0..IMPORTANCE_BATCHES {
            // batches of their own, after any that training reaches
            let (_, batch_gradients) = gradients(model, batches, u64::MAX / 2 + step);
            sum = Some(pruning::add_taylor_batch(
                sum,
                model,
                &batch_gradients,
                depth,
                share,
            ));
        }
        sum.unwrap_or(pruning::Importance { layers: vec![] })
    }
}

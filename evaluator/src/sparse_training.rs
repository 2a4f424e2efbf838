//! The training in which single weights are removed, after everything that leaves dense weights.

use burn::tensor::backend::AutodiffBackend;

use crate::{
    EvaluationError, Events, energy,
    memory::process_peak_bytes,
    model::{Model, ModelPlan},
    ops::Ops,
    plan::Budget,
    trainer::{CHECKPOINT_EVERY, Recovery, Trained, Trainer},
    training::{Batches, Checkpoint, Stretch, train},
};

const PHASE: &str = "thin";

impl Trainer<'_> {
    /// Trains, prunes and recovers, and removes single weights where that takes a training.
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
        let Some(sparsity) = plan.sparsity.filter(|sparsity| sparsity.recovery.is_some()) else {
            return self.dense(start, backend, energy, events);
        };
        let resumed = Checkpoint::find(&self.checkpoints, backend).filter(|c| c.phase == PHASE);
        let sofar = match &resumed {
            Some(checkpoint) => Trained {
                model: Model::new(&plan.served.with_whole_cache(), self.job.seed, backend),
                record: checkpoint.earlier,
                spent: checkpoint.earlier,
                peak_bytes: None,
                found: None,
                main: plan.main_steps(checkpoint.earlier.steps),
                from: checkpoint.earlier.and(checkpoint.record).steps,
            },
            None => self.dense(start, backend, energy, events)?,
        };
        let stretch = Stretch {
            phase: PHASE,
            plan: &plan.training,
            budget: Budget::Steps(sparsity.recovery_steps(sofar.main)),
            tuning: None,
            thinning: Some(sparsity),
            batches: Batches::new(self.data, self.job.seed, &plan.training),
            checkpoints: &self.checkpoints,
            checkpoint_every: CHECKPOINT_EVERY,
            earlier: sofar.record,
            stop: None,
        };
        let mut listener = Recovery {
            events,
            is_part: self.job.target < 1.0,
        };
        let (model, record) = train(sofar.model, &stretch, None, resumed, energy, &mut listener)?;
        Ok(Trained {
            model,
            record: sofar.record.and(record),
            spent: sofar.spent.and(record),
            peak_bytes: process_peak_bytes().max(sofar.peak_bytes),
            ..sofar
        })
    }
}

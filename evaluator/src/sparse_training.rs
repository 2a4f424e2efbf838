//! The training in which single weights are removed, after everything that leaves dense weights.

use burn::tensor::backend::AutodiffBackend;

use crate::{
    EvaluationError, Events, energy,
    memory::process_peak_bytes,
    model::{Model, ModelPlan},
    ops::Ops,
    plan::Budget,
    techniques::sparsity::SparsityPlan,
    trainer::{Recovery, Trained, Trainer},
    training::{Checkpoint, Stretch, train},
};

const PHASE: &str = "thin";

impl Trainer<'_> {
    /// Trains, prunes and recovers, and removes single weights in a training of its own, from a checkpoint if there is one.
    pub(crate) fn train_thinned<A>(
        &self,
        sparsity: SparsityPlan,
        start: impl Fn(&ModelPlan) -> Result<Model<A>, EvaluationError>,
        (mut resumed, from): (Option<Checkpoint<A::InnerBackend>>, u64),
        backend: &A::Device,
        energy: &mut dyn energy::Source,
        events: &mut dyn Events,
    ) -> Result<Trained<A>, EvaluationError>
    where
        A: AutodiffBackend + Ops,
        A::InnerBackend: Ops,
    {
        let plan = self.plan;
        let goes_on = resumed.take_if(|checkpoint| checkpoint.phase == PHASE);
        let sofar = match &goes_on {
            Some(checkpoint) => Trained {
                model: Model::new(&plan.recovered(), self.job.seed, backend),
                record: checkpoint.earlier,
                spent: checkpoint.earlier,
                peak_bytes: None,
                found: None,
                main: plan.main_steps(checkpoint.earlier.steps),
                from,
            },
            None => self.train_and_prune(start, (resumed, from), backend, energy, events)?,
        };
        let budget = Budget::Steps(sparsity.recovery_steps(sofar.main));
        let stretch = Stretch {
            thinning: Some(sparsity),
            ..self.stretch(PHASE, budget, sofar.record)
        };
        let mut listener = Recovery {
            events,
            is_part: self.job.target < 1.0,
        };
        let (model, record) = train(sofar.model, &stretch, None, goes_on, energy, &mut listener)?;
        Ok(Trained {
            model,
            record: sofar.record.and(record),
            spent: sofar.spent.and(record),
            peak_bytes: process_peak_bytes().max(sofar.peak_bytes),
            ..sofar
        })
    }
}

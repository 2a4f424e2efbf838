//! The training after everything else that trains: with weights rounded as they will be packed, or with single weights removed. A
//! phase of its own, with its own checkpoints.

use burn::tensor::backend::AutodiffBackend;
use spaces::protocol::Progress;

use crate::{
    EvaluationError, Events, energy,
    model::{Model, ModelPlan, make_trainable},
    ops::Ops,
    plan::Budget,
    trainer::{Trained, Trainer},
    training::{Checkpoint, Record, Stretch, train},
};

/// The phase with rounded weights, for people and for the checkpoint.
const ROUNDED: &str = "train rounded";
/// The phase in which single weights are removed.
const THINNED: &str = "thin";

impl Trainer<'_> {
    /// Trains, prunes, recovers, and goes on with weights that are removed or rounded where the plan says so.
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
        let mut resumed = self.checkpoint::<A::InnerBackend>(backend);
        let goes_on = resumed.take_if(|c| [ROUNDED, THINNED].contains(&c.phase.as_str()));
        let mut sofar = match &goes_on {
            Some(checkpoint) => self.before(checkpoint, backend)?,
            None => self.train_and_prune(start, resumed, backend, energy, events)?,
        };
        let Some(stretch) = self.further(sofar.main, sofar.record) else {
            return Ok(sofar);
        };
        events.progress(Progress {
            phase: stretch.phase.into(),
            ..Progress::default()
        });
        make_trainable(&mut sofar.model);
        let mut listener = self.listener(events);
        let (model, record) = train(sofar.model, &stretch, None, goes_on, energy, &mut listener)?;
        Ok(Trained { model, ..sofar }.after(record))
    }

    /// The further training, where the plan has one.
    fn further(&self, main: u64, earlier: Record) -> Option<Stretch<'_>> {
        let plan = self.plan;
        if let Some(sparsity) = plan.sparsity.filter(|sparsity| sparsity.recovery.is_some()) {
            let budget = Budget::Steps(sparsity.recovery_steps(main));
            return Some(Stretch {
                thinning: Some(sparsity),
                ..self.stretch(THINNED, budget, earlier)
            });
        }
        (plan.qat > 0.0).then(|| Stretch {
            rounding: plan.quantization,
            ..self.stretch(ROUNDED, Budget::Steps(plan.rounded_steps(main)), earlier)
        })
    }

    /// What there was before a checkpoint of it, with weights that the checkpoint replaces.
    fn before<A>(
        &self,
        checkpoint: &Checkpoint<A::InnerBackend>,
        backend: &A::Device,
    ) -> Result<Trained<A>, EvaluationError>
    where
        A: AutodiffBackend + Ops,
    {
        let earlier = checkpoint.earlier;
        let sizes = self.kept_sizes()?;
        let shape = self.plan.sized(sizes.as_ref()).recovered();
        Ok(Trained {
            model: Model::new(&shape, self.job.seed, backend),
            record: earlier,
            spent: earlier,
            peak_bytes: None,
            found: None,
            main: self.plan.main_steps(earlier.steps),
            from: earlier.and(checkpoint.record).steps,
            sizes,
        })
    }
}

//! The training with rounded weights, after everything else that trains: a phase of its own, with its own checkpoints.

use burn::tensor::backend::AutodiffBackend;
use spaces::protocol::Progress;

use crate::{
    EvaluationError, Events, energy,
    memory::process_peak_bytes,
    model::{Model, make_trainable},
    ops::Ops,
    plan::Budget,
    trainer::{Recovery, Trained, Trainer},
    training::{Checkpoint, Record, Stretch, train},
};

/// The phase, for people and for the checkpoint.
pub(crate) const ROUNDED: &str = "train rounded";

impl Trainer<'_> {
    fn rounded_stretch(&self, steps: u64, earlier: Record) -> Stretch<'_> {
        Stretch {
            rounding: self.plan.quantization,
            ..self.stretch(ROUNDED, Budget::Steps(steps), earlier)
        }
    }

    /// Goes on with rounded weights, where the plan says so.
    pub(crate) fn train_rounded<A>(
        &self,
        made: Trained<A>,
        energy: &mut dyn energy::Source,
        events: &mut dyn Events,
    ) -> Result<Trained<A>, EvaluationError>
    where
        A: AutodiffBackend + Ops,
        A::InnerBackend: Ops,
    {
        let steps = self.plan.rounded_steps(made.main);
        if steps == 0 {
            return Ok(made);
        }
        events.progress(Progress {
            phase: ROUNDED.into(),
            ..Progress::default()
        });
        let mut model = made.model;
        make_trainable(&mut model);
        let (model, record) = train(
            model,
            &self.rounded_stretch(steps, made.record),
            None,
            None,
            energy,
            &mut self.listener(events),
        )?;
        Ok(Trained {
            model,
            record: made.record.and(record),
            spent: made.spent.and(record),
            peak_bytes: process_peak_bytes().max(made.peak_bytes),
            ..made
        })
    }

    /// The same from a checkpoint of it on.
    pub(crate) fn go_on_rounded<A>(
        &self,
        checkpoint: Checkpoint<A::InnerBackend>,
        backend: &A::Device,
        energy: &mut dyn energy::Source,
        events: &mut dyn Events,
    ) -> Result<Trained<A>, EvaluationError>
    where
        A: AutodiffBackend + Ops,
        A::InnerBackend: Ops,
    {
        let (earlier, from) = (
            checkpoint.earlier,
            checkpoint.earlier.and(checkpoint.record).steps,
        );
        // a part of a training has left its state, which tells how many steps were the main training's
        let part = Checkpoint::<A::InnerBackend>::find(&self.state, backend);
        let main = part.map_or(earlier.steps, |part| part.record.steps);
        let (model, record) = train(
            Model::new(&self.plan.recovered(), self.job.seed, backend),
            &self.rounded_stretch(checkpoint.total_steps, earlier),
            None,
            Some(checkpoint),
            energy,
            &mut self.listener(events),
        )?;
        let record = earlier.and(record);
        Ok(Trained {
            model,
            record,
            spent: record,
            peak_bytes: process_peak_bytes(),
            found: None,
            main,
            from,
        })
    }

    fn listener<'e>(&self, events: &'e mut dyn Events) -> Recovery<'e> {
        Recovery {
            events,
            is_part: self.job.target < 1.0,
        }
    }
}

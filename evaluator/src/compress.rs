//! What is done to a trained model before it is exported: single weights removed, the rest packed, neurons
//! chosen for each token. What that takes is charged to
//! the training.

use spaces::protocol::Progress;

use crate::{
    EvaluationError, Events, counter,
    energy::Source,
    model::Model,
    ops::Ops,
    plan::Plan,
    techniques::{dynamic::context_keep, quantization, sparsity},
    training::{Batches, Record},
};

/// Makes a model what its plan serves, and tells what that took.
pub(crate) fn compress<B: Ops>(
    model: &mut Model<B>,
    plan: &Plan,
    batches: &Batches,
    energy: &mut dyn Source,
    events: &mut dyn Events,
) -> Result<Record, EvaluationError> {
    let mut say = |phase: &str| {
        events.progress(Progress {
            phase: phase.into(),
            ..Progress::default()
        });
    };
    let mut record = Record::default();
    let mut charge = |work: &mut dyn FnMut()| {
        // nothing goes back through a calibration
        let ((), more) = Record::of(energy, || counter::without_backward(work))?;
        record = record.and(more);
        Ok::<_, EvaluationError>(())
    };
    if let Some(sparsity) = &plan.sparsity {
        say("sparsify");
        charge(&mut || sparsity::sparsify(model, sparsity, batches))?;
    }
    if let Some(packing) = plan.quantization {
        say("pack");
        charge(&mut || {
            let inputs = quantization::observe(model, packing, batches);
            quantization::quantize(model, &plan.served, packing, &inputs);
        })?;
    }
    if let Some(keep) = plan.contextual {
        say("choose");
        charge(&mut || context_keep::learn(model, &plan.served, keep.batches, batches))?;
    }
    Ok(record)
}

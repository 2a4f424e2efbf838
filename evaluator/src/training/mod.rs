//! Training: the loop, its optimizer, its checkpoints.

mod batches;
mod checkpoint;
pub(crate) mod floats;
mod optimizer;
mod record;
mod reversible;
mod schedule;
mod step;
mod thinning;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use burn::tensor::{Tensor, backend::AutodiffBackend};
use spaces::{Evidence, Measurement, protocol::Progress};

pub use self::{
    batches::Batches,
    checkpoint::{CHECKPOINT_FILES, Checkpoint},
    optimizer::{Optimizer, Rule},
    record::Record,
    schedule::learning_rate,
    step::gradients_of,
};
pub(crate) use self::{
    batches::Beside,
    optimizer::{SLOWED_ACTIVITY, about as rules, choose_trained, layer_decay, parameters},
    step::{IntoF32, Scores, score, score_on, to_device},
};
use self::{
    optimizer::{Rates, badam, collect, lomo, mezo},
    step::{Task, gradients, quick_loss},
};
use crate::{
    EvaluationError, Events, counter,
    energy::Source,
    model::Model,
    ops::Ops,
    plan::{Budget, TrainingPlan},
    techniques::{
        distillation::{Teacher, detach},
        fine_tuning::FineTuning,
        quantization::{QuantizationPlan, qat},
        sparsity::SparsityPlan,
    },
};

/// Steps between two readings of the loss; a reading waits for the device.
const STEPS_BETWEEN_READINGS: u64 = 10;
/// Points of the learning curve.
const CURVE_POINTS: u64 = 20;
/// Steps that are timed before a time budget is turned into steps.
const TIMED_STEPS: u64 = 8;

/// One stretch of training.
pub struct Stretch<'a> {
    /// `train` or `recover`, for people and for the checkpoint.
    pub phase: &'a str,
    /// The numbers.
    pub plan: &'a TrainingPlan,
    /// How long it lasts.
    pub budget: Budget,
    /// How a base is adapted in it, where it is that.
    pub tuning: Option<FineTuning>,
    /// How weights are rounded in each step, where they are.
    pub rounding: Option<QuantizationPlan>,
    /// Which single weights are removed in it, where some are.
    pub thinning: Option<SparsityPlan>,
    /// Where batches come from.
    pub batches: Batches<'a>,
    /// Where checkpoints lie.
    pub checkpoints: &'a Path,
    /// Time between two of them.
    pub checkpoint_every: Duration,
    /// What was done before this stretch.
    pub earlier: Record,
    /// Where it stops before its end, if it does.
    pub stop: Option<Stop<'a>>,
}

/// A stop before the end of a stretch, with the state kept so that the stretch can go on. The schedule is that of the whole.
#[derive(Clone, Copy)]
pub struct Stop<'a> {
    /// The part of the stretch after which it stops, above 0 and below 1.
    pub part: f64,
    /// Where the state is written.
    pub keep: &'a Path,
}

/// Trains the model to the end of the budget, from a checkpoint of the same stretch where there is one; with a teacher, it
/// learns from it too.
///
/// # Errors
/// [`EvaluationError`] for a loss that is not a number, a disk that cannot be written, and cancellation.
pub fn train<A>(
    mut model: Model<A>,
    stretch: &Stretch,
    teacher: Option<&Teacher<A::InnerBackend>>,
    resumed: Option<Checkpoint<A::InnerBackend>>,
    energy: &mut dyn Source,
    events: &mut dyn Events,
) -> Result<(Model<A>, Record), EvaluationError>
where
    A: AutodiffBackend + Ops,
    A::InnerBackend: Ops,
{
    let plan = stretch.plan;
    let mut record = Record::default();
    // of the choice of weights, before the first step
    let mut chosen_s = 0.0;
    let mut optimizer = Optimizer::default();
    let mut total = match stretch.budget {
        Budget::Steps(steps) => Some(steps),
        Budget::Seconds(_) => None,
    };
    let device = model.device();
    let joules_before = energy.joules().map_err(EvaluationError::Device)?
        - resumed
            .as_ref()
            .map_or(0.0, |checkpoint| checkpoint.record.joules);
    if let Some(teacher) = teacher {
        teacher.attach(&mut model, stretch.batches.seed);
    }
    if let Some(checkpoint) = resumed {
        total = Some(checkpoint.total_steps);
        record = checkpoint.record;
        optimizer = checkpoint.restore(&mut model);
    } else if let Some(tuning) = stretch.tuning {
        let kept;
        (kept, record) = Record::of(energy, || tuning.kept(&mut model, &stretch.batches))?;
        chosen_s = record.seconds;
        optimizer = Optimizer::new(kept, &device);
    }
    let first = record.steps;
    let started = Instant::now();
    let mut last_saved = Instant::now();
    let mut untimed = 0.0;
    let end = |total: u64| stretch.stop.map_or(total, |stop| steps_of(stop.part, total));
    while total.is_none_or(|total| record.steps < end(total)) {
        if events.cancelled() {
            return Err(EvaluationError::Cancelled);
        }
        if let Some(total) = total {
            let at = (record.steps, total);
            let removed = thinning::remove_before(&mut model, &mut optimizer, stretch, at, energy)?;
            record = record.and(removed);
        }
        let step_started = Instant::now();
        let step = record.steps;
        let skipped_before = counter::skipped();
        // until the number of steps is known the rate is that of the first ones, warming up
        let rate = learning_rate(plan, step, total.unwrap_or(u64::MAX));
        let (loss, macs) = counter::count_macs(|| {
            one_step(&mut model, &mut optimizer, stretch, teacher, (step, total, rate))
        });
        record.macs += macs;
        record.skipped_macs += (counter::skipped() - skipped_before).total();
        record.steps += 1;
        record.tokens += plan.step_tokens() as u64;
        let is_last = total.is_some_and(|total| record.steps >= end(total));
        if step % STEPS_BETWEEN_READINGS == 0 || is_last {
            let loss: f32 = loss.into_scalar_f32();
            if !loss.is_finite() {
                return Err(EvaluationError::NotANumber {
                    step,
                    learning_rate: plan.learning_rate,
                });
            }
        }
        record.seconds += step_started.elapsed().as_secs_f64();
        if let (None, Budget::Seconds(budget)) = (total, stretch.budget)
            && record.steps == TIMED_STEPS
        {
            total = Some(steps_for(
                budget - chosen_s,
                record.seconds - chosen_s,
                record.steps,
            ));
        }
        let Some(total) = total else { continue };

        let paused = Instant::now();
        if record.steps % (total / CURVE_POINTS).max(1) == 0 && !is_last {
            let (loss, scored) = quick_loss(&model, &stretch.batches, stretch.rounding);
            let what = stretch.batches.rows.form.scored();
            events.report(vec![Measurement {
                metric: "validation_loss".into(),
                step: stretch.earlier.steps + record.steps,
                value: loss,
                spread: None,
                evidence: Evidence::Measured,
                source: format!("{scored} held-out {what}"),
            }]);
        }
        let elapsed = started.elapsed().as_secs_f64() - untimed;
        if step % STEPS_BETWEEN_READINGS == 0 || is_last {
            // time is taken from the start of this process, which may have gone on from a checkpoint
            let total = end(total);
            let done = (record.steps - first) as f64 / (total - first).max(1) as f64;
            events.progress(Progress {
                phase: stretch.phase.into(),
                step: record.steps,
                steps: total,
                eta_s: (step > 0).then(|| elapsed / done * (1.0 - done)),
            });
        }
        if last_saved.elapsed() >= stretch.checkpoint_every && !is_last {
            A::sync(&device).map_err(EvaluationError::device)?;
            record.joules = energy.joules().map_err(EvaluationError::Device)? - joules_before;
            Checkpoint::save(
                stretch.checkpoints,
                stretch,
                total,
                record,
                &mut model,
                &optimizer,
            )?;
            last_saved = Instant::now();
        }
        untimed += paused.elapsed().as_secs_f64();
    }
    if let Some(total) = total.filter(|total| record.steps == *total) {
        let at = (total, total);
        record = record.and(thinning::remove_before(
            &mut model,
            &mut optimizer,
            stretch,
            at,
            energy,
        )?);
    }
    record.joules = energy.joules().map_err(EvaluationError::Device)? - joules_before;
    if let (Some(stop), Some(total)) = (stretch.stop, total) {
        A::sync(&device).map_err(EvaluationError::device)?;
        Checkpoint::save(stop.keep, stretch, total, record, &mut model, &optimizer)?;
    }
    if teacher.is_some() {
        detach(&mut model);
    }
    Ok((model, record))
}

/// One step of a stretch, of which the length may be known, at a rate; gives its loss, `[1]`.
fn one_step<A>(
    model: &mut Model<A>,
    optimizer: &mut Optimizer<A::InnerBackend>,
    stretch: &Stretch,
    teacher: Option<&Teacher<A::InnerBackend>>,
    (step, total, rate): (u64, Option<u64>, f64),
) -> Tensor<A::InnerBackend, 1>
where
    A: AutodiffBackend + Ops,
    A::InnerBackend: Ops,
{
    let Stretch {
        plan,
        batches,
        tuning,
        rounding,
        thinning,
        ..
    } = stretch;
    let seed = batches.seed;
    let task = |model: &Model<A>| Task::of_step(model, batches, step, teacher);
    match plan.rule {
        Rule::AdamW | Rule::Sgd => {}
        Rule::Badam { block_steps } => badam::begin_step(model, optimizer, step, block_steps),
        Rule::Lomo => return lomo::step(model, &task(model), rate, plan),
        Rule::Mezo { epsilon } => {
            let direction = mezo::Direction { seed, step };
            return mezo::step(model, &task(model), direction, (rate, epsilon), plan);
        }
    }
    if let Some(tuning) = tuning {
        tuning.choose(model, optimizer, step, total);
        tuning.begin_step(model, seed, step);
    }
    let unrounded = rounding.map(|packing| qat::round_for_step(model, packing));
    let (loss, mut gradients) = gradients(model, batches, step, teacher);
    let mut collected = collect(model, &mut gradients);
    if let Some(unrounded) = unrounded {
        unrounded.put_back(model, &mut collected);
    }
    if let Some(plan) = thinning {
        thinning::note(model, optimizer, plan, &collected);
    }
    if let Some(tuning) = tuning {
        tuning.end_step(model, &mut collected, seed, step);
    }
    let rates = Rates::of(model, rate, plan.layer_decay);
    optimizer.apply(model, collected, &rates, plan);
    loss
}

/// Steps of a part of a stretch, at least one.
fn steps_of(part: f64, total: u64) -> u64 {
    ((part * total as f64).ceil() as u64).clamp(1, total)
}

/// Steps that fit the budget at the speed of the timed ones.
fn steps_for(budget_s: f64, timed_s: f64, timed: u64) -> u64 {
    ((budget_s / timed_s * timed as f64) as u64).max(timed)
}

//! The training part of an evaluation: from the start or a checkpoint, with pruning and recovery.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use burn::{
    module::AutodiffModule,
    tensor::backend::{AutodiffBackend, Backend},
};
use spaces::{Measurement, protocol::Progress};

use crate::{
    EvaluationError, Events, Job, Shelf, counter,
    data::Dataset,
    energy,
    memory::process_peak_bytes,
    model::{Model, ModelPlan, make_trainable},
    ops::Ops,
    plan::{Budget, Plan},
    stages::{Claim, Found, Keys, Recording, StageResult},
    techniques::{
        distillation::Teacher,
        pruning::{self, latency::FoundSizes},
    },
    training::{Batches, Checkpoint, Record, Stop, Stretch, train},
};

/// Passes on what a recovery says. After a part of the training its curve is left out: the steps belong to the training,
/// which may still go on.
pub(crate) struct Recovery<'a> {
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
    /// Where results of stages are kept, and what this trial's are called.
    pub(crate) stages: Option<(&'a Shelf, Keys)>,
}

/// What a training gives.
pub(crate) struct Trained<A: Backend> {
    /// The dense model to be served.
    pub(crate) model: Model<A>,
    /// Everything that was spent on it, by whomever.
    pub(crate) record: Record,
    /// What this trial spent itself, less than the record where it found a stage's result.
    pub(crate) spent: Record,
    /// The most memory that a process held which made it.
    pub(crate) peak_bytes: Option<u64>,
    /// The stage whose result was found, and who made it.
    pub(crate) found: Option<(&'static str, String)>,
    /// Steps of the main training.
    pub(crate) main: u64,
    /// Steps that were done already when this process took over.
    pub(crate) from: u64,
    /// The sizes that were found for its layers, where some were.
    pub(crate) sizes: Option<FoundSizes>,
}

impl<A: Backend> Trained<A> {
    /// What another trial made, with its curve and what techniques did in it told again.
    fn found(stage: &'static str, model: Model<A>, result: StageResult, events: &mut dyn Events) -> Self {
        for (name, n) in &result.activity {
            counter::add_activity(name, *n as usize);
        }
        if !result.curve.is_empty() {
            events.report(result.curve);
        }
        Trained {
            model,
            record: result.record,
            spent: Record::default(),
            peak_bytes: result.peak_bytes,
            found: Some((stage, result.by)),
            main: result.main,
            from: 0,
            sizes: result.sizes,
        }
    }

    /// The same after this process has spent more on it.
    pub(crate) fn after(self, more: Record) -> Self {
        Trained {
            record: self.record.and(more),
            spent: self.spent.and(more),
            peak_bytes: process_peak_bytes().max(self.peak_bytes),
            ..self
        }
    }
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
    /// Where an earlier process, or a part of the training, has left off.
    pub(crate) fn checkpoint<B: Ops>(&self, backend: &B::Device) -> Option<Checkpoint<B>> {
        let find = |dir: &Path| Checkpoint::find(dir, backend);
        find(&self.checkpoints).or_else(|| find(&self.job.work_dir.join(START)))
    }

    /// Who hears of a training after the main one.
    pub(crate) fn listener<'e>(&self, events: &'e mut dyn Events) -> Recovery<'e> {
        Recovery {
            events,
            is_part: self.job.target < 1.0,
        }
    }

    /// One stretch of the training.
    pub(crate) fn stretch<'s>(&'s self, phase: &'s str, budget: Budget, earlier: Record) -> Stretch<'s> {
        Stretch {
            phase,
            plan: &self.plan.training,
            budget,
            tuning: None,
            rounding: None,
            thinning: None,
            batches: Batches::new(self.data, self.job.seed, &self.plan.training),
            checkpoints: &self.checkpoints,
            checkpoint_every: CHECKPOINT_EVERY,
            earlier,
            stop: None,
        }
    }

    /// Trains, prunes and recovers, from a checkpoint if there is one.
    pub(crate) fn train_and_prune<A>(
        &self,
        start: impl Fn(&ModelPlan) -> Result<Model<A>, EvaluationError>,
        mut resumed: Option<Checkpoint<A::InnerBackend>>,
        backend: &A::Device,
        energy: &mut dyn energy::Source,
        events: &mut dyn Events,
    ) -> Result<Trained<A>, EvaluationError>
    where
        A: AutodiffBackend + Ops,
        A::InnerBackend: Ops,
    {
        let plan = self.plan;
        let from = resumed.as_ref().map_or(0, |c| c.earlier.and(c.record).steps);
        let is_part = self.job.target < 1.0;
        // the curve of a training that goes on is not whole, and a part is no result
        let stages = self.stages.as_ref().filter(|_| from == 0 && !is_part);
        let batches = Batches::new(self.data, self.job.seed, &plan.training);
        let trained = |model, record: Record, main, peak_bytes: Option<u64>| Trained {
            model,
            record,
            spent: record,
            peak_bytes: process_peak_bytes().max(peak_bytes),
            found: None,
            main,
            from,
            sizes: None,
        };
        if let Some(checkpoint) = resumed.take_if(|c| c.phase == RECOVERY) {
            let teacher = match self.given_teacher(&plan.recovered(), backend)? {
                Some(teacher) => Some(teacher),
                None => self.teacher_from_file(backend)?,
            };
            let earlier = checkpoint.earlier;
            let budget = Budget::Steps(checkpoint.total_steps);
            let sizes = self.kept_sizes()?;
            let model = Model::new(&plan.sized(sizes.as_ref()).recovered(), self.job.seed, backend);
            let (model, record) = train(
                model,
                &self.stretch(RECOVERY, budget, earlier),
                teacher.as_ref(),
                Some(checkpoint),
                energy,
                &mut self.listener(events),
            )?;
            let main = plan.steps_to_share(earlier.steps, self.job.target);
            return Ok(Trained {
                sizes,
                ..trained(model, earlier.and(record), main, None)
            });
        }
        let mut events = Recording {
            events,
            curve: vec![],
        };
        let mut keep_pruned = None;
        if let (Some((shelf, keys)), Some(_)) = (stages, plan.pruning) {
            let empty = |result: &StageResult| {
                Model::<A>::empty(&plan.sized(result.sizes.as_ref()).recovered(), backend)
            };
            match shelf.find(&keys.pruned, empty, &mut events)? {
                Found::Made(model, result) => {
                    self.keep_sizes(result.sizes.as_ref())?;
                    return Ok(Trained::found("pruned", model, result, &mut events));
                }
                Found::Mine(claim) => keep_pruned = Some((*shelf, claim)),
            }
        }
        let aim = self.aim::<A::InnerBackend>(backend, &mut events)?;
        let mut keep_trained = None;
        let mut found = None;
        if let (Some((shelf, keys)), Some(_)) = (stages, plan.trainable()) {
            let empty = |_: &StageResult| Model::<A>::empty(&plan.model, backend);
            match shelf.find(&keys.trained, empty, &mut events)? {
                Found::Made(model, result) => {
                    found = Some(Trained::found("trained", model, result, &mut events));
                }
                Found::Mine(claim) => keep_trained = Some((*shelf, claim)),
            }
        }
        let mut sofar = match found {
            Some(found) => found,
            None => {
                let teacher = self.given_teacher(&plan.model, backend)?;
                let (model, record) = self.main(start, teacher.as_ref(), resumed, energy, &mut events)?;
                let main = plan.steps_to_share(record.steps, self.job.target);
                let mut made = trained(model, record, main, None);
                self.keep(keep_trained, &mut made, &mut events);
                made
            }
        };
        make_trainable(&mut sofar.model);
        let Some(pruning) = plan.pruning else {
            return Ok(sofar);
        };

        events.progress(Progress {
            phase: "prune".into(),
            ..Progress::default()
        });
        let (importance, mut judged) = Record::of(energy, || {
            pruning::judge(&mut sofar.model, pruning, &plan.model, &batches)
        })?;
        if let Some(aim) = &aim {
            let (sizes, more) = self.find_sizes(aim, &sofar.model, &importance, backend, energy, &events)?;
            self.keep_sizes(Some(&sizes))?;
            judged = judged.and(more);
            sofar.sizes = Some(sizes);
        }
        let plan = &plan.sized(sofar.sizes.as_ref());
        let whole = (plan.teacher.is_none() && plan.distillation.is_some()).then(|| sofar.model.valid());
        let kept = pruning::shrink(&mut sofar.model, &plan.served, &importance);
        let teacher = match (whole, plan.distillation) {
            (Some(whole), Some(lesson)) => Some(Teacher::new(whole, lesson, &plan.recovered(), Some(kept))),
            _ => self.given_teacher(&plan.recovered(), backend)?,
        };
        let ((), sliced) = Record::of(energy, || {
            if pruning.width > 0.0 {
                pruning::slice(&mut sofar.model, &plan.served, &batches);
            }
        })?;
        let judged = judged.and(sliced);
        let steps = plan.recovery_steps(sofar.main);
        let earlier = sofar.record.and(judged);
        let mut model = sofar.model;
        let mut more = judged;
        if steps > 0 {
            let recovery = self.stretch(RECOVERY, Budget::Steps(steps), earlier);
            if let Some(teacher) = &teacher {
                self.keep_teacher(teacher)?;
            }
            let mut listener = self.listener(&mut events);
            let (recovered, record) = train(model, &recovery, teacher.as_ref(), None, energy, &mut listener)?;
            (model, more) = (recovered, judged.and(record));
        }
        let mut pruned = Trained { model, ..sofar }.after(more);
        self.keep(keep_pruned, &mut pruned, &mut events);
        make_trainable(&mut pruned.model);
        Ok(pruned)
    }

    /// The training itself: additions attached, trained, merged.
    fn main<A>(
        &self,
        start: impl Fn(&ModelPlan) -> Result<Model<A>, EvaluationError>,
        teacher: Option<&Teacher<A::InnerBackend>>,
        resumed: Option<Checkpoint<A::InnerBackend>>,
        energy: &mut dyn energy::Source,
        events: &mut dyn Events,
    ) -> Result<(Model<A>, Record), EvaluationError>
    where
        A: AutodiffBackend + Ops,
        A::InnerBackend: Ops,
    {
        let plan = self.plan;
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
                stop: (self.job.target < 1.0).then_some(stop),
                tuning: plan.fine_tuning,
                ..self.stretch(MAIN, plan.training.budget, Record::default())
            };
            (model, record) = train(model, &main, teacher, resumed, energy, events)?;
        }
        if let Some(tuning) = plan.fine_tuning {
            tuning.finish(&mut model);
        }
        Ok((model, record))
    }

    /// Keeps what was made, where this trial is the one to make it.
    fn keep<A: Backend>(
        &self,
        claim: Option<(&Shelf, Claim)>,
        made: &mut Trained<A>,
        events: &mut Recording<'_>,
    ) {
        let Some((shelf, claim)) = claim else { return };
        let labels = &self.job.labels;
        let by = match (labels.get("trial"), labels.get("study")) {
            (Some(trial), Some(study)) => format!("trial {trial} of study '{study}'"),
            _ => "an earlier measurement".to_owned(),
        };
        let result = StageResult {
            record: made.record,
            main: made.main,
            activity: counter::activity(),
            peak_bytes: made.peak_bytes,
            curve: events.curve.clone(),
            by,
            sizes: made.sizes.clone(),
        };
        shelf.keep(claim, &mut made.model, &result, events.events);
    }
}

//! Sizes of layers that are found for a latency target, after the training and before what recovers it.

use std::{fs, path::PathBuf};

use burn::{module::AutodiffModule, tensor::backend::AutodiffBackend};
use spaces::protocol::Progress;

use crate::{
    EvaluationError, Events, counter, energy,
    model::{Model, ModelPlan},
    ops::Ops,
    stopwatch::Stopwatch,
    techniques::pruning::{
        Importance,
        latency::{ACTIVITY, FoundSizes, Target, TimeTable, losses},
    },
    trainer::Trainer,
    training::{Batches, Record},
};

/// Times models of other sizes beside the unpruned one.
type Clock<'t> = Box<dyn Fn(&ModelPlan) -> [f64; 2] + 't>;

/// The same, while somebody wants to know.
type Times<'t> = Box<dyn FnMut(&ModelPlan) -> Result<[f64; 2], EvaluationError> + 't>;

/// A target for a training, and what it rests on.
pub(crate) struct Aim {
    /// The share of the unpruned model's time.
    share: f64,
    table: TimeTable,
}

impl Trainer<'_> {
    /// What has models timed: the clock, or what is known already. A model that is to be timed when nobody wants it any more
    /// is not.
    fn times<'t, B: Ops>(&'t self, backend: &B::Device, events: &'t dyn Events) -> Times<'t> {
        let whole = &self.plan.served;
        let time: Clock<'t> = match self.job.times {
            Some(known) => Box::new(move |shape| [known(whole), known(shape)]),
            None => {
                let stopwatch = Stopwatch::<B>::new(self.plan, backend);
                Box::new(move |shape| stopwatch.time(shape))
            }
        };
        Box::new(move |shape| {
            if events.cancelled() {
                return Err(EvaluationError::Cancelled);
            }
            Ok(time(shape))
        })
    }

    /// Times sizes, where the plan has a target: before the training, so that one that cannot be met costs none.
    pub(crate) fn aim<B: Ops>(
        &self,
        backend: &B::Device,
        events: &mut dyn Events,
    ) -> Result<Option<Aim>, EvaluationError> {
        let Some(target) = self.target() else {
            return Ok(None);
        };
        events.progress(Progress {
            phase: "time sizes".into(),
            ..Progress::default()
        });
        let table = TimeTable::measure(&self.plan.served, &mut *self.times::<B>(backend, events))?;
        let share = target.share(&table).map_err(EvaluationError::Invalid)?;
        Ok(Some(Aim { share, table }))
    }

    fn target(&self) -> Option<Target> {
        self.plan.pruning.and_then(|pruning| pruning.latency)
    }

    /// The sizes for a target that lose least, and what finding them took. Times are not charged, as none of a meter's are.
    pub(crate) fn find_sizes<A>(
        &self,
        Aim { share, table }: &Aim,
        model: &Model<A>,
        importance: &Importance,
        backend: &A::Device,
        energy: &mut dyn energy::Source,
        events: &dyn Events,
    ) -> Result<(FoundSizes, Record), EvaluationError>
    where
        A: AutodiffBackend + Ops,
        A::InnerBackend: Ops,
    {
        let batches = Batches::new(self.data, self.job.seed, &self.plan.training);
        let mut go_on = || match events.cancelled() {
            true => Err(EvaluationError::Cancelled),
            false => Ok(()),
        };
        let (losses, record) = Record::of(energy, || {
            let judged = (&model.valid(), &self.plan.model);
            losses(judged, importance, table, &batches, &mut go_on)
        })?;
        let mut times = self.times::<A::InnerBackend>(backend, events);
        let served = &self.plan.served;
        let found = FoundSizes::find(served, table, &losses?, *share, &mut *times)?
            .expect("a target that no sizes meet was refused before");
        counter::add_activity(ACTIVITY, found.removed(served));
        Ok((found, record))
    }

    /// Where the sizes lie that were found, while what follows may have to go on from a checkpoint.
    fn sizes_file(&self) -> PathBuf {
        self.job.work_dir.join(SIZES)
    }

    /// Keeps the sizes for a training that may have to go on.
    pub(crate) fn keep_sizes(&self, sizes: Option<&FoundSizes>) -> Result<(), EvaluationError> {
        let Some(sizes) = sizes else { return Ok(()) };
        let (file, part) = (self.sizes_file(), self.job.work_dir.join("sizes.part"));
        let text = serde_json::to_string(sizes).expect("plain data serialises");
        fs::write(&part, text)
            .and_then(|()| fs::rename(&part, &file))
            .map_err(|source| EvaluationError::Disk {
                path: file.display().to_string(),
                source,
            })
    }

    /// The same sizes again, where the plan has some found.
    pub(crate) fn kept_sizes(&self) -> Result<Option<FoundSizes>, EvaluationError> {
        if self.target().is_none() {
            return Ok(None);
        }
        let file = self.sizes_file();
        let read = fs::read_to_string(&file).and_then(|text| Ok(serde_json::from_str(&text)?));
        read.map(Some).map_err(|source| EvaluationError::Disk {
            path: file.display().to_string(),
            source,
        })
    }
}

/// The file with the sizes that were found.
pub(crate) const SIZES: &str = "sizes.json";

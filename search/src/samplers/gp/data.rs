//! The trials that the processes learn from.

use spaces::{Candidate, Space};

use crate::{History, Outcome, Pending, Problem, Rung, Trial, problem::value, ranking};

/// Most results that a process learns from: what it costs grows with their cube.
const MOST: usize = 160;
/// Trials for which what they are learnt with stays the same, where there are more of them than that.
const STRETCH: usize = 32;
/// Trials that the process for success learns from.
const ATTEMPTS: usize = 120;
/// The first readings, which settle where known objectives lie.
const FIRST: usize = 16;
/// Fewest trials that have children among the candidates.
const PARENTS: usize = 12;

/// Values of a trial, at the end of its training or at a part of it.
pub(super) struct Reading<'h> {
    /// Less being better.
    pub(super) values: &'h [f64],
    /// The limited metrics, in the order of the limits.
    pub(super) limited: Vec<f64>,
    /// The trial, if this is its end.
    pub(super) trial: Option<&'h Trial>,
}

/// What coordinates end with, beyond those of the space.
#[derive(Clone, Debug)]
pub(super) struct Extras {
    /// The part of the training, where some trials were trained in part.
    partial: bool,
    /// Known objectives, with the least value and the range among the first readings: what costs a model is close to
    /// what decides its quality, so the processes learn faster from it than from the parameters alone.
    known: Vec<(usize, f64, f64)>,
}

impl Extras {
    fn new(problem: &Problem, partial: bool, readings: &[Reading<'_>]) -> Extras {
        let range = |k: usize| {
            // of the first ones alone, so that coordinates stay where they are
            let first = || readings.iter().take(FIRST).map(|r| r.values[k]);
            let (least, most) = (
                first().fold(f64::INFINITY, f64::min),
                first().fold(f64::NEG_INFINITY, f64::max),
            );
            let range = most - least;
            (range > 0.0 && range.is_finite()).then_some((k, least, range))
        };
        let objectives = problem.objectives.iter().enumerate();
        let known = objectives
            .filter(|(_, o)| o.known_before_training)
            .filter_map(|(k, _)| range(k))
            .collect();
        Extras { partial, known }
    }

    /// Number of further coordinates.
    pub(super) fn len(&self) -> usize {
        usize::from(self.partial) + self.known.len()
    }

    /// The coordinates of a candidate at a part of its training, given what is known of its objectives.
    pub(super) fn encode(
        &self,
        space: &Space,
        candidate: &Candidate,
        part: f64,
        known: impl Fn(usize) -> Option<f64>,
    ) -> Vec<Option<f64>> {
        let mut unit = space.encode(candidate);
        unit.extend(self.partial.then_some(Some(part)));
        let place = |(k, least, range): &(usize, f64, f64)| Some((known(*k)? - least) / range);
        unit.extend(self.known.iter().map(place));
        unit
    }
}

/// What is learnt from, with unit coordinates (`None` where inactive).
pub(super) struct Data<'h> {
    pub(super) extras: Extras,
    /// Trials with a result in finish order, then parts of trainings.
    pub(super) readings: Vec<Reading<'h>>,
    /// Their coordinates.
    pub(super) units: Vec<Vec<Option<f64>>>,
    /// Trials under way.
    pub(super) pending: Vec<&'h Pending>,
    pub(super) pending_units: Vec<Vec<Option<f64>>>,
    /// Coordinates in the space of the latest trials that came to an end, and whether it was without a result.
    pub(super) attempts: Vec<(Vec<Option<f64>>, bool)>,
    /// Coordinates of the best trials, whole ranks of them, in the space alone.
    pub(super) parents: Vec<Vec<Option<f64>>>,
}

/// Number of readings that there are to learn from.
pub(super) fn readings(problem: &Problem, history: &History) -> usize {
    history.values().count() + parts(problem, history).count()
}

/// What trainings had come to at their last part, with that part.
fn parts<'h>(problem: &Problem, history: &'h History) -> impl Iterator<Item = (&'h Candidate, &'h Rung)> {
    let done = history.trials().iter().map(|t| (&t.candidate, &t.rungs));
    let pending = history
        .pending()
        .iter()
        .map(|p| (&p.proposal.candidate, &p.rungs));
    let limits = problem.limits.len();
    let last = |(candidate, rungs): (&'h Candidate, &'h Vec<Rung>)| Some((candidate, rungs.last()?));
    let has_limited = move |(_, rung): &(&Candidate, &Rung)| rung.limited.len() == limits;
    done.chain(pending).filter_map(last).filter(has_limited)
}

impl<'h> Data<'h> {
    /// Every reading, or of many the best, the latest and some of all times.
    pub(super) fn new(problem: &Problem, history: &'h History) -> Data<'h> {
        let trials = chosen(history);
        let mut parts: Vec<(&Candidate, &Rung)> = parts(problem, history).collect();
        parts.drain(..parts.len().saturating_sub(MOST / 2));
        let whole = |trial: &'h Trial| {
            let Outcome::Measured(metrics) = &trial.outcome else {
                return None;
            };
            Some(Reading {
                values: trial.values.as_deref()?,
                limited: problem.limited(metrics),
                trial: Some(trial),
            })
        };
        let part = |(_, rung): &(&Candidate, &'h Rung)| Reading {
            values: &rung.values,
            limited: rung.limited.clone(),
            trial: None,
        };
        let mut readings: Vec<Reading<'h>> = trials.iter().copied().filter_map(whole).collect();
        readings.extend(parts.iter().map(part));
        let extras = Extras::new(problem, !parts.is_empty(), &readings);
        let space = &problem.space;
        let whole_units = trials.iter().map(|t| (&t.candidate, 1.0));
        let placed = whole_units.chain(parts.iter().map(|(candidate, rung)| (*candidate, rung.fidelity)));
        let units = placed.zip(&readings).map(|((candidate, part), reading)| {
            extras.encode(space, candidate, part, |k| Some(reading.values[k]))
        });
        let units = units.collect();
        let best = ranking::ranks(history.trials(), PARENTS)
            .into_iter()
            .flatten()
            .map(|t| &t.candidate);
        let mut parents: Vec<_> = best.map(|c| problem.space.encode(c)).collect();
        if parents.is_empty() {
            parents.extend(parts.iter().map(|(candidate, _)| problem.space.encode(candidate)));
        }
        let mut ended: Vec<&Trial> = history
            .trials()
            .iter()
            .rev()
            .filter(|t| t.outcome != Outcome::Pruned)
            .take(ATTEMPTS)
            .collect();
        ended.reverse();
        // a trial that rests is not on its way to a result
        let pending: Vec<&Pending> = history.pending().iter().filter(|p| p.target.is_some()).collect();
        let pending_unit = |p: &&Pending| {
            let known = |k: usize| value(&problem.objectives[k], &p.proposal.known);
            extras.encode(space, &p.proposal.candidate, 1.0, known)
        };
        Data {
            readings,
            units,
            pending_units: pending.iter().map(pending_unit).collect(),
            pending,
            attempts: ended
                .into_iter()
                .map(|t| (space.encode(&t.candidate), t.values.is_none()))
                .collect(),
            parents,
            extras,
        }
    }
}

/// The trials with a result that are learnt from, in finish order.
///
/// Of many, what was known at the start of the present stretch is chosen from, and all that came since is added: what is
/// fitted to the chosen ones stays of use until the next stretch.
fn chosen(history: &History) -> Vec<&Trial> {
    let usable: Vec<&Trial> = history.trials().iter().filter(|t| t.values.is_some()).collect();
    if usable.len() <= MOST {
        return usable;
    }
    let recent = (usable.len() - MOST) % STRETCH;
    let (n, room) = (usable.len() - recent, MOST - STRETCH);
    let best = ranking::parents(usable[..n].iter().copied(), room / 2);
    let mut chosen: Vec<u32> = best.iter().map(|p| p.trial.number).collect();
    // the latest then, and all since
    chosen.extend(usable[n - room / 4..].iter().map(|t| t.number));
    chosen.extend((0..room / 4).map(|i| usable[i * 4 * n / room].number));
    chosen.sort_unstable();
    usable
        .into_iter()
        .filter(|t| chosen.binary_search(&t.number).is_ok())
        .collect()
}

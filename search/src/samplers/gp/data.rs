//! The trials that the processes learn from.

use spaces::Candidate;

use crate::{History, Outcome, Pending, Problem, Rung, Trial, ranking};

/// Most results that a process learns from: what it costs grows with their cube.
const MOST: usize = 160;
/// Trials that the process for success learns from.
const ATTEMPTS: usize = 120;
/// Fewest trials that have children among the candidates.
const PARENTS: usize = 12;

/// Values of a trial, at the end of its training or at a part of it.
pub(super) struct Reading<'h> {
    /// Less being better.
    pub(super) values: &'h [f64],
    /// The trial, if this is its end.
    pub(super) trial: Option<&'h Trial>,
}

/// What is learnt from, with unit coordinates (`None` where inactive).
pub(super) struct Data<'h> {
    /// Whether trials trained in part are among the readings: coordinates then end with the part.
    pub(super) partial: bool,
    /// Trials with a result in finish order, then parts of trainings.
    pub(super) readings: Vec<Reading<'h>>,
    /// Their coordinates.
    pub(super) units: Vec<Vec<Option<f64>>>,
    /// Trials under way.
    pub(super) pending: Vec<&'h Pending>,
    pub(super) pending_units: Vec<Vec<Option<f64>>>,
    /// Coordinates of the latest trials that came to an end, and whether it was without a result.
    pub(super) attempts: Vec<(Vec<Option<f64>>, bool)>,
    /// Coordinates of the best trials, whole ranks of them, without the part.
    pub(super) parents: Vec<Vec<Option<f64>>>,
}

/// Number of readings that there are to learn from.
pub(super) fn readings(problem: &Problem, history: &History) -> usize {
    history.values().count() + parts(problem, history).count()
}

/// What trainings had come to at their last part, with that part.
///
/// Parts tell nothing of limited metrics, so where something is limited only whole trainings are learnt from.
fn parts<'h>(problem: &Problem, history: &'h History) -> impl Iterator<Item = (&'h Candidate, &'h Rung)> {
    let done = history.trials().iter().map(|t| (&t.candidate, &t.rungs));
    let pending = history
        .pending()
        .iter()
        .map(|p| (&p.proposal.candidate, &p.rungs));
    let wanted = problem.limits.is_empty();
    let last = |(candidate, rungs): (&'h Candidate, &'h Vec<Rung>)| Some((candidate, rungs.last()?));
    done.chain(pending).filter_map(last).filter(move |_| wanted)
}

impl<'h> Data<'h> {
    /// Every reading, or of many the best, the latest and some of all times.
    pub(super) fn new(problem: &Problem, history: &'h History) -> Data<'h> {
        let trials = chosen(history);
        let mut parts: Vec<(&Candidate, &Rung)> = parts(problem, history).collect();
        parts.drain(..parts.len().saturating_sub(MOST / 2));
        let partial = !parts.is_empty();
        let encode = |candidate: &Candidate, part: f64| {
            let mut unit = problem.space.encode(candidate);
            unit.extend(partial.then_some(Some(part)));
            unit
        };
        let mut units: Vec<_> = trials.iter().map(|t| encode(&t.candidate, 1.0)).collect();
        units.extend(
            parts
                .iter()
                .map(|(candidate, rung)| encode(candidate, rung.fidelity)),
        );
        let whole = |trial: &'h Trial| {
            let values = trial.values.as_deref()?;
            Some(Reading {
                values,
                trial: Some(trial),
            })
        };
        let part = |(_, rung): &(&Candidate, &'h Rung)| Reading {
            values: &rung.values,
            trial: None,
        };
        let mut readings: Vec<Reading<'h>> = trials.into_iter().filter_map(whole).collect();
        readings.extend(parts.iter().map(part));
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
        Data {
            partial,
            readings,
            units,
            pending_units: pending
                .iter()
                .map(|p| encode(&p.proposal.candidate, 1.0))
                .collect(),
            pending,
            attempts: ended
                .into_iter()
                .map(|t| (encode(&t.candidate, 1.0), t.values.is_none()))
                .collect(),
            parents,
        }
    }
}

/// The trials with a result that are learnt from, in finish order.
fn chosen(history: &History) -> Vec<&Trial> {
    let usable: Vec<&Trial> = history.trials().iter().filter(|t| t.values.is_some()).collect();
    if usable.len() <= MOST {
        return usable;
    }
    let (n, quarter) = (usable.len(), MOST / 4);
    let best = ranking::parents(history.trials(), MOST / 2);
    let mut chosen: Vec<u32> = best.iter().map(|p| p.trial.number).collect();
    chosen.extend(usable[n - quarter..].iter().map(|t| t.number));
    chosen.extend((0..quarter).map(|i| usable[i * n / quarter].number));
    chosen.sort_unstable();
    usable
        .into_iter()
        .filter(|t| chosen.binary_search(&t.number).is_ok())
        .collect()
}

//! Where every trial of a study stands, as rules see it.

use super::{Decision, ranking};
use crate::{History, Outcome, Problem, Rung};

/// The parts of the full training at which trials are judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Ladder {
    /// Ascending parts of the full training; the last is 1.
    pub steps: Vec<f64>,
    /// One in so many is promoted.
    pub eta: u32,
}

impl Ladder {
    /// Every trial is trained in full.
    pub fn full() -> Ladder {
        Ladder {
            steps: vec![1.0],
            eta: 2,
        }
    }

    /// Index of the last step, at which a trial is fully trained.
    pub fn top(&self) -> usize {
        self.steps.len() - 1
    }

    /// Training from the step before up to that one, in trainings of full length.
    pub fn cost(&self, rung: usize) -> f64 {
        let before = rung.checked_sub(1).map_or(0.0, |before| self.steps[before]);
        self.steps[rung] - before
    }

    /// Training from that step to the end, in trainings of full length.
    pub(super) fn rest(&self, rung: usize) -> f64 {
        1.0 - self.steps[rung]
    }

    /// What rules spend for each configuration that stop those behind: at least the first step, at most all.
    pub(super) fn first_or_all(&self) -> (f64, f64) {
        (self.steps[0], 1.0)
    }

    fn index(&self, fidelity: f64) -> Option<usize> {
        // the steps of a study never change, so its results carry the very same numbers
        self.steps.iter().position(|step| *step == fidelity)
    }
}

/// What a trial is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for a worker or is trained.
    Running,
    /// Has results and may be promoted.
    Resting,
    /// Was stopped where it rested.
    Stopped,
    /// Is over: fully trained, or failed on the way.
    Over,
}

/// A trial on the ladder.
#[derive(Clone, Debug)]
pub struct Entrant<'a> {
    /// Its number within the study.
    pub number: u32,
    /// What it is doing.
    pub state: State,
    /// Its results below the last step.
    pub rungs: &'a [Rung],
    /// Its results when fully trained, with how far it breaks the limits.
    pub full: Option<(&'a [f64], f64)>,
    /// Index of the last step it has results of.
    pub reached: Option<usize>,
    committed: f64,
}

impl Entrant<'_> {
    /// Its result at the step of that fidelity.
    pub fn at(&self, fidelity: f64) -> Option<&Rung> {
        self.rungs.iter().find(|r| r.fidelity == fidelity)
    }

    /// Whether it was sent on from that step.
    pub fn is_promoted_from(&self, rung: usize) -> bool {
        match self.reached {
            Some(reached) if reached == rung => matches!(self.state, State::Running | State::Over),
            Some(reached) => reached > rung,
            None => false,
        }
    }

    /// Whether it waits at that step.
    pub(super) fn rests_at(&self, rung: usize) -> bool {
        self.state == State::Resting && self.reached == Some(rung)
    }
}

/// Where every trial of a study stands.
#[derive(Debug)]
pub struct Standing<'a> {
    /// What is searched.
    pub problem: &'a Problem,
    /// The steps.
    pub ladder: &'a Ladder,
    /// Every trial, by number.
    pub entrants: Vec<Entrant<'a>>,
    /// Whether a new configuration may begin.
    pub room: bool,
}

impl<'a> Standing<'a> {
    /// Gathers a history's trials.
    pub fn new(problem: &'a Problem, history: &'a History, ladder: &'a Ladder, room: bool) -> Self {
        let reached = |rungs: &[Rung]| rungs.last().and_then(|r| ladder.index(r.fidelity));
        let finished = history.trials().iter().map(|trial| {
            let last = reached(&trial.rungs);
            let full = trial.values.as_deref().map(|values| (values, trial.violation));
            let spent = |rung: Option<usize>| rung.map_or(0.0, |rung| ladder.steps[rung]);
            Entrant {
                number: trial.number,
                state: match trial.outcome {
                    Outcome::Pruned => State::Stopped,
                    _ => State::Over,
                },
                rungs: &trial.rungs,
                full,
                reached: if full.is_some() { Some(ladder.top()) } else { last },
                committed: match trial.outcome {
                    Outcome::Measured(_) => 1.0,
                    Outcome::Infeasible => 0.0,
                    Outcome::Pruned => spent(last),
                    // how far it came is not known: at most to the next step
                    Outcome::Failed => spent(Some(last.map_or(0, |l| (l + 1).min(ladder.top())))),
                },
            }
        });
        let pending = history.pending().iter().map(|trial| Entrant {
            number: trial.number,
            state: if trial.target.is_some() {
                State::Running
            } else {
                State::Resting
            },
            rungs: &trial.rungs,
            full: None,
            reached: reached(&trial.rungs),
            committed: trial
                .target
                .unwrap_or(trial.rungs.last().map_or(0.0, |r| r.fidelity)),
        });
        let mut entrants: Vec<Entrant<'_>> = finished.chain(pending).collect();
        entrants.sort_by_key(|e| e.number);
        Standing {
            problem,
            ladder,
            entrants,
            room,
        }
    }

    /// Training spent or on its way, in trainings of full length.
    pub fn committed(&self) -> f64 {
        self.entrants.iter().map(|e| e.committed).sum()
    }

    /// The trials with a result at a step below the last, with it, by number.
    pub fn results(&self, rung: usize) -> impl Iterator<Item = (&Entrant<'a>, &Rung)> {
        let fidelity = self.ladder.steps[rung];
        self.entrants
            .iter()
            .filter_map(move |e| Some((e, e.at(fidelity)?)))
    }

    /// The trials that rest, highest step first, then by number.
    pub fn resting(&self) -> Vec<&Entrant<'a>> {
        let mut resting: Vec<&Entrant<'a>> = self
            .entrants
            .iter()
            .filter(|e| e.state == State::Resting && e.reached.is_some())
            .collect();
        resting.sort_by_key(|e| (std::cmp::Reverse(e.reached), e.number));
        resting
    }

    /// Sends the trial that came furthest on, or ends it where it `is_behind` at its step; starts one where none rests.
    pub(super) fn stop_or_promote(&self, is_behind: impl Fn(&Entrant<'a>, usize) -> bool) -> Decision {
        let Some((entrant, rung)) = self.resting().first().and_then(|e| Some((*e, e.reached?))) else {
            return self.start_or_wait(0);
        };
        if is_behind(entrant, rung) {
            return Decision::Stop(entrant.number);
        }
        Decision::Promote {
            number: entrant.number,
            rung: rung + 1,
        }
    }

    /// A start where there is room for one.
    pub fn start_or_wait(&self, rung: usize) -> Decision {
        if self.room {
            Decision::Start { rung }
        } else {
            Decision::Wait
        }
    }

    /// [`Standing::best_resting`], if nothing was or is being trained in full.
    pub(super) fn last_resort(&self, training: f64) -> Decision {
        let busy = |e: &Entrant<'_>| e.state == State::Running || e.full.is_some();
        if self.entrants.iter().any(busy) {
            return Decision::Wait;
        }
        self.best_resting(training)
    }

    /// Promotes the best of those that came furthest among the ones that so much training brings to the end.
    pub(super) fn best_resting(&self, training: f64) -> Decision {
        let reachable = (0..self.ladder.top())
            .rev()
            .filter(|rung| self.ladder.rest(*rung) <= training);
        for rung in reachable {
            let (entrants, results): (Vec<_>, Vec<_>) = self.results(rung).unzip();
            let is_free = |i: usize| entrants[i].rests_at(rung);
            if let Some(best) = ranking::best_where(&results, is_free) {
                return Decision::Promote {
                    number: entrants[best].number,
                    rung: rung + 1,
                };
            }
        }
        Decision::Wait
    }
}

//! What has been tried and what is being tried, as samplers see it.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
};

use serde::{Deserialize, Serialize};
use spaces::{Candidate, Space};

use crate::{Problem, Proposal};

/// Trials that say how long one takes: enough for a middle, few enough to follow a change.
const LATEST: usize = 25;

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Final values by metric, in the direction in which they are measured.
    Measured(BTreeMap<String, f64>),
    /// Ended by an error.
    Failed,
    /// Refused before training.
    Infeasible,
    /// Ended before it was fully trained, by the search.
    Pruned,
}

/// What a trial came to at a part of its full training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// The part of the full training, below 1.
    pub fidelity: f64,
    /// The objectives turned so that less is better; metrics known before training have their final values.
    pub values: Vec<f64>,
    /// How far the limits are broken.
    pub violation: f64,
    /// The limited metrics, in the order of the limits; empty in records from before they were kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limited: Vec<f64>,
    /// Validation loss on the way here from the start, by part of the full training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<(f64, f64)>,
}

/// A finished trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its number within the study.
    pub number: u32,
    /// What was tried.
    pub candidate: Candidate,
    /// How it ended; values that are not finite are dropped.
    pub outcome: Outcome,
    /// The objectives turned so that less is better; `None` where the trial has no usable result.
    pub values: Option<Vec<f64>>,
    /// How far the limits are broken, 0 where they are kept or there is no result.
    pub violation: f64,
    /// Its results on the way, by ascending fidelity; `values` has those of the full training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rungs: Vec<Rung>,
    /// How long it ran, in seconds, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// A trial that waits or runs, or rests at a part of its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// Its number within the study.
    pub number: u32,
    /// What was proposed, with what is known about it.
    pub proposal: Proposal,
    /// The part of the full training it is on its way to; `None` while it rests until it is promoted or stopped.
    #[serde(default = "full")]
    pub target: Option<f64>,
    /// Its results so far, by ascending fidelity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rungs: Vec<Rung>,
}

/// Records from before there were rungs: every trial was trained in full.
#[expect(clippy::unnecessary_wraps, reason = "the default of an optional field")]
fn full() -> Option<f64> {
    Some(1.0)
}

/// Finished trials in finish order, and pending ones.
///
/// The controller keeps one and pushes; samplers only read it. A trial whose result lacks an objective or a
/// limited metric, or has NaN or infinity there, counts as failed: nothing can be learnt from it but to avoid it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Record")]
pub struct History {
    trials: Vec<Trial>,
    pending: Vec<Pending>,
    /// How often each point, by its key, is finished or pending.
    #[serde(skip)]
    seen: HashMap<u128, u32>,
    /// For each finished trial, a digest of all results up to it.
    #[serde(skip)]
    digests: Vec<u64>,
}

/// [`History`] as it is read back, before its index is built.
#[derive(Deserialize)]
struct Record {
    trials: Vec<Trial>,
    pending: Vec<Pending>,
}

impl From<Record> for History {
    fn from(Record { trials, pending }: Record) -> Self {
        let mut history = History::default();
        let candidates = trials.iter().map(|t| &t.candidate);
        for candidate in candidates.chain(pending.iter().map(|p| &p.proposal.candidate)) {
            history.see(candidate);
        }
        trials.iter().for_each(|trial| history.digest(trial));
        History {
            trials,
            pending,
            ..history
        }
    }
}

impl History {
    /// Finished trials in finish order.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// Trials that wait, run or rest, in the order in which they were proposed.
    pub fn pending(&self) -> &[Pending] {
        &self.pending
    }

    /// Number of trials, finished or pending.
    pub fn len(&self) -> usize {
        self.trials.len() + self.pending.len()
    }

    /// Whether nothing has been tried.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the candidate of this key is finished or pending.
    pub fn contains(&self, key: u128) -> bool {
        self.seen.contains_key(&key)
    }

    /// Notes that a proposal became trial `number`.
    pub fn start(&mut self, problem: &Problem, number: u32, proposal: Proposal) {
        let proposal = Proposal {
            candidate: canonical(&problem.space, proposal.candidate),
            ..proposal
        };
        self.see(&proposal.candidate);
        self.insert(number, proposal, full());
    }

    /// Notes to which part of its full training a pending trial is on its way: at its start, and at a promotion.
    pub fn train_to(&mut self, number: u32, target: f64) {
        if let Some(pending) = self.pending_mut(number) {
            pending.target = Some(target);
        }
    }

    /// Notes the results of a trial at a part of its training, at which it now rests.
    ///
    /// A result that lacks an objective or a limited metric is no rung: such a trial rests for good.
    pub fn reach(
        &mut self,
        problem: &Problem,
        number: u32,
        proposal: &Proposal,
        fidelity: f64,
        mut metrics: BTreeMap<String, f64>,
        curve: Vec<(f64, f64)>,
    ) {
        if self.pending_mut(number).is_none() {
            // a history that is read again meets the trial here for the first time
            self.start(problem, number, proposal.clone());
        }
        // what is known is known of the whole training, what was counted is of its part
        metrics.extend(proposal.known.clone());
        let judged = problem.minimised(&metrics).zip(problem.violation(&metrics));
        let limited = problem.limited(&metrics);
        if let Some(pending) = self.pending_mut(number) {
            pending.target = None;
            pending.rungs.extend(judged.map(|(values, violation)| Rung {
                fidelity,
                values,
                violation,
                limited,
                curve,
            }));
        }
    }

    /// Forgets a pending trial that never ran, so that its point may be proposed again.
    pub fn cancel(&mut self, number: u32) {
        if let Some(pending) = self.take_pending(number) {
            self.unsee(&pending.proposal.candidate);
        }
    }

    /// Adds a finished trial; if it was pending, it no longer is, and what was known about it fills its gaps.
    pub fn push(&mut self, problem: &Problem, number: u32, candidate: Candidate, outcome: Outcome) {
        let candidate = canonical(&problem.space, candidate);
        let (mut known, mut rungs) = (BTreeMap::new(), Vec::new());
        let mut proposed = None;
        if let Some(pending) = self.take_pending(number) {
            (known, rungs) = (pending.proposal.known, pending.rungs);
            proposed = Some(pending.proposal.candidate);
        }
        // nearly always it is what was proposed, and seen already
        if proposed.as_ref() != Some(&candidate) {
            proposed.iter().for_each(|other| self.unsee(other));
            self.see(&candidate);
        }
        let outcome = match outcome {
            Outcome::Measured(metrics) => {
                known.extend(metrics.into_iter().filter(|(_, v)| v.is_finite()));
                Outcome::Measured(known)
            }
            other => other,
        };
        let judged = match &outcome {
            Outcome::Measured(metrics) => problem.minimised(metrics).zip(problem.violation(metrics)),
            Outcome::Failed | Outcome::Infeasible | Outcome::Pruned => None,
        };
        let (values, violation) = judged.map_or((None, 0.0), |(values, v)| (Some(values), v));
        let trial = Trial {
            number,
            candidate,
            outcome,
            values,
            violation,
            rungs,
            seconds: None,
        };
        self.digest(&trial);
        self.trials.push(trial);
    }

    /// Notes how long the trial that was pushed last ran, in seconds, where that is known.
    pub fn ran_for(&mut self, seconds: Option<f64>) {
        if let Some(trial) = self.trials.last_mut() {
            trial.seconds = seconds;
        }
    }

    /// Middle of how long the latest trials ran, in seconds; `None` where it is not known of any.
    pub(crate) fn trial_seconds(&self) -> Option<f64> {
        let known = self.trials.iter().rev().filter_map(|t| t.seconds);
        let mut latest: Vec<f64> = known.take(LATEST).collect();
        latest.sort_unstable_by(f64::total_cmp);
        latest.get(latest.len() / 2).copied()
    }

    /// Tells apart what came out of the first `count` trials: samplers that go on from there know by it that they may.
    pub(crate) fn digest_of_first(&self, count: usize) -> Option<u64> {
        match count.checked_sub(1) {
            Some(last) => self.digests.get(last).copied(),
            None => Some(0),
        }
    }

    fn digest(&mut self, trial: &Trial) {
        let mut hasher = DefaultHasher::new();
        (self.digests.last(), trial.number, trial.violation.to_bits()).hash(&mut hasher);
        let values = trial.values.as_deref().unwrap_or_default();
        values.iter().for_each(|v| v.to_bits().hash(&mut hasher));
        self.digests.push(hasher.finish());
    }

    /// Minimised objective values of the trials that have a result, in finish order.
    pub fn values(&self) -> impl Iterator<Item = &[f64]> {
        self.trials.iter().filter_map(|t| t.values.as_deref())
    }

    fn take_pending(&mut self, number: u32) -> Option<Pending> {
        let at = self.pending.binary_search_by_key(&number, |p| p.number).ok()?;
        Some(self.pending.remove(at))
    }

    fn pending_mut(&mut self, number: u32) -> Option<&mut Pending> {
        let at = self.pending.binary_search_by_key(&number, |p| p.number).ok()?;
        Some(&mut self.pending[at])
    }

    fn insert(&mut self, number: u32, proposal: Proposal, target: Option<f64>) {
        let at = self.pending.partition_point(|p| p.number < number);
        let pending = Pending {
            number,
            proposal,
            target,
            rungs: Vec::new(),
        };
        self.pending.insert(at, pending);
    }

    fn see(&mut self, candidate: &Candidate) {
        *self.seen.entry(candidate.key()).or_default() += 1;
    }

    fn unsee(&mut self, candidate: &Candidate) {
        let key = candidate.key();
        if let Some(count) = self.seen.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.seen.remove(&key);
            }
        }
    }
}

/// The candidate with each value in its domain's own type, so that a point read back from JSON is the same point.
fn canonical(space: &Space, mut candidate: Candidate) -> Candidate {
    for (name, value) in &mut candidate.values {
        if let Some(own) = space.get(name).and_then(|p| p.domain.canonical(value)) {
            *value = own;
        }
    }
    candidate
}

#[cfg(test)]
mod tests;

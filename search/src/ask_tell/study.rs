//! One study of a conversation.

use std::collections::{HashMap, HashSet};

use spaces::Candidate;

use super::{
    Driver, MOST_TRIALS, Refusal,
    cheap::{CheapOracle, Memory},
    create,
    message::{BestTrial, Create, ObjectiveEntry, ProposedTrial, TrialResult},
};
use crate::{Ask, History, Outcome, Problem, Sampler, Trial, front, hypervolume, reference_point};

/// One study of a conversation: what was proposed, what was told, and how to go on.
pub(super) struct Study {
    name: String,
    problem: Problem,
    objectives: Vec<ObjectiveEntry>,
    /// Names of the objectives that the driver knows beforehand.
    cheap: Vec<String>,
    sampler: Box<dyn Sampler + Send>,
    history: History,
    memory: Memory,
    /// Proposed first: each is the trial whose id is its place.
    starting_points: Vec<Candidate>,
    /// Number of trials of an earlier study; they stand before ours in the history.
    earlier: u32,
    /// Id of the next trial.
    next: u32,
    /// Trials that were proposed and not told.
    waiting: HashMap<u32, Candidate>,
}

impl Study {
    /// Opens a study.
    pub(super) fn new(create: Create) -> Result<Study, Refusal> {
        create::check_budget(&create)?;
        let problem = create::problem(&create)?.up_to(create::reference(&create)?);
        let earlier = create::earlier(&create, &problem.space)?;
        let cheap = create.objectives.iter().filter(|o| o.cheap);
        let mut study = Study {
            sampler: create::method(&create)?,
            starting_points: create::starting_points(&create, &problem.space)?,
            cheap: cheap.map(|o| o.name.clone()).collect(),
            history: History::default(),
            memory: Memory::default(),
            earlier: earlier.len() as u32,
            next: 0,
            waiting: HashMap::new(),
            name: create.study,
            objectives: create.objectives,
            problem,
        };
        for (number, (candidate, outcome)) in (0..).zip(earlier) {
            study.history.push(&study.problem, number, candidate, outcome);
        }
        Ok(study)
    }

    /// Proposes `n` trials; fewer where the space is used up in between.
    pub(super) fn ask(&mut self, n: u64, driver: &mut dyn Driver) -> Result<Vec<ProposedTrial>, Refusal> {
        if n == 0 || n > MOST_TRIALS {
            return Err(Refusal::Count(n));
        }
        let first = self.next;
        let mut trials = Vec::new();
        for _ in 0..n {
            match self.propose(driver) {
                Ok(trial) => trials.push(trial),
                Err(Refusal::Ask(_)) if !trials.is_empty() => break,
                Err(refusal) => {
                    self.take_back(first);
                    return Err(refusal);
                }
            }
        }
        Ok(trials)
    }

    fn propose(&mut self, driver: &mut dyn Driver) -> Result<ProposedTrial, Refusal> {
        let id = self.next;
        let number = self.earlier.checked_add(id).filter(|n| *n < u32::MAX);
        let number = number.ok_or_else(|| Refusal::Full(self.name.clone()))?;
        let mut oracle = CheapOracle {
            study: &self.name,
            names: &self.cheap,
            memory: &mut self.memory,
            driver,
            fault: None,
        };
        let proposal = match self.starting_points.get(id as usize) {
            Some(candidate) => oracle.proposal(candidate),
            None => self
                .sampler
                .ask(&mut Ask::new(&self.problem, &self.history, &mut oracle, number)),
        };
        // an oracle without answers ends the proposal with an error that says less
        if let Some(fault) = oracle.fault {
            return Err(fault);
        }
        let proposal = proposal?;
        let params = proposal.candidate.clone();
        self.history.start(&self.problem, number, proposal);
        self.waiting.insert(id, params.clone());
        self.next += 1;
        Ok(ProposedTrial { id, params })
    }

    /// Forgets the trials from this id on, as if they had never been proposed.
    fn take_back(&mut self, first: u32) {
        for id in (first..self.next).rev() {
            self.waiting.remove(&id);
            self.history.cancel(self.earlier + id);
        }
        self.next = first;
    }

    /// Takes the results, all or none.
    pub(super) fn tell(&mut self, results: &[TrialResult]) -> Result<(), Refusal> {
        let mut met = HashSet::new();
        let mut outcomes: Vec<(u32, Outcome, Option<f64>)> = Vec::with_capacity(results.len());
        for (i, result) in results.iter().enumerate() {
            let (id, place) = (result.id, format!("results[{i}]"));
            if id >= self.next {
                let next = self.next;
                return Err(Refusal::UnknownTrial { place, id, next });
            }
            if !self.waiting.contains_key(&id) || !met.insert(id) {
                return Err(Refusal::ToldTwice { place, id });
            }
            if let Some(seconds) = result.seconds.filter(|s| *s < 0.0) {
                let problem = format!("a trial cannot run for {seconds} s; give at least 0, or leave it out");
                return Err(Refusal::part(format!("{place}.seconds"), problem));
            }
            let values = result.values.as_deref();
            let outcome = create::outcome(&self.objectives, result.status, values, &place)?;
            outcomes.push((id, outcome, result.seconds));
        }
        for (id, outcome, seconds) in outcomes {
            let candidate = self.waiting.remove(&id).expect("every id was looked up above");
            self.history
                .push(&self.problem, self.earlier + id, candidate, outcome);
            self.history.ran_for(seconds);
        }
        Ok(())
    }

    /// The trials that no other dominates, and the volume that they dominate.
    pub(super) fn front(&self) -> (Vec<BestTrial>, Option<f64>) {
        let told: Vec<(&Trial, &[f64])> = self
            .history
            .trials()
            .iter()
            .filter_map(|t| Some((t, t.values.as_deref()?)))
            .collect();
        let values: Vec<&[f64]> = told.iter().map(|(_, values)| *values).collect();
        let best = front::front(&values);
        let reference = self
            .problem
            .reference
            .clone()
            .or_else(|| reference_point(&values));
        let volume = reference.filter(|_| !best.is_empty()).map(|reference| {
            let best: Vec<&[f64]> = best.iter().map(|i| values[*i]).collect();
            hypervolume(&best, &reference)
        });
        let trials = best.into_iter().map(|i| {
            let (trial, values) = told[i];
            let measured = self.objectives.iter().zip(values);
            BestTrial {
                id: trial.number.checked_sub(self.earlier),
                params: trial.candidate.clone(),
                values: measured.map(|(o, v)| o.direction.minimized(*v)).collect(),
            }
        });
        (trials.collect(), volume.filter(|v| v.is_finite()))
    }
}

//! A study without training: decisions of a rule, results from a function.

use std::collections::{BTreeMap, VecDeque};

use rand::RngExt;
use search::{
    History, Outcome, Problem, Proposal,
    fidelity::{Allowance, Decision, Ladder, Rule, next},
    proposal_rng,
};

use crate::common::{mixed, objective};

/// Steps and eta.
pub(crate) fn ladder(steps: &[f64], eta: u32) -> Ladder {
    Ladder {
        steps: steps.to_vec(),
        eta,
    }
}

/// A number between 0.5 and 1.5 that depends on both arguments alone.
pub(crate) fn noise(number: u32, salt: u64) -> f64 {
    0.5 + proposal_rng(salt, number).random::<f64>()
}

/// A simulated study.
pub(crate) struct Study {
    pub(crate) problem: Problem,
    pub(crate) history: History,
    pub(crate) ladder: Ladder,
    rule: &'static dyn Rule,
    trials: u32,
    pub(crate) full_trials: f64,
    pub(crate) started: u32,
    pub(crate) stopped: Vec<u32>,
    /// Where each trial was sent, in order.
    pub(crate) targets: BTreeMap<u32, Vec<f64>>,
    running: VecDeque<(u32, f64)>,
}

impl Study {
    pub(crate) fn new(rule: &'static dyn Rule, ladder: Ladder, trials: u32) -> Self {
        let objectives = vec![objective("loss"), objective("bytes")];
        Study::with(
            rule,
            ladder,
            trials,
            Problem::new(mixed(), objectives, vec![], 0).unwrap(),
        )
    }

    pub(crate) fn with(rule: &'static dyn Rule, ladder: Ladder, trials: u32, problem: Problem) -> Self {
        Study {
            problem,
            history: History::default(),
            ladder,
            rule,
            trials,
            full_trials: f64::INFINITY,
            started: 0,
            stopped: vec![],
            targets: BTreeMap::new(),
            running: VecDeque::new(),
        }
    }

    fn proposal(&self, number: u32) -> Proposal {
        let mut rng = proposal_rng(1, number);
        let unit: Vec<f64> = (0..self.problem.space.len()).map(|_| rng.random()).collect();
        Proposal {
            candidate: self.problem.space.decode(&unit),
            ..Proposal::default()
        }
    }

    /// Fills `parallel` places, as far as the rule wants.
    pub(crate) fn fill(&mut self, parallel: usize) {
        while self.running.len() < parallel {
            let allowance = Allowance {
                room: self.started < self.trials,
                full_trials: self.full_trials,
            };
            match next(self.rule, &self.ladder, &self.problem, &self.history, allowance) {
                Decision::Promote { number, rung } => self.train(number, rung),
                Decision::Stop(number) => {
                    let candidate = self.proposal(number).candidate;
                    self.history
                        .push(&self.problem, number, candidate, Outcome::Pruned);
                    self.stopped.push(number);
                }
                Decision::Start { rung } => {
                    let number = self.started;
                    self.history.start(&self.problem, number, self.proposal(number));
                    self.started += 1;
                    self.train(number, rung);
                }
                Decision::Wait => return,
            }
        }
    }

    fn train(&mut self, number: u32, rung: usize) {
        let target = self.ladder.steps[rung];
        self.history.train_to(number, target);
        self.targets.entry(number).or_default().push(target);
        self.running.push_back((number, target));
    }

    /// Reports the oldest running trial; `result` gives its values at a fidelity, or that it fails.
    pub(crate) fn report(&mut self, result: &impl Fn(u32, f64) -> Option<Vec<f64>>) -> bool {
        let Some((number, fidelity)) = self.running.pop_front() else {
            return false;
        };
        let proposal = self.proposal(number);
        let Some(values) = result(number, fidelity) else {
            self.history
                .push(&self.problem, number, proposal.candidate, Outcome::Failed);
            return true;
        };
        let names = self.problem.objectives.iter().map(|o| o.metric.clone());
        let metrics: BTreeMap<String, f64> = names.zip(values).collect();
        if fidelity == 1.0 {
            let outcome = Outcome::Measured(metrics);
            self.history
                .push(&self.problem, number, proposal.candidate, outcome);
        } else {
            let curve = (1..=8)
                .map(|i| fidelity * f64::from(i) / 8.0)
                .filter_map(|x| Some((x, result(number, x)?[0])));
            self.history.reach(
                &self.problem,
                number,
                &proposal,
                fidelity,
                metrics,
                curve.collect(),
            );
        }
        true
    }

    /// Goes on until the rule wants nothing more.
    pub(crate) fn run(&mut self, parallel: usize, result: impl Fn(u32, f64) -> Option<Vec<f64>>) {
        self.run_steps(parallel, usize::MAX, result);
    }

    /// Goes on for so many reports.
    pub(crate) fn run_steps(
        &mut self,
        parallel: usize,
        reports: usize,
        result: impl Fn(u32, f64) -> Option<Vec<f64>>,
    ) {
        for _ in 0..reports {
            self.fill(parallel);
            if !self.report(&result) {
                return;
            }
        }
    }

    /// How many trials have been sent to each step or beyond it.
    pub(crate) fn sent(&self) -> Vec<usize> {
        let beyond = |step: &f64| self.targets.values().filter(|t| t.last() >= Some(step)).count();
        self.ladder.steps.iter().map(beyond).collect()
    }
}

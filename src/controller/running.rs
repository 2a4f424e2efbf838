//! What the controller remembers of one running study.

use std::{collections::BTreeMap, time::Instant};

use anyhow::Context;
use search::{
    Ask, AskError, History, Known, Oracle, Outcome, Problem, Proposal, REFERENCE_TRIALS, Sampler,
    fidelity::{self, Allowance, Decision, Ladder, Rule},
    repeat,
};
use spaces::{Candidate, Catalog, Study, protocol::TrialState, study::resolve_study};
use store::{Finish, Snapshot, Store, TrialFilter};

use crate::admission::{Inspector, StudyOracle};

/// What the controller remembers of a running study; all of it can be read again from the store.
pub(super) struct Running {
    pub(super) study: Study,
    pub(super) problem: Problem,
    pub(super) history: History,
    /// How far trials are trained, and who decides it.
    pub(super) ladder: Ladder,
    rule: &'static dyn Rule,
    /// Who proposes; kept, since it remembers what it has worked out.
    sampler: Box<dyn Sampler + Send>,
    /// Ids of the trials that rest, by number.
    pub(super) resting: BTreeMap<u32, i64>,
    /// Finishes taken in.
    finishes: u32,
    reference_fixed: bool,
    /// Up to when the study's time is counted.
    pub(super) counted: Instant,
    /// Why nothing more can be proposed.
    pub(super) exhausted: Option<AskError>,
}

impl Running {
    /// A study of the store before its first trial; a sentence where this version cannot run it.
    pub(super) fn new(catalog: &Catalog, row: &store::Study) -> Result<Running, String> {
        let study = resolve_study(&row.spec, catalog).map_err(|errors| {
            let first = errors.first().map(ToString::to_string).unwrap_or_default();
            format!("this version cannot run the study: {first}")
        })?;
        let problem = Inspector::problem(&study)?;
        let (ladder, rule) = match &study.spec.search.fidelity {
            Some(spec) => {
                let ladder = Ladder {
                    steps: spec.steps.clone(),
                    eta: spec.eta,
                };
                (ladder, fidelity::rule(&spec.rule))
            }
            None => (Ladder::full(), fidelity::rule("asha")),
        };
        let sampler = search::sampler(&study.spec.search.method).expect("checked against the catalogue");
        Ok(Running {
            study,
            problem,
            history: History::default(),
            ladder,
            rule: rule.expect("checked against the catalogue"),
            sampler,
            resting: BTreeMap::new(),
            finishes: 0,
            reference_fixed: row.reference.is_some(),
            counted: Instant::now(),
            exhausted: None,
        })
    }

    /// Reads a study from the store, as far as it has come; a sentence where this version cannot run it.
    pub(super) async fn open(
        store: &Store,
        catalog: &Catalog,
        row: &store::Study,
    ) -> anyhow::Result<Result<Running, String>> {
        let mut running = match Running::new(catalog, row) {
            Ok(running) => running,
            Err(reason) => return Ok(Err(reason)),
        };
        // the finishes first: a trial that ends or rests after they were read is met again as a later finish
        running.catch_up(store, row.id).await?;
        let states = vec![TrialState::Queued, TrialState::Running];
        let pending = store
            .trials(
                row.id,
                &TrialFilter {
                    states,
                    ..TrialFilter::default()
                },
            )
            .await?;
        for trial in pending {
            // one that was sent on is known already, with its results so far
            if running.resting.remove(&trial.number).is_none() {
                let proposal = Proposal {
                    candidate: trial.candidate,
                    known: trial.known,
                };
                running.history.start(&running.problem, trial.number, proposal);
            }
            running.history.train_to(trial.number, trial.target);
        }
        Ok(Ok(running))
    }

    /// Takes in the finishes that came since the last time.
    pub(super) async fn catch_up(&mut self, store: &Store, study: i64) -> anyhow::Result<()> {
        for finish in store.history(study, self.finishes).await? {
            self.take(store, finish).await?;
        }
        Ok(())
    }

    /// Takes in the next finish.
    pub(super) async fn take(&mut self, store: &Store, finish: Finish) -> anyhow::Result<()> {
        let curve = match self.rule.curve() {
            Some(metric) if finish.state == TrialState::Paused => {
                store.curve(finish.trial, &[metric]).await?
            }
            _ => vec![],
        };
        self.finishes = finish.order + 1;
        let measured: BTreeMap<String, f64> = finish
            .measurements
            .iter()
            .map(|m| (m.metric.clone(), m.value))
            .collect();
        if finish.state == TrialState::Paused {
            // steps are turned into parts of the training by the step that this part ended at
            let end = finish.measurements.first().map_or(1, |m| m.step).max(1);
            let points = curve.iter().filter(|m| m.step <= end);
            let part = |step: u64| finish.fidelity * step as f64 / end as f64;
            let proposal = Proposal {
                candidate: finish.candidate,
                known: finish.known,
            };
            self.history.reach(
                &self.problem,
                finish.number,
                &proposal,
                finish.fidelity,
                measured,
                points.map(|m| (part(m.step), m.value)).collect(),
            );
            self.resting.insert(finish.number, finish.trial);
            return Ok(());
        }
        self.resting.remove(&finish.number);
        let outcome = match finish.state {
            TrialState::Done => {
                let mut metrics = finish.known;
                metrics.extend(measured);
                Outcome::Measured(metrics)
            }
            TrialState::Infeasible => Outcome::Infeasible,
            TrialState::Pruned => Outcome::Pruned,
            _ => Outcome::Failed,
        };
        self.history
            .push(&self.problem, finish.number, finish.candidate, outcome);
        self.history.ran_for(finish.wall_s);
        Ok(())
    }

    /// What to do next, where `number` trials were begun.
    pub(super) fn decide(&self, number: u32) -> Decision {
        let search = &self.study.spec.search;
        let allowance = Allowance {
            room: number < search.trials && self.exhausted.is_none(),
            full_trials: search.full_trials.unwrap_or(f64::INFINITY),
        };
        fidelity::next(self.rule, &self.ladder, &self.problem, &self.history, allowance)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            method: self.study.spec.search.method.clone(),
            seed: self.problem.seed,
            finished: self.finishes,
            pending: self
                .history
                .pending()
                .iter()
                .filter(|p| p.target.is_some())
                .map(|p| p.number)
                .collect(),
        }
    }

    /// The number and the point of the trial to train again instead of something new.
    fn doubtful(&self) -> Option<(u32, Candidate)> {
        let repeats = self.study.spec.search.repeats;
        let first = repeat::doubtful(&self.problem, &self.history, repeats)?;
        Some((first.number, first.candidate.clone()))
    }

    /// A proposal for trial `number`, and the number of the trial whose configuration it trains again.
    pub(super) fn ask(
        &mut self,
        catalog: &Catalog,
        facts: &evaluator::Facts,
        number: u32,
    ) -> Result<(Proposal, Option<u32>), AskError> {
        let doubtful = self.doubtful();
        let mut oracle = StudyOracle {
            study: &self.study,
            catalog,
            facts,
        };
        if let Some((first, candidate)) = doubtful
            && let [Known::Values(known)] = &oracle.known(std::slice::from_ref(&candidate))[..]
        {
            let known = known.clone();
            return Ok((Proposal { candidate, known }, Some(first)));
        }
        let mut ask = Ask::new(&self.problem, &self.history, &mut oracle, number);
        if let Some(start) = self.study.start.get(number as usize) {
            if let Some(proposal) = ask.exactly(start.clone())? {
                return Ok((proposal, None));
            }
            tracing::warn!(
                start = number,
                "this start cannot be built or breaks a limit; the search chooses instead"
            );
        }
        Ok((self.sampler.ask(&mut ask)?, None))
    }

    pub(super) fn out_of_time(&self, row: &store::Study) -> bool {
        self.study.wall_s.is_some_and(|wall| row.searched_s >= wall)
    }

    /// Fixes the hypervolume's reference once there are results enough to choose it by, or the study ends.
    pub(super) async fn fix_reference(
        &mut self,
        store: &Store,
        row: &store::Study,
        is_over: bool,
    ) -> anyhow::Result<()> {
        let results = self.history.values().count();
        let last = is_over || results as u32 >= self.study.spec.search.trials;
        if self.reference_fixed || (results < REFERENCE_TRIALS && !last) {
            return Ok(());
        }
        if let Some(point) = search::reference_point(self.history.values()) {
            let reference = self.problem.measured(&point);
            store
                .fix_reference(row.id, &reference)
                .await
                .context("the reference point cannot be stored")?;
            self.reference_fixed = true;
        }
        Ok(())
    }
}

//! The controller: keeps each running study's queue filled, and ends a study when it is done.
//!
//! One server of a database leads and proposes; the others only serve. A proposal is drawn from the study's seed, the
//! trial's number and the history at that moment, all of which are stored with it, so it can be drawn again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use search::{Ask, AskError, History, Outcome, Problem, Proposal, REFERENCE_TRIALS};
use spaces::{Catalog, Study, protocol::TrialState, study::resolve_study};
use store::{Event, Finish, NewTrial, Snapshot, Store, StudyState, TrialFilter};
use tokio::{sync::broadcast::error::RecvError, time::sleep};

use crate::admission::{Inspector, StudyOracle};

/// The net below the notifications; also how exactly a study's wall time ends.
const POLL: Duration = Duration::from_secs(2);

/// Proposes for the studies of one database.
pub(crate) struct Controller {
    store: Store,
    catalog: Arc<Catalog>,
    inspector: Arc<Inspector>,
    studies: BTreeMap<i64, Running>,
}

/// What the controller remembers of a running study; all of it can be read again from the store.
struct Running {
    study: Study,
    problem: Problem,
    history: History,
    /// Finishes taken in.
    finishes: u32,
    reference_fixed: bool,
    /// Up to when the study's time is counted.
    counted: Instant,
    /// Why nothing more can be proposed.
    exhausted: Option<AskError>,
}

impl Controller {
    pub(crate) fn new(store: Store, catalog: Arc<Catalog>, inspector: Arc<Inspector>) -> Self {
        Controller {
            store,
            catalog,
            inspector,
            studies: BTreeMap::new(),
        }
    }

    /// Proposes whenever something changes, for as long as this server leads. Never returns by itself.
    pub(crate) async fn run(mut self) {
        loop {
            match self.lead().await {
                Ok(()) => tracing::info!("another server leads; waiting"),
                Err(error) => tracing::warn!(error = format!("{error:#}"), "the controller starts again"),
            }
            self.studies.clear();
            sleep(POLL).await;
        }
    }

    async fn lead(&mut self) -> anyhow::Result<()> {
        let Some(mut lead) = self.store.lead().await? else {
            return Ok(());
        };
        let events = self.store.events().await?;
        let mut changes = events.subscribe();
        let mut due: Option<BTreeSet<i64>> = None;
        loop {
            self.propose(due.take()).await?;
            // what changes many studies at once, or may have been missed, is looked at in full
            tokio::select! {
                event = changes.recv() => match event {
                    Ok(Event::Changed { study, .. }) => due = Some(BTreeSet::from([study])),
                    Ok(Event::Deleted { .. } | Event::Resumed) | Err(RecvError::Lagged(_)) => {}
                    Ok(Event::Queued) => due = Some(BTreeSet::new()),
                    Err(RecvError::Closed) => anyhow::bail!("the database connection ended"),
                },
                () = sleep(POLL) => anyhow::ensure!(lead.is_held().await, "the lead was lost"),
            }
        }
    }

    /// Proposes for the named studies, or for all.
    async fn propose(&mut self, only: Option<BTreeSet<i64>>) -> anyhow::Result<()> {
        let studies = match only {
            None => {
                let all = self.store.studies().await?;
                let running: Vec<store::Study> = all
                    .into_iter()
                    .map(|s| s.study)
                    .filter(|s| s.state == StudyState::Running)
                    .collect();
                self.studies.retain(|id, _| running.iter().any(|s| s.id == *id));
                running
            }
            Some(ids) => {
                let mut running = vec![];
                for id in ids {
                    match self.store.study(id).await {
                        Ok(study) if study.state == StudyState::Running => running.push(study),
                        Ok(_) | Err(store::StoreError::NotFound { .. }) => {
                            self.studies.remove(&id);
                        }
                        Err(e) => return Err(e.into()),
                    }
                }
                running
            }
        };
        for study in studies {
            let id = study.id;
            if let Err(error) = self.advance(study).await {
                // one study's trouble is not the others'
                tracing::error!(study = id, error = format!("{error:#}"), "no proposal");
                self.studies.remove(&id);
            }
        }
        Ok(())
    }

    /// Takes in what finished, fills the queue, ends the study.
    async fn advance(&mut self, mut row: store::Study) -> anyhow::Result<()> {
        let id = row.id;
        if !self.studies.contains_key(&id) {
            match self.open(&row).await? {
                Ok(running) => {
                    self.studies.insert(id, running);
                }
                Err(reason) => {
                    self.store.fail_study(id, &reason).await?;
                    return Ok(());
                }
            }
        }
        let running = self.studies.get_mut(&id).expect("inserted above");
        for finish in self.store.history(id, running.finishes).await? {
            running.take(finish);
        }
        running.fix_reference(&self.store, &row).await?;
        let spent = running.counted.elapsed();
        running.counted = Instant::now();
        if row.started_at.is_some() {
            row.searched_s = self.store.add_search_time(id, spent).await?;
        }

        let counts = self.store.counts(id).await?;
        let pending = counts.queued + counts.running;
        let mut number = row.trial_count;
        let out_of_time = running.out_of_time(&row);
        let parallel = i64::from(running.study.spec.search.parallel);
        let mut queued = 0;
        while pending + queued < parallel
            && number < running.study.spec.search.trials
            && !out_of_time
            && running.exhausted.is_none()
        {
            let facts = {
                let (inspector, study) = (Arc::clone(&self.inspector), running.study.clone());
                tokio::task::spawn_blocking(move || inspector.facts(&study)).await?
            };
            let facts = match facts {
                Ok(facts) => facts,
                Err(e) => {
                    self.store.fail_study(id, &e.to_string()).await?;
                    return Ok(());
                }
            };
            let snapshot = running.snapshot();
            // modelling may take long: it leaves the event loop to others
            let proposal = tokio::task::block_in_place(|| running.ask(&self.catalog, &facts, number));
            match proposal {
                Ok(proposal) => {
                    let trial = NewTrial {
                        candidate: proposal.candidate.clone(),
                        known: proposal.known.clone(),
                        snapshot,
                        ..NewTrial::default()
                    };
                    let enqueued = self.store.enqueue(id, &[trial]).await?;
                    let Some(Some(enqueued)) = enqueued.first() else {
                        anyhow::bail!("the study has the proposed point already; its history is read again");
                    };
                    anyhow::ensure!(
                        enqueued.number == number,
                        "another program proposes for this study too"
                    );
                    running.history.start(&running.problem, number, proposal);
                    number += 1;
                    queued += 1;
                }
                Err(error) => {
                    tracing::info!(study = row.name, %error, "nothing more can be proposed");
                    running.exhausted = Some(error);
                }
            }
        }
        let over = number >= running.study.spec.search.trials || out_of_time || running.exhausted.is_some();
        if over && pending + queued == 0 {
            let wanted = running.study.spec.search.trials;
            if let Some(error) = &running.exhausted
                && number == 0
            {
                self.store.fail_study(id, &error.to_string()).await?;
            } else {
                let cause = match &running.exhausted {
                    Some(error) => Some(error.to_string()),
                    None if number < wanted => Some("the time of search.wall was used up".into()),
                    None => None,
                };
                let reason = cause.map(|cause| format!("ended after {number} of {wanted} trials: {cause}"));
                self.store.finish_study(id, reason.as_deref()).await?;
            }
            self.studies.remove(&id);
        }
        Ok(())
    }

    /// Reads a study that is not remembered.
    async fn open(&self, row: &store::Study) -> anyhow::Result<Result<Running, String>> {
        let study = match resolve_study(&row.spec, &self.catalog) {
            Ok(study) => study,
            Err(errors) => {
                let first = errors.first().map(ToString::to_string).unwrap_or_default();
                return Ok(Err(format!("this version cannot run the study: {first}")));
            }
        };
        let problem = match Inspector::problem(&study) {
            Ok(problem) => problem,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut running = Running {
            study,
            problem,
            history: History::default(),
            finishes: 0,
            reference_fixed: row.reference.is_some(),
            counted: Instant::now(),
            exhausted: None,
        };
        let states = vec![TrialState::Queued, TrialState::Running];
        let pending = self
            .store
            .trials(
                row.id,
                &TrialFilter {
                    states,
                    ..TrialFilter::default()
                },
            )
            .await?;
        for trial in pending {
            let proposal = Proposal {
                candidate: trial.candidate,
                known: trial.known,
            };
            running.history.start(&running.problem, trial.number, proposal);
        }
        Ok(Ok(running))
    }
}

impl Running {
    fn take(&mut self, finish: Finish) {
        let metrics = || {
            let measured = finish.measurements.iter().map(|m| (m.metric.clone(), m.value));
            finish.known.clone().into_iter().chain(measured).collect()
        };
        let outcome = match finish.state {
            TrialState::Done => Outcome::Measured(metrics()),
            TrialState::Infeasible => Outcome::Infeasible,
            _ => Outcome::Failed,
        };
        self.history
            .push(&self.problem, finish.number, finish.candidate, outcome);
        self.finishes = finish.order + 1;
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            method: self.study.spec.search.method.clone(),
            seed: self.problem.seed,
            finished: self.finishes,
            pending: self.history.pending().iter().map(|p| p.number).collect(),
        }
    }

    fn ask(&self, catalog: &Catalog, facts: &evaluator::Facts, number: u32) -> Result<Proposal, AskError> {
        let mut sampler =
            search::sampler(&self.study.spec.search.method).expect("checked against the catalogue");
        let mut oracle = StudyOracle {
            study: &self.study,
            catalog,
            facts,
        };
        sampler.ask(&mut Ask::new(&self.problem, &self.history, &mut oracle, number))
    }

    fn out_of_time(&self, row: &store::Study) -> bool {
        self.study.wall_s.is_some_and(|wall| row.searched_s >= wall)
    }

    /// Fixes the hypervolume's reference once there are results enough to choose it by, or the study ends.
    async fn fix_reference(&mut self, store: &Store, row: &store::Study) -> anyhow::Result<()> {
        let results = self.history.values().count();
        let last = results > 0 && results as u32 >= self.study.spec.search.trials;
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

//! The controller: keeps each running study's queue filled, and ends a study when it is done.
//!
//! One server of a database leads and proposes; the others only serve. A proposal is drawn from the study's seed, the
//! trial's number and the history at that moment, all of which are stored with it, so it can be drawn again.

pub(crate) mod replay;
mod running;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use search::fidelity::Decision;
use spaces::Catalog;
use store::{Event, NewTrial, Store, StudyState};
use tokio::{sync::broadcast::error::RecvError, time::sleep};

use self::running::Running;
use crate::admission::Inspector;

/// The net below the notifications; also how exactly a study's wall time ends.
const POLL: Duration = Duration::from_secs(2);

/// Proposes for the studies of one database.
pub(crate) struct Controller {
    store: Store,
    catalog: Arc<Catalog>,
    inspector: Arc<Inspector>,
    studies: BTreeMap<i64, Running>,
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
            match Running::open(&self.store, &self.catalog, &row).await? {
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
        running.catch_up(&self.store, id).await?;
        running.fix_reference(&self.store, &row, false).await?;
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
        let mut next = Decision::Wait;
        while pending + queued < parallel && !out_of_time {
            let snapshot = running.snapshot();
            next = running.decide(number);
            let target = match next {
                Decision::Wait => break,
                Decision::Stop(number) => {
                    if let Some(trial) = running.resting.get(&number) {
                        self.store.prune_trial(*trial).await?;
                    }
                    running.catch_up(&self.store, id).await?;
                    continue;
                }
                Decision::Promote { number, rung } => {
                    let trial = running
                        .resting
                        .remove(&number)
                        .context("only what rests is promoted")?;
                    let target = running.ladder.steps[rung];
                    self.store.promote_trial(trial, target, &snapshot).await?;
                    running.history.train_to(number, target);
                    queued += 1;
                    continue;
                }
                Decision::Start { rung } => running.ladder.steps[rung],
            };
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
            // modelling may take long: it leaves the event loop to others
            let proposal = tokio::task::block_in_place(|| running.ask(&self.catalog, &facts, number));
            match proposal {
                Ok((proposal, repeats)) => {
                    // the first training's values are those of the full length
                    let target = if repeats.is_some() { 1.0 } else { target };
                    let trial = NewTrial {
                        candidate: proposal.candidate.clone(),
                        known: proposal.known.clone(),
                        snapshot,
                        target,
                        repeats,
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
                    running.history.train_to(number, target);
                    number += 1;
                    queued += 1;
                }
                Err(error) => {
                    tracing::info!(study = row.name, %error, "nothing more can be proposed");
                    running.exhausted = Some(error);
                }
            }
        }
        // nothing runs that could change what the rule says
        let over = out_of_time || next == Decision::Wait;
        if over && pending + queued == 0 {
            running.fix_reference(&self.store, &row, true).await?;
            let wanted = running.study.spec.search.trials;
            if let Some(error) = &running.exhausted
                && number == 0
            {
                self.store.fail_study(id, &error.to_string()).await?;
            } else {
                let cause = match &running.exhausted {
                    Some(error) => Some(error.to_string()),
                    None if number < wanted && out_of_time => {
                        Some("the time of search.wall was used up".into())
                    }
                    None if number < wanted => Some("the training of search.full_trials was used up".into()),
                    None => None,
                };
                let reason = cause.map(|cause| format!("ended after {number} of {wanted} trials: {cause}"));
                self.store.finish_study(id, reason.as_deref()).await?;
            }
            self.studies.remove(&id);
        }
        Ok(())
    }
}

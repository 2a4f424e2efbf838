//! Draws a study's proposals once more, each from what the store says it was derived from.

use search::Proposal;
use serde::Serialize;
use spaces::Candidate;
use store::{Store, TrialFilter};

use super::running::Running;
use crate::admission::Inspector;

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Replay {
    /// How many proposals were drawn.
    pub(crate) drawn: u32,
    /// Most trials that had begun and not ended when one was drawn.
    pub(crate) most_pending: usize,
    /// Those that came out otherwise.
    pub(crate) differing: Vec<Difference>,
}

/// A proposal that came out otherwise.
#[derive(Debug, Serialize)]
pub(crate) struct Difference {
    /// The trial.
    pub(crate) number: u32,
    /// What the study tried.
    pub(crate) tried: Candidate,
    /// What it would try now, or why nothing.
    pub(crate) drawn: Result<Candidate, String>,
}

/// Draws all proposals of a study, in order; `say` hears how many of how many are drawn.
///
/// # Errors
/// Where the study or its data cannot be read any more.
pub(crate) async fn replay(
    store: &Store,
    inspector: &Inspector,
    row: &store::Study,
    mut say: impl FnMut(usize, usize),
) -> anyhow::Result<Replay> {
    let catalog = inspector.catalog();
    let mut running = Running::new(catalog, row).map_err(anyhow::Error::msg)?;
    let facts = inspector.facts(&running.study)?;
    let trials = store.trials(row.id, &TrialFilter::default()).await?;
    let snapshots = store.snapshots(row.id).await?;
    let mut finishes = store.history(row.id, 0).await?.into_iter().peekable();
    let mut replay = Replay::default();
    for (trial, snapshot) in trials.iter().zip(&snapshots) {
        while let Some(finish) = finishes.next_if(|f| f.order < snapshot.finished) {
            running.take(store, finish).await?;
        }
        // those that rest in the history and had been sent on by then; how far does not matter to a proposal
        for number in &snapshot.pending {
            running.history.train_to(*number, 1.0);
        }
        let known = running.snapshot();
        anyhow::ensure!(
            known == *snapshot,
            "trial {} was derived from {snapshot:?}, but the results of the study lead to {known:?}",
            trial.number
        );
        replay.most_pending = replay.most_pending.max(snapshot.pending.len());
        let drawn = running.ask(catalog, &facts, trial.number);
        let same = |(p, repeats): &(Proposal, Option<u32>)| {
            p.candidate == trial.candidate && *repeats == trial.repeats
        };
        if !drawn.as_ref().is_ok_and(same) {
            replay.differing.push(Difference {
                number: trial.number,
                tried: trial.candidate.clone(),
                drawn: drawn.map(|(p, _)| p.candidate).map_err(|e| e.to_string()),
            });
        }
        let tried = Proposal {
            candidate: trial.candidate.clone(),
            known: trial.known.clone(),
        };
        running.history.start(&running.problem, trial.number, tried);
        replay.drawn += 1;
        say(replay.drawn as usize, trials.len());
    }
    Ok(replay)
}

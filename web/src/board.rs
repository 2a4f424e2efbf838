//! Studies held in memory, brought up to date by what changed: one read of the database serves every reader.
//!
//! The database remains the only truth. A board is what [`Store::changes_since`] has told so far; whoever reads it asks
//! for the rest first.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex as StdMutex,
        atomic::{AtomicU64, Ordering},
    },
};

use spaces::Catalog;
use store::{Store, Trial};
use time::OffsetDateTime;
use tokio::sync::Mutex;

use crate::views::{self, HypervolumeCurve, Resolved, StudyRow};

/// Studies held at the same time; beyond that, the one that was read longest ago goes.
const HELD: usize = 32;
/// Changes read at once.
const PAGE: u32 = 1000;

/// One study with its trials, as of a revision.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    pub(crate) study: Resolved,
    /// By number.
    trials: Vec<Option<Arc<Trial>>>,
    pub(crate) curve: HypervolumeCurve,
}

impl Board {
    /// The trials by number.
    pub(crate) fn trials(&self) -> impl Iterator<Item = &Trial> {
        self.trials.iter().flatten().map(Arc::as_ref)
    }

    /// The trials that changed after a revision, in the order of their last change.
    pub(crate) fn changed_since(&self, revision: i64) -> Vec<&Trial> {
        let mut changed: Vec<&Trial> = self.trials().filter(|t| t.revision > revision).collect();
        changed.sort_unstable_by_key(|t| t.revision);
        changed
    }

    /// The study's row at `now`.
    pub(crate) fn row(&self, now: OffsetDateTime) -> StudyRow {
        let progress = views::progress(&self.study, self.trials(), now);
        views::study_row(&self.study, views::counts(self.trials()), progress)
    }

    fn take(&mut self, trial: Trial) {
        let place = trial.number as usize;
        if self.trials.len() <= place {
            self.trials.resize(place + 1, None);
        }
        self.trials[place] = Some(Arc::new(trial));
    }
}

/// The boards.
pub(crate) struct Boards {
    store: Store,
    catalog: Arc<Catalog>,
    slots: StdMutex<HashMap<i64, Arc<Slot>>>,
    clock: AtomicU64,
}

/// Place of one study's board. Its lock is held while it is brought up to date, so that of many readers one asks.
#[derive(Default)]
struct Slot {
    board: Mutex<Option<Arc<Board>>>,
    read_at: AtomicU64,
}

impl Boards {
    pub(crate) fn new(store: Store, catalog: Arc<Catalog>) -> Boards {
        Boards {
            store,
            catalog,
            slots: StdMutex::default(),
            clock: AtomicU64::new(0),
        }
    }

    /// The study as it is now.
    pub(crate) async fn read(&self, study: i64) -> store::Result<Arc<Board>> {
        self.at_least(study, i64::MAX).await
    }

    /// The study with everything up to a revision, and perhaps more.
    pub(crate) async fn at_least(&self, study: i64, revision: i64) -> store::Result<Arc<Board>> {
        let slot = self.slot(study);
        let mut held = slot.board.lock().await;
        if let Some(board) = held.as_ref().filter(|b| b.study.row.revision >= revision) {
            return Ok(Arc::clone(board));
        }
        match self.refresh(study, held.take()).await {
            Ok(board) => {
                *held = Some(Arc::clone(&board));
                Ok(board)
            }
            Err(e) => {
                self.forget(study);
                Err(e)
            }
        }
    }

    /// Reads what changed. A board that someone still reads is copied, which copies no trial.
    async fn refresh(&self, study: i64, held: Option<Arc<Board>>) -> store::Result<Arc<Board>> {
        let mut since = held.as_ref().map_or(0, |b| b.study.row.revision);
        let first = self.store.changes_since(study, since, PAGE).await?;
        if first.study.revision == since
            && let Some(board) = held
        {
            return Ok(board);
        }
        let mut board = match held {
            Some(board) => Arc::unwrap_or_clone(board),
            None => Board {
                study: Resolved::new(first.study.clone(), &self.catalog),
                trials: vec![],
                curve: HypervolumeCurve::default(),
            },
        };
        let mut changes = first;
        loop {
            since = changes.revision;
            changes.trials.into_iter().for_each(|trial| board.take(trial));
            if since >= changes.study.revision {
                board.study.row = changes.study;
                break;
            }
            changes = self.store.changes_since(study, since, PAGE).await?;
        }
        // a large front takes a while; the runtime's threads have others to serve
        let board = tokio::task::spawn_blocking(move || {
            let Board { study, trials, curve } = &mut board;
            curve.update(study, trials.iter().flatten().map(Arc::as_ref));
            board
        });
        Ok(Arc::new(board.await.expect("computing a curve does not panic")))
    }

    fn slot(&self, study: i64) -> Arc<Slot> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.slots.lock().unwrap_or_else(|e| e.into_inner());
        let slot = Arc::clone(slots.entry(study).or_default());
        slot.read_at.store(now, Ordering::Relaxed);
        if slots.len() > HELD
            && let Some(oldest) = slots
                .iter()
                .min_by_key(|(_, s)| s.read_at.load(Ordering::Relaxed))
                .map(|(id, _)| *id)
        {
            slots.remove(&oldest);
        }
        slot
    }

    fn forget(&self, study: i64) {
        let mut slots = self.slots.lock().unwrap_or_else(|e| e.into_inner());
        slots.remove(&study);
    }
}

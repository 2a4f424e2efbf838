//! The changes of all studies, as the home page shows them.

use std::collections::{BTreeMap, BTreeSet};

use axum::{extract::State, response::IntoResponse};
use futures::stream;
use store::{Event, StoreError};
use time::OffsetDateTime;
use tokio::sync::broadcast::error::TryRecvError;

use super::{Batch, Feed, TOGETHER, Wake, event, respond};
use crate::{
    AppState, Problem,
    api::studies::{StudyList, list_studies},
    auth::Viewer,
};

/// Watch all studies
///
/// Server-sent events. `studies` carries the whole list, first and whenever something may have been missed; `study`
/// carries one row that changed; `deleted` the id of a study that is gone.
#[utoipa::path(get, path = "/events", tag = "events", security(("token" = ["view"])),
    responses((status = 200, content_type = "text/event-stream", body = StudyList)))]
pub(super) async fn watch(_: Viewer, State(state): State<AppState>) -> Result<impl IntoResponse, Problem> {
    let home = Home {
        feed: Feed::open(&state),
        sent: None,
    };
    let batches = stream::unfold(home, |mut home| async move {
        home.next().await.map(|batch| (batch, home))
    });
    Ok(respond(batches))
}

struct Home {
    feed: Feed,
    /// The revision of each study that was sent; none before the first list.
    sent: Option<BTreeMap<i64, i64>>,
}

impl Home {
    async fn next(&mut self) -> Option<Batch> {
        loop {
            let batch = match self.sent {
                None => self.list().await,
                Some(_) => match self.feed.next().await {
                    Wake::End => return None,
                    Wake::Look => self.list().await,
                    Wake::Event(event) => self.changes(event).await,
                },
            };
            match batch {
                Ok(batch) if batch.is_empty() => {}
                Ok(batch) => return Some(batch),
                // the browser comes again
                Err(problem) => {
                    tracing::warn!("a stream of events ends: {}", problem.detail());
                    return None;
                }
            }
        }
    }

    /// The whole list, if it is another than the one that was sent.
    async fn list(&mut self) -> Result<Batch, Problem> {
        let list = list_studies(&self.feed.state).await?;
        let revisions = list.studies.iter().map(|s| (s.id, s.revision)).collect();
        if self.sent.as_ref() == Some(&revisions) {
            return Ok(vec![]);
        }
        self.sent = Some(revisions);
        Ok(vec![event("studies", &list)])
    }

    /// The studies that changed, this event and those that follow closely taken together.
    async fn changes(&mut self, first: Event) -> Result<Batch, Problem> {
        let (mut changed, mut deleted) = (BTreeMap::new(), BTreeSet::new());
        let mut note = |event| match event {
            Event::Changed { study, revision } => {
                changed.insert(study, revision);
            }
            Event::Deleted { study } => {
                deleted.insert(study);
            }
            Event::Queued | Event::Resumed => {}
        };
        note(first);
        tokio::time::sleep(TOGETHER).await;
        loop {
            match self.feed.receiver.try_recv() {
                Ok(Event::Resumed) | Err(TryRecvError::Lagged(_)) => return self.list().await,
                Ok(event) => note(event),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let sent = self.sent.get_or_insert_default();
        let mut batch = vec![];
        for (study, revision) in changed {
            if sent.get(&study).is_some_and(|sent| *sent >= revision) {
                continue;
            }
            match self.feed.state.boards.at_least(study, revision).await {
                Ok(board) => {
                    sent.insert(study, board.study.row.revision);
                    batch.push(event("study", &board.row(OffsetDateTime::now_utc())));
                }
                Err(StoreError::NotFound { .. }) => {
                    deleted.insert(study);
                }
                Err(e) => return Err(e.into()),
            }
        }
        for study in deleted {
            if sent.remove(&study).is_some() {
                batch.push(event("deleted", &serde_json::json!({ "id": study })));
            }
        }
        Ok(batch)
    }
}

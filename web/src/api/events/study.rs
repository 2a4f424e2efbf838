//! The changes of one study.

use axum::{extract::State, http::HeaderMap, response::IntoResponse};
use futures::stream;
use serde::{Deserialize, Serialize};
use store::{Event, StoreError};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::{Batch, Feed, TOGETHER, Wake, event, respond};
use crate::{
    AppState, Problem,
    auth::Viewer,
    board::Board,
    extract::{Path, Query},
    views::{self, Best, StudyRow},
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WatchQuery {
    /// Start after this revision instead of now; the header `last-event-id` goes before.
    since: Option<i64>,
}

/// What a `study` event carries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StudyDelta {
    /// The study.
    #[serde(flatten)]
    row: StudyRow,
    /// The best value of each objective so far.
    best: Vec<Best>,
    /// The hypervolume now.
    hypervolume: f64,
}

/// Watch a study
///
/// Server-sent events. `trial` carries a trial as the list shows it, `study` the study's row with `best` and
/// `hypervolume`; `deleted` ends the stream. The id of an event is a revision: a client that sends the last one it saw
/// as `last-event-id`, as browsers do by themselves, misses nothing and sees nothing twice.
#[utoipa::path(get, path = "/studies/{study}/events", tag = "events", security(("token" = ["view"])),
    params(("study" = String, Path, description = "name or id"), WatchQuery,
        ("last-event-id" = Option<i64>, Header, description = "start after this revision")),
    responses((status = 200, content_type = "text/event-stream", body = StudyDelta)))]
pub(super) async fn watch(
    _: Viewer,
    State(state): State<AppState>,
    Path(study): Path<String>,
    Query(query): Query<WatchQuery>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let since = match headers.get("last-event-id") {
        None => query.since,
        Some(id) => Some(id.to_str().ok().and_then(|id| id.parse().ok()).ok_or_else(|| {
            Problem::bad_request("last-event-id: it is not a revision; send the id of the last event seen")
        })?),
    };
    // first the ear, then the eye: what happens in between is heard
    let feed = Feed::open(&state);
    let found = state.store.find_study(&study).await?;
    let board = state.boards.read(found.id).await?;
    let revision = board.study.row.revision;
    let watch = Watch {
        study: found.id,
        // a revision that is yet to come is one of another database
        sent: since.map_or(revision, |since| if since <= revision { since } else { 0 }),
        first: Some(board),
        feed,
        over: false,
    };
    let batches = stream::unfold(watch, |mut watch| async move {
        watch.next().await.map(|batch| (batch, watch))
    });
    Ok(respond(batches))
}

struct Watch {
    study: i64,
    /// Everything up to this revision has been sent.
    sent: i64,
    first: Option<std::sync::Arc<Board>>,
    feed: Feed,
    over: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<Batch> {
        if let Some(board) = self.first.take() {
            return Some(self.batch(&board));
        }
        while !self.over {
            let revision = match self.feed.next().await {
                Wake::End => return None,
                Wake::Look => i64::MAX,
                Wake::Event(Event::Changed { study, revision })
                    if study == self.study && revision > self.sent =>
                {
                    tokio::time::sleep(TOGETHER).await;
                    revision
                }
                Wake::Event(Event::Deleted { study }) if study == self.study => return Some(self.end()),
                Wake::Event(_) => continue,
            };
            match self.feed.state.boards.at_least(self.study, revision).await {
                Ok(board) if board.study.row.revision > self.sent => return Some(self.batch(&board)),
                Ok(_) => {}
                Err(StoreError::NotFound { .. }) => return Some(self.end()),
                // the browser comes again
                Err(e) => {
                    tracing::warn!(study = self.study, "a stream of events ends: {e}");
                    return None;
                }
            }
        }
        None
    }

    /// What changed since the last batch, in the order of revisions, the study last.
    fn batch(&mut self, board: &Board) -> Batch {
        let catalog = &self.feed.state.catalog;
        let mut batch: Batch = board
            .changed_since(self.sent)
            .into_iter()
            .map(|trial| {
                let row = views::trial_row(trial, &board.study, catalog);
                event("trial", &row).id(trial.revision.to_string())
            })
            .collect();
        let delta = StudyDelta {
            row: board.row(OffsetDateTime::now_utc()),
            best: views::best(&board.study, board.trials()),
            hypervolume: board.curve.value(),
        };
        self.sent = board.study.row.revision;
        batch.push(event("study", &delta).id(self.sent.to_string()));
        batch
    }

    fn end(&mut self) -> Batch {
        self.over = true;
        vec![event("deleted", &serde_json::json!({ "id": self.study }))]
    }
}

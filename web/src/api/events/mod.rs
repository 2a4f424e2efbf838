//! Changes as they happen, as server-sent events.
//!
//! Postgres tells this server of each change once, however many browsers listen; what changed is read once as well, by
//! whoever comes first, into the study's board. A stream ends after a while, so that who reads on is asked for again.

mod home;
mod study;

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use axum::response::sse::{self, KeepAlive, Sse};
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use store::Event;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::AppState;

/// Between two comments that keep an idle connection open.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Between two looks that need no notification: the net below those that are lost.
const POLL: Duration = Duration::from_secs(30);
/// Changes within this time are sent together.
const TOGETHER: Duration = Duration::from_millis(200);
/// After this the browser has to come again, with a session that is still valid.
const LIFE: Duration = Duration::from_secs(15 * 60);
/// The browser waits so long before it comes again.
const RETRY: Duration = Duration::from_secs(2);

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(study::watch))
        .routes(routes!(home::watch))
}

/// Why a stream goes on.
enum Wake {
    /// Something happened.
    Event(Event),
    /// Time to look without being told, or too much happened at once.
    Look,
    /// The stream is over.
    End,
}

/// Notifications, for the time that one stream lives.
struct Feed {
    state: AppState,
    receiver: Receiver<Event>,
    ends: Instant,
}

impl Feed {
    /// Hears of everything from now on; what was before must be read after this.
    fn open(state: &AppState) -> Feed {
        Feed {
            state: state.clone(),
            receiver: state.events.subscribe(),
            ends: Instant::now() + LIFE,
        }
    }

    async fn next(&mut self) -> Wake {
        if Instant::now() >= self.ends {
            return Wake::End;
        }
        tokio::select! {
            received = self.receiver.recv() => match received {
                Ok(Event::Resumed) | Err(RecvError::Lagged(_)) => Wake::Look,
                Ok(event) => Wake::Event(event),
                Err(RecvError::Closed) => Wake::End,
            },
            () = tokio::time::sleep(POLL) => Wake::Look,
            () = self.state.stopped() => Wake::End,
        }
    }
}

type Batch = Vec<sse::Event>;

/// Sends batches until there are no more.
fn respond(
    batches: impl Stream<Item = Batch> + Send + 'static,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let greeting = stream::iter([sse::Event::default().retry(RETRY).comment("hello")]);
    let events = greeting.chain(batches.flat_map(stream::iter)).map(Ok);
    Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT))
}

fn event(name: &str, data: &impl Serialize) -> sse::Event {
    let text = serde_json::to_string(data).expect("rows have text keys and cannot fail to serialise");
    sse::Event::default().event(name).data(text)
}

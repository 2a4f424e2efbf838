//! What changed, as it changes: Postgres notifications, handed to any number of listeners.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use sqlx::{PgPool, postgres::PgListener};
use tokio::{sync::broadcast, task::JoinHandle};

use crate::{Result, Store};

/// A notification. It carries ids only: [`Store::changes_since`] tells what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Something visible in a study changed.
    Changed {
        /// The study's id.
        study: i64,
        /// Its revision after the change.
        revision: i64,
    },
    /// A study was deleted.
    Deleted {
        /// The id it had.
        study: i64,
    },
    /// A trial may wait for a worker. One that waits for its next attempt comes without: lease again now and then.
    Queued,
    /// The connection was lost and is back: anything may have changed in between.
    Resumed,
}

/// The running listener; clones share it, the last one dropped ends it.
#[derive(Clone, Debug)]
pub struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    // weak: the task holds the sender, so that subscribers learn when it has ended
    sender: broadcast::WeakSender<Event>,
    task: JoinHandle<()>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Events {
    /// A new receiver. One that falls behind gets `Lagged`, which means the same as [`Event::Resumed`]; it is closed when
    /// the store is.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        match self.shared.sender.upgrade() {
            Some(sender) => sender.subscribe(),
            None => broadcast::channel(1).1,
        }
    }
}

impl Store {
    /// Starts to listen, over one connection for all subscribers, which is restored when it breaks.
    /// Changes committed after this returns reach those who have subscribed.
    ///
    /// # Errors
    /// [`crate::StoreError::Database`] if the first connection fails.
    pub async fn events(&self) -> Result<Events> {
        let listener = listen(&self.pool).await?;
        let (sender, _) = broadcast::channel(1024);
        let weak = sender.downgrade();
        let task = tokio::spawn(forward(self.pool.clone(), listener, sender));
        Ok(Events {
            shared: Arc::new(Shared { sender: weak, task }),
        })
    }
}

async fn listen(pool: &PgPool) -> sqlx::Result<PgListener> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen("parsimony").await?;
    Ok(listener)
}

/// Runs until the pool is closed. A broken listener is replaced: one that failed to reconnect may not hear again.
async fn forward(pool: PgPool, mut listener: PgListener, sender: broadcast::Sender<Event>) {
    loop {
        let event = match listener.try_recv().await {
            Ok(Some(notification)) => match serde_json::from_str(notification.payload()) {
                Ok(event) => event,
                Err(e) => {
                    // another version of this program may share the database
                    tracing::warn!(
                        payload = notification.payload(),
                        "unknown notification ignored: {e}"
                    );
                    continue;
                }
            },
            Ok(None) => Event::Resumed,
            Err(sqlx::Error::PoolClosed) => return,
            Err(e) => {
                tracing::warn!("lost the connection that listens for changes: {e}");
                match reconnect(&pool).await {
                    Some(fresh) => listener = fresh,
                    None => return,
                }
                Event::Resumed
            }
        };
        // no subscriber at the moment is not an error
        let _ = sender.send(event);
    }
}

async fn reconnect(pool: &PgPool) -> Option<PgListener> {
    let mut pause = Duration::from_millis(100);
    while !pool.is_closed() {
        match listen(pool).await {
            Ok(listener) => return Some(listener),
            Err(e) => tracing::debug!("cannot listen for changes yet: {e}"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    None
}

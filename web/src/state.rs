//! What every handler shares.

use std::{sync::Arc, time::Duration};

use object_store::ObjectStore;
use spaces::{Catalog, SpecError, Study};
use store::{Events, Store};
use tokio::sync::{RwLock, watch};

use crate::{auth::Attempts, board::Boards, conversations::Conversations, meters::Meters};

/// What the catalogue alone cannot check; the binary implements it with the evaluator.
pub trait Admission: Send + Sync {
    /// Checks the base checkpoint, that the data may be read and is there, that the shapes can be built. Returns the
    /// data's fingerprint. Reads files: it is called where blocking is allowed.
    ///
    /// # Errors
    /// Every [`SpecError`] found.
    fn admit(&self, study: &Study) -> Result<String, Vec<SpecError>>;
}

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a lease lasts without a heartbeat.
    pub lease: Duration,
    /// How long a browser stays logged in.
    pub session: Duration,
    /// The address people reach this server at, without a slash at its end: `https://search.example.org`.
    pub public_url: String,
    /// Most bytes of one uploaded file.
    pub max_artifact_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            lease: Duration::from_secs(60),
            session: Duration::from_secs(30 * 24 * 3600),
            public_url: "http://127.0.0.1:8080".into(),
            max_artifact_bytes: 16 << 30,
        }
    }
}

/// What every handler shares. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// Studies, trials, measurements, tokens.
    pub store: Store,
    /// What this build offers.
    pub catalog: Arc<Catalog>,
    /// Checks a study against the machine.
    pub admission: Arc<dyn Admission>,
    /// Bytes of the files that trials leave behind.
    pub objects: Arc<dyn ObjectStore>,
    /// What the operator set.
    pub settings: Arc<Settings>,
    pub(crate) events: Events,
    pub(crate) boards: Arc<Boards>,
    pub(crate) conversations: Arc<Conversations>,
    pub(crate) meters: Arc<Meters>,
    pub(crate) attempts: Arc<Attempts>,
    /// Read while an upload gets its name, written while files are deleted: equal files share their bytes, so a
    /// deletion must not meet an upload that has just found them.
    pub(crate) files: Arc<RwLock<()>>,
    pub(crate) stopping: Arc<watch::Sender<bool>>,
}

impl AppState {
    /// Brings the parts together and starts to listen for changes.
    ///
    /// # Errors
    /// [`store::StoreError::Database`] if the listener cannot connect.
    pub async fn new(
        store: Store,
        catalog: Arc<Catalog>,
        admission: Arc<dyn Admission>,
        objects: Arc<dyn ObjectStore>,
        settings: Settings,
    ) -> store::Result<AppState> {
        Ok(AppState {
            events: store.events().await?,
            boards: Arc::new(Boards::new(store.clone(), Arc::clone(&catalog))),
            store,
            catalog,
            admission,
            objects,
            settings: Arc::new(settings),
            conversations: Arc::default(),
            meters: Arc::default(),
            attempts: Arc::default(),
            files: Arc::default(),
            stopping: Arc::new(watch::Sender::new(false)),
        })
    }

    /// Ends long polls and event streams, so that the server can stop.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Returns once the server is about to stop.
    pub(crate) async fn stopped(&self) {
        // the sender lives in the state itself, so waiting cannot fail
        let _ = self.stopping.subscribe().wait_for(|stop| *stop).await;
    }
}

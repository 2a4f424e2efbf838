//! The server: database, files, controller and pages in one process.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use object_store::{ObjectStore, local::LocalFileSystem};
use spaces::Catalog;
use store::{Cluster, NewToken, Role, Store};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use web::{AppState, Settings};

use crate::{
    admission::{Inspector, catalog},
    controller::Controller,
    errors::BadInput,
    files::ReadableData,
    settings::Global,
};

/// A database that is open, and the private cluster behind it where there is one.
pub(crate) struct Database {
    pub(crate) store: Store,
    cluster: Option<Cluster>,
}

impl Database {
    /// Opens the database of `--database-url`, or the private one of the data folder.
    pub(crate) async fn open(global: &Global) -> anyhow::Result<Database> {
        if let Some(url) = &global.database_url {
            return Ok(Database {
                store: Store::open(url).await?,
                cluster: None,
            });
        }
        let cluster = Cluster::ensure(&global.data_dir()).await?;
        Ok(Database {
            store: Store::open(&cluster.url()).await?,
            cluster: Some(cluster),
        })
    }

    /// Closes it; the private server is stopped if nobody else uses it.
    pub(crate) async fn close(self) {
        self.store.close().await;
        if let Some(cluster) = self.cluster
            && let Err(error) = cluster.stop_if_idle().await
        {
            tracing::warn!(%error, "the private database was left running");
        }
    }
}

/// The files that trials leave behind.
pub(crate) fn objects(global: &Global) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let folder = global.data_dir().join("artifacts");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("'{}' cannot be made; choose another --data-dir", folder.display()))?;
    Ok(Arc::new(
        LocalFileSystem::new_with_prefix(&folder)?.with_fsync(true),
    ))
}

/// How a server is run.
#[derive(Clone, Debug)]
pub(crate) struct ServerSettings {
    /// Where it listens; port 0 for any free one.
    pub(crate) listen: SocketAddr,
    /// The address people reach it at; derived from `listen` if not given.
    pub(crate) public_url: Option<String>,
    /// What studies may read.
    pub(crate) readable: ReadableData,
    /// How long a lease lasts without a heartbeat.
    pub(crate) lease: Duration,
}

/// A server that runs in this process.
pub(crate) struct Server {
    pub(crate) database: Database,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) inspector: Arc<Inspector>,
    /// Without a slash at its end.
    pub(crate) url: String,
    stop: watch::Sender<bool>,
    serving: JoinHandle<std::io::Result<()>>,
    controlling: JoinHandle<()>,
}

impl Server {
    /// Opens the database and listens.
    pub(crate) async fn start(global: &Global, settings: ServerSettings) -> anyhow::Result<Server> {
        // before anything is started, so that a wrong address costs nothing
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|e| listen_error(settings.listen, &e))?;
        let address = listener.local_addr()?;
        let url = settings.public_url.unwrap_or_else(|| format!("http://{address}"));
        let database = Database::open(global).await?;
        let catalog = Arc::new(catalog());
        let inspector = Arc::new(Inspector::new(Arc::clone(&catalog), settings.readable));
        let state = AppState::new(
            database.store.clone(),
            Arc::clone(&catalog),
            inspector.clone(),
            objects(global)?,
            Settings {
                lease: settings.lease,
                public_url: url.clone(),
                ..Settings::default()
            },
        )
        .await?;
        let controller = Controller::new(
            database.store.clone(),
            Arc::clone(&catalog),
            Arc::clone(&inspector),
        );
        let (stop, mut stopped) = watch::channel(false);
        let serving = tokio::spawn(web::serve(listener, state, async move {
            // an error means that the sender is gone, which is a reason to stop as well
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
        Ok(Server {
            database,
            catalog,
            inspector,
            url,
            stop,
            serving,
            controlling: tokio::spawn(controller.run()),
        })
    }

    /// A link that logs a browser in, once.
    pub(crate) async fn login_link(&self) -> anyhow::Result<String> {
        let token = NewToken {
            role: Role::Admin,
            label: "login link".into(),
            expires_in: Some(Duration::from_secs(24 * 3600)),
            one_time: true,
        };
        let token = self.database.store.create_token(&token).await?;
        Ok(format!("{}/login?token={}", self.url, token.secret))
    }

    /// A token for a worker of this server's own.
    pub(crate) async fn worker_token(&self) -> anyhow::Result<String> {
        let token = NewToken {
            role: Role::Worker,
            label: "local worker".into(),
            expires_in: None,
            one_time: false,
        };
        Ok(self.database.store.create_token(&token).await?.secret)
    }

    /// Waits until the server ends by itself, which is always an error.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match (&mut self.serving).await {
            Ok(Ok(())) => anyhow::anyhow!("the server stopped"),
            Ok(Err(error)) => anyhow::Error::from(error).context("the server failed"),
            Err(error) => anyhow::Error::from(error).context("the server failed"),
        }
    }

    /// Lets requests under way end, then closes the database.
    pub(crate) async fn stop(self) {
        self.controlling.abort();
        self.stop.send_replace(true);
        if !self.serving.is_finished()
            && let Err(error) = self.serving.await
        {
            tracing::warn!(%error, "the server did not end well");
        }
        self.database.close().await;
    }
}

fn listen_error(address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => BadInput::error(format!(
            "address {address} is in use; stop the other program or choose another with --listen 127.0.0.1:PORT (0 for any free one)"
        )),
        _ => BadInput::error(format!(
            "cannot listen on {address}: {error}; choose another address with --listen"
        )),
    }
}

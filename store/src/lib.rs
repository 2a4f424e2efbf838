//! What happened: studies, trials and measurements in Postgres, and the queue between search and workers.
//!
//! All SQL of the product is in this crate. [`Store`] is the one way in; its methods are grouped by file: studies, the queue,
//! steering (pause, cancel, retry), reading, access, events. [`Cluster`] runs a private server where no `DATABASE_URL` is given.
//!
//! Rules that every method keeps:
//! - a trial goes forward only: queued, running, ended. The ways back are a lease that ran out, a failure worth another
//!   attempt, a worker that gives the trial back, a person's retry, and the promotion of a trial that rests at a part of its
//!   training;
//! - whoever works on a trial proves its claim with the lease's token; a token that lost its claim writes nothing;
//! - measurements and finishes are appended, never changed; reporting twice is harmless;
//! - each visible change raises the study's revision in the same transaction, so [`Store::changes_since`] misses nothing.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = store::Cluster::ensure("/var/lib/parsimony".as_ref()).await?;
//! let store = store::Store::open(&cluster.url()).await?;
//! for study in store.studies().await? {
//!     println!("{}: {} done", study.study.name, study.counts.done);
//! }
//! store.close().await;
//! cluster.stop_if_idle().await?;
//! # Ok(())
//! # }
//! ```

mod access;
mod artifacts;
mod error;
mod events;
mod history;
mod lead;
mod local;
mod lock;
mod queue;
mod row;
mod steer;
mod studies;
#[cfg(feature = "test-support")]
pub mod testing;
mod trials;
mod workers;

use std::time::Duration;

use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub use self::{
    access::{Access, IssuedToken, NewToken, Role, Session, Token},
    artifacts::Artifact,
    error::StoreError,
    events::{Event, Events},
    history::{Finish, TrialCurve},
    lead::Lead,
    local::{Cluster, LocalError, PgBinaries, find_binaries},
    queue::{Enqueued, Lease, NewTrial, Snapshot},
    studies::{Counts, Study, StudyState, StudySummary},
    trials::{Changes, Trial, TrialDetail, TrialFilter},
    workers::Worker,
};

/// What every method of this crate returns.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// The oldest server that has all we use.
const OLDEST_SERVER: u32 = 14;

/// The database. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    /// Connects to `url` and brings the database to this version's schema.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`], [`StoreError::Unreachable`], [`StoreError::ServerTooOld`], [`StoreError::DatabaseTooNew`],
    /// [`StoreError::DatabaseAltered`].
    pub async fn open(url: &str) -> Result<Store> {
        let options = read_url(url)?;
        let mut first = connect(&options).await?;
        check_version(&mut first).await?;
        first.close().await?;
        let pool = PgPoolOptions::new()
            .max_connections(16)
            .acquire_timeout(Duration::from_secs(10))
            .connect_lazy_with(options);
        migrate(&pool).await?;
        Ok(Store { pool })
    }

    /// Answers if the database answers.
    ///
    /// # Errors
    /// [`StoreError::Database`] if it does not.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("select 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Ends every connection of this store and its clones; do so before [`Cluster::stop_if_idle`].
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn read_url(url: &str) -> Result<PgConnectOptions> {
    // the parser takes any scheme
    if !["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        return Err(StoreError::BadUrl("it is not one of Postgres".into()));
    }
    let options: PgConnectOptions = url
        .parse()
        .map_err(|e: sqlx::Error| StoreError::BadUrl(e.to_string()))?;
    Ok(options.application_name("parsimony"))
}

/// A single connection, outside of a pool: a pool would hide the reason behind a time-out.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    let mut attempts = 0;
    loop {
        match PgConnection::connect_with(options).await {
            Ok(connection) => return Ok(connection),
            // 57P03: the server is starting up, which a crash recovery makes long
            Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("57P03") && attempts < 100 => {
                attempts += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(source) => {
                let address = match options.get_socket() {
                    Some(socket) => socket.display().to_string(),
                    None => format!("{}:{}", options.get_host(), options.get_port()),
                };
                return Err(StoreError::Unreachable { address, source });
            }
        }
    }
}

async fn check_version(connection: &mut PgConnection) -> Result<()> {
    let number: String = sqlx::query_scalar("show server_version_num")
        .fetch_one(connection)
        .await?;
    let major = number.parse::<u32>().unwrap_or(0) / 10_000;
    if major < OLDEST_SERVER {
        return Err(StoreError::ServerTooOld(major));
    }
    Ok(())
}

async fn migrate(pool: &PgPool) -> Result<()> {
    MIGRATIONS.run(pool).await.map_err(|e| match e {
        MigrateError::VersionMissing(version) => StoreError::DatabaseTooNew(version),
        MigrateError::VersionMismatch(version) => StoreError::DatabaseAltered(version),
        other => StoreError::Database(other.into()),
    })
}

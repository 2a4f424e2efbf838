//! What can go wrong, by what the caller can do about it.

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The claim is over: its lease ran out, or the trial was cancelled, deleted or given to another.
    #[error("the lease on trial {trial} is no longer valid; drop this trial and lease the next one")]
    LeaseLost {
        /// The trial's id.
        trial: i64,
    },
    /// There is no such thing.
    #[error("there is no {what} '{name}'; look it up in the list")]
    NotFound {
        /// `study`, `trial`, `token`.
        what: &'static str,
        /// What was asked for.
        name: String,
    },
    /// A study of that name exists.
    #[error("a study named '{0}' exists already; choose another name or delete that study first")]
    NameTaken(String),
    /// The thing's state does not allow it.
    #[error("{what} is {state} and cannot be {action}; {remedy}")]
    WrongState {
        /// Such as `study 'shakespeare'`.
        what: String,
        /// Its state.
        state: &'static str,
        /// What was asked, as a participle: `paused`.
        action: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// A value that cannot be stored.
    #[error("{0}")]
    Invalid(String),
    /// Not a database URL.
    #[error("the database url cannot be read ({0}); write postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    BadUrl(String),
    /// No server, or it refuses us.
    #[error(
        "cannot connect to Postgres at {address} ({source}); check that it runs and that DATABASE_URL is right"
    )]
    Unreachable {
        /// Socket, or host and port.
        address: String,
        /// Why.
        source: sqlx::Error,
    },
    /// Postgres before 14.
    #[error("the Postgres server is version {0}, which is too old; use version 14 or newer")]
    ServerTooOld(u32),
    /// A later version of this program has migrated the database.
    #[error(
        "the database has migration {0}, which this version does not know; use the newer version that wrote it"
    )]
    DatabaseTooNew(i64),
    /// A migration differs from the one that was run.
    #[error(
        "migration {0} differs from the one that made this database; use the version that made it, or a new database"
    )]
    DatabaseAltered(i64),
    /// Anything else.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

impl StoreError {
    pub(crate) fn no_study(name: impl ToString) -> Self {
        StoreError::NotFound {
            what: "study",
            name: name.to_string(),
        }
    }

    pub(crate) fn no_trial(id: i64) -> Self {
        StoreError::NotFound {
            what: "trial",
            name: id.to_string(),
        }
    }
}

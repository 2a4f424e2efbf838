//! Why there is no private server, and what to do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

/// An error of the private server.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// No server programs on this machine.
    #[error(
        "no PostgreSQL server was found on this machine; install one (Debian and Ubuntu: apt-get install -y \
        --no-install-recommends postgresql), set PG_BIN to the folder of its programs, or give DATABASE_URL"
    )]
    NoBinaries,
    /// `PG_BIN` names the wrong folder.
    #[error("PG_BIN is '{folder}', which does not hold the programs initdb, pg_ctl and postgres; correct or unset it", folder = .folder.display())]
    WrongPgBin {
        /// What it names.
        folder: PathBuf,
    },
    /// Only servers before version 14.
    #[error("the newest PostgreSQL server found is version {major} in {folder}; install version 14 or newer, or give DATABASE_URL", folder = .folder.display())]
    TooOld {
        /// Its major version.
        major: u32,
        /// Where it is.
        folder: PathBuf,
    },
    /// The cluster was written by another major version.
    #[error(
        "the data in {folder} was written by PostgreSQL {needed}, and only version {found} is installed; install version \
        {needed} beside it, or choose another data folder",
        folder = .folder.display()
    )]
    WrongVersion {
        /// The cluster's folder.
        folder: PathBuf,
        /// Its version.
        needed: u32,
        /// The versions installed, joined by commas.
        found: String,
    },
    /// The folder holds something else.
    #[error("{folder} is not a PostgreSQL data folder; move it away or choose another data folder", folder = .folder.display())]
    NotACluster {
        /// The folder.
        folder: PathBuf,
    },
    /// We are root and have nobody to run the server as.
    #[error(
        "Postgres does not run as root, and there is neither a user 'postgres' nor 'nobody'; create one or give DATABASE_URL"
    )]
    NoAccount,
    /// We are root, and the server's user cannot enter the data folder.
    #[error(
        "the server runs as '{user}', which cannot enter {blocked} (mode {mode:o}) on the way to the data folder {data_dir}; choose a data \
        folder elsewhere, such as /var/lib/parsimony, or allow it with chmod o+x {blocked}",
        blocked = .blocked.display(), data_dir = .data_dir.display()
    )]
    OutOfReach {
        /// The server's user.
        user: &'static str,
        /// The folder it cannot enter.
        blocked: PathBuf,
        /// That folder's mode.
        mode: u32,
        /// The data folder.
        data_dir: PathBuf,
    },
    /// Somebody else made the folder for our socket.
    #[error("the socket folder {folder} is not the server's own with mode 700; remove it, or set TMPDIR to a private folder", folder = .folder.display())]
    ForeignSocketFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// A server runs and does not answer.
    #[error(
        "the server (process {pid}) of {folder} runs and does not answer on its socket in {socket_folder}; end it with kill -INT {pid} \
        and try again",
        folder = .folder.display(), socket_folder = .socket_folder.display()
    )]
    NoAnswer {
        /// Its process.
        pid: u32,
        /// Its cluster's folder.
        folder: PathBuf,
        /// Where its socket should be.
        socket_folder: PathBuf,
    },
    /// No space left.
    #[error("the disk that holds {folder} is full; free some space or choose another data folder", folder = .folder.display())]
    DiskFull {
        /// The data folder.
        folder: PathBuf,
    },
    /// A program of the server failed.
    #[error("{program} failed: {reason}; the whole story is in {log}", reason = reason(.output), log = .log.display())]
    Failed {
        /// `initdb`, `pg_ctl start` or `pg_ctl stop`.
        program: &'static str,
        /// The log.
        log: PathBuf,
        /// What it holds.
        output: String,
    },
    /// A file could not be used.
    #[error("cannot {action} {path}: {source}; check its owner and permissions", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The server could not be asked who is connected.
    #[error("the private server cannot be asked whether it is idle: {0}; it was left running")]
    Ask(#[source] sqlx::Error),
}

/// The line that says why: the first fatal or erroneous one, or else the last.
fn reason(output: &str) -> &str {
    let lines = || output.lines().map(str::trim).filter(|line| !line.is_empty());
    lines()
        .find(|line| {
            ["FATAL:", "PANIC:", "error:"]
                .iter()
                .any(|word| line.contains(word))
        })
        .or_else(|| lines().next_back())
        .unwrap_or("it said nothing")
}

/// Names the file an I/O error is about.
pub(super) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, LocalError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, LocalError> {
        self.map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull => LocalError::DiskFull {
                folder: path.to_owned(),
            },
            _ => LocalError::Io {
                action,
                path: path.to_owned(),
                source,
            },
        })
    }
}

//! The private server: a Postgres cluster in the data folder, reached over a unix socket, for those who give no `DATABASE_URL`.
//!
//! In the data folder: `postgres/` (the cluster), `postgres.log` (this start's log; the one before beside it), `postgres.lock`
//! (held while starting or stopping) and `postgres.users` (shared by those who use the server; the last one may stop it).

mod account;
mod binaries;
mod error;
mod postmaster;

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use self::{account::Account, error::At, postmaster::SOCKET};
pub use self::{
    binaries::{PgBinaries, find_binaries},
    error::LocalError,
};

/// The user and the database; `trust` is safe, since only the owner of the socket's folder reaches it.
const USER: &str = "parsimony";
const DATABASE: &str = "postgres";

/// A private server that runs. Dropping this leaves it running; see [`Cluster::stop_if_idle`].
#[derive(Debug)]
pub struct Cluster {
    binaries: PgBinaries,
    account: Option<Account>,
    data_dir: PathBuf,
    socket_folder: PathBuf,
    users: File,
}

impl Cluster {
    /// The server of this data folder: made if there is none, started if it is down, recovered if it was killed.
    ///
    /// Any number of processes may call this at once; they share the server. About 2 s for an empty folder, 0.2 s for a
    /// start, nothing for a server that runs.
    ///
    /// # Errors
    /// [`LocalError`], each with its remedy.
    pub async fn ensure(data_dir: &Path) -> Result<Cluster, LocalError> {
        let data_dir = data_dir.to_owned();
        blocking(move || ensure(&data_dir)).await
    }

    /// The URL for [`crate::Store::open`] and for `psql`.
    pub fn url(&self) -> String {
        let folder = self.socket_folder.display();
        format!("postgres://{USER}@localhost/{DATABASE}?host={folder}&sslmode=disable")
    }

    /// The folder that holds the server's files.
    pub fn folder(&self) -> PathBuf {
        self.data_dir.join("postgres")
    }

    /// The programs that run it.
    pub fn binaries(&self) -> &PgBinaries {
        &self.binaries
    }

    /// Stops the server unless another process uses it or a client is connected. Returns whether it is down now.
    /// Close your own [`crate::Store`] before.
    ///
    /// # Errors
    /// [`LocalError`] if it cannot be asked or does not stop.
    pub async fn stop_if_idle(self) -> Result<bool, LocalError> {
        let (lock_path, users) = (self.data_dir.join("postgres.lock"), self.users.try_clone());
        let users = users.at("share the lock file", &self.data_dir)?;
        // under this lock nobody starts to use the server
        let starting = blocking(move || lock(&lock_path)).await?;
        if users.try_lock().is_err() {
            return Ok(false);
        }
        if postmaster::find(&self.folder(), &self.binaries)?.is_none() {
            return Ok(true);
        }
        if has_clients(&self.url()).await? {
            return Ok(false);
        }
        blocking(move || {
            let mut stop = self.command("pg_ctl");
            stop.args(["stop", "--mode=fast", "--wait", "--silent"])
                .env("PGDATA", self.folder());
            run(&mut stop, "pg_ctl stop", &self.data_dir)?;
            // an empty folder left in the temporary one harms nobody
            let _ = fs::remove_dir(&self.socket_folder);
            drop(starting);
            Ok(true)
        })
        .await
    }

    fn command(&self, program: &str) -> Command {
        command(&self.binaries, self.account.as_ref(), program)
    }
}

/// Runs what waits for files and processes away from the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LocalError> + Send + 'static,
) -> Result<T, LocalError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}

fn ensure(data_dir: &Path) -> Result<Cluster, LocalError> {
    let account = Account::for_server()?;
    let data_dir = open_folder(data_dir, account.as_ref())?;
    let _starting = lock(&data_dir.join("postgres.lock"))?;
    let users_path = data_dir.join("postgres.users");
    let users = open_lock(&users_path)?;
    users.lock_shared().at("lock", &users_path)?;

    let folder = data_dir.join("postgres");
    let binaries = match written_by(&folder)? {
        Some(major) => binaries::of_version(major, &folder)?,
        None => {
            let binaries = find_binaries()?;
            create(&data_dir, &binaries, account.as_ref())?;
            binaries
        }
    };
    let socket_folder = match postmaster::await_running(&folder, &binaries)? {
        Some(socket_folder) => socket_folder,
        None => start(&data_dir, &binaries, account.as_ref())?,
    };
    Ok(Cluster {
        binaries,
        account,
        data_dir,
        socket_folder,
        users,
    })
}

/// Creates the data folder if it is missing; returns its real path.
fn open_folder(data_dir: &Path, account: Option<&Account>) -> Result<PathBuf, LocalError> {
    let made = !data_dir.exists();
    fs::create_dir_all(data_dir).at("create", data_dir)?;
    let data_dir = data_dir.canonicalize().at("find", data_dir)?;
    if let Some(account) = account {
        if made {
            // a strict umask would lock the server's user out of what we have just made for it
            let mode = fs::metadata(&data_dir).at("read", &data_dir)?.mode() | 0o011;
            fs::set_permissions(&data_dir, Permissions::from_mode(mode))
                .at("open to the server", &data_dir)?;
        }
        account.check_reaches(&data_dir)?;
    }
    Ok(data_dir)
}

fn open_lock(path: &Path) -> Result<File, LocalError> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    options.open(path).at("open", path)
}

fn lock(path: &Path) -> Result<File, LocalError> {
    let file = open_lock(path)?;
    file.lock().at("lock", path)?;
    Ok(file)
}

/// The major version that wrote the cluster; `None` if there is no cluster.
fn written_by(folder: &Path) -> Result<Option<u32>, LocalError> {
    let path = folder.join("PG_VERSION");
    let foreign = || LocalError::NotACluster {
        folder: folder.to_owned(),
    };
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| foreign()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let something = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
            if something { Err(foreign()) } else { Ok(None) }
        }
        Err(e) => Err(e).at("read", &path),
    }
}

/// Makes the cluster in a sibling and renames it when whole: an interrupted first start leaves nothing half made.
fn create(data_dir: &Path, binaries: &PgBinaries, account: Option<&Account>) -> Result<(), LocalError> {
    let (folder, sibling) = (data_dir.join("postgres"), data_dir.join("postgres.new"));
    if sibling.exists() {
        fs::remove_dir_all(&sibling).at("remove", &sibling)?;
    }
    make_private(&sibling, account)?;
    let mut initdb = command(binaries, account, "initdb");
    initdb.args([
        "--no-sync",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--username",
        USER,
    ]);
    if let Err(e) = run(initdb.arg("--pgdata").arg(&sibling), "initdb", data_dir) {
        // a full disk is not made fuller; what cannot be removed now is removed by the next start
        let _ = fs::remove_dir_all(&sibling);
        return Err(e);
    }
    fs::rename(&sibling, &folder).at("put the new cluster in place as", &folder)
}

/// Starts the server; returns the folder of its socket.
fn start(data_dir: &Path, binaries: &PgBinaries, account: Option<&Account>) -> Result<PathBuf, LocalError> {
    let folder = data_dir.join("postgres");
    let socket_folder = postmaster::socket_folder(&folder);
    if !socket_folder.exists() {
        make_private(&socket_folder, account)?;
    }
    check_private(&socket_folder, account)?;
    let mut attempts = 0;
    loop {
        // what a killed server leaves: the server itself would take a number that is in use again, or a zombie, for it
        for stale in [
            folder.join("postmaster.pid"),
            socket_folder.join(format!("{SOCKET}.lock")),
        ] {
            match fs::remove_file(&stale) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).at("remove", &stale),
                _ => {}
            }
        }
        let mut start = command(binaries, account, "pg_ctl");
        // pg_ctl hands its arguments to a shell: the folder, which may hold anything, goes by the environment, and the
        // socket's has only harmless characters
        start
            .args(["start", "--wait", "--timeout=300", "--silent"])
            .env("PGDATA", &folder);
        start.arg(format!(
            "--options=-c listen_addresses= -c unix_socket_permissions=0700 -c unix_socket_directories={}",
            socket_folder.display()
        ));
        match run(&mut start, "pg_ctl start", data_dir) {
            // children of a killed server hold its memory until they notice
            Err(LocalError::Failed { output, .. })
                if output.contains("shared memory block") && attempts < 50 =>
            {
                attempts += 1;
                std::thread::sleep(Duration::from_millis(200));
            }
            result => return result.map(|()| socket_folder),
        }
    }
}

/// Makes a folder that only the server's user enters.
fn make_private(folder: &Path, account: Option<&Account>) -> Result<(), LocalError> {
    fs::create_dir(folder).at("create", folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700)).at("protect", folder)?;
    account.map_or(Ok(()), |account| account.own(folder))
}

/// Refuses a socket folder that someone else prepared in the shared temporary folder.
fn check_private(folder: &Path, account: Option<&Account>) -> Result<(), LocalError> {
    let found = fs::symlink_metadata(folder).at("read", folder)?;
    let owner = account.map_or_else(account::our_uid, Account::uid);
    if !found.is_dir() || found.uid() != owner || found.mode() & 0o077 != 0 {
        return Err(LocalError::ForeignSocketFolder {
            folder: folder.to_owned(),
        });
    }
    Ok(())
}

fn command(binaries: &PgBinaries, account: Option<&Account>, program: &str) -> Command {
    let mut command = Command::new(binaries.folder.join(program));
    // the user's own PGDATA, PGHOST ... are about another server
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
    if let Some(account) = account {
        account.run_as(&mut command);
    }
    command
}

/// Runs a program to its end, its output going to the log: a server keeps its starter's output open, so a pipe would
/// never end.
fn run(command: &mut Command, name: &'static str, data_dir: &Path) -> Result<(), LocalError> {
    let log_path = data_dir.join("postgres.log");
    if name != "pg_ctl stop" && log_path.exists() {
        let before = data_dir.join("postgres.previous.log");
        fs::rename(&log_path, &before).at("rename", &log_path)?;
    }
    let log = File::options()
        .create(true)
        .append(true)
        .open(&log_path)
        .at("write", &log_path)?;
    let errors = log.try_clone().at("write", &log_path)?;
    let status = command
        .stdout(log)
        .stderr(errors)
        .status()
        .at("run", Path::new(command.get_program()));
    if status?.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&fs::read(&log_path).at("read", &log_path)?).into_owned();
    // the second is the hint that goes with a write cut short
    if ["No space left on device", "Check free disk space"]
        .iter()
        .any(|sign| output.contains(sign))
    {
        return Err(LocalError::DiskFull {
            folder: data_dir.to_owned(),
        });
    }
    Err(LocalError::Failed {
        program: name,
        log: log_path,
        output,
    })
}

/// Whether anyone but us is connected. Connections closed just now take a moment to go.
async fn has_clients(url: &str) -> Result<bool, LocalError> {
    let options: PgConnectOptions = url.parse().map_err(LocalError::Ask)?;
    let mut connection = PgConnection::connect_with(&options)
        .await
        .map_err(LocalError::Ask)?;
    let mut clients: i64 = 0;
    for _ in 0..20 {
        clients = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()",
        )
        .fetch_one(&mut connection)
        .await
        .map_err(LocalError::Ask)?;
        if clients == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    connection.close().await.map_err(LocalError::Ask)?;
    Ok(clients > 0)
}

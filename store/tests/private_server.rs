//! The private server: made, shared, killed and recovered, for real.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use store::{Cluster, LocalError, NewToken, Role, Store};
use tempfile::TempDir;

/// A data folder that the server's user can reach; a server that a failed test leaves is ended.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        Folder(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn pid_file(&self) -> PathBuf {
        self.path().join("postgres/postmaster.pid")
    }

    fn pid(&self) -> Option<u32> {
        fs::read_to_string(self.pid_file())
            .ok()?
            .lines()
            .next()?
            .parse()
            .ok()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(pid) = self
            .pid()
            .filter(|pid| name_of(*pid).as_deref() == Some("postgres"))
        {
            signal(pid, "QUIT");
        }
    }
}

fn name_of(pid: u32) -> Option<String> {
    Some(
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .ok()?
            .trim()
            .to_owned(),
    )
}

fn signal(pid: u32, signal: &str) {
    Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .status()
        .unwrap();
}

/// Leaves something to be found again.
async fn write(cluster: &Cluster) -> String {
    let store = Store::open(&cluster.url()).await.unwrap();
    let token = NewToken {
        role: Role::Admin,
        label: "kept".into(),
        expires_in: None,
        one_time: false,
    };
    let issued = store.create_token(&token).await.unwrap();
    store.close().await;
    issued.secret
}

async fn is_there(cluster: &Cluster, secret: &str) -> bool {
    let store = Store::open(&cluster.url()).await.unwrap();
    let found = store.check_token(secret).await.unwrap().is_some();
    store.close().await;
    found
}

#[tokio::test]
async fn it_starts_in_an_empty_folder_and_keeps_what_is_written() {
    let folder = Folder::new();
    // a name that a shell would take apart, and a path longer than a socket's may be
    let data_dir = folder
        .path()
        .join("it's $HOME; `x` \"y\"")
        .join("deep".repeat(30));
    let started = Instant::now();
    let cluster = Cluster::ensure(&data_dir).await.unwrap();
    println!("first start: {:.2?}", started.elapsed());
    let secret = write(&cluster).await;
    assert!(cluster.binaries().major >= 14);
    assert!(cluster.stop_if_idle().await.unwrap());
    assert!(!data_dir.join("postgres/postmaster.pid").exists());
    let started = Instant::now();
    let cluster = Cluster::ensure(&data_dir).await.unwrap();
    println!("next start: {:.2?}", started.elapsed());
    let started = Instant::now();
    let again = Cluster::ensure(&data_dir).await.unwrap();
    println!("while it runs: {:.2?}", started.elapsed());
    assert_eq!(again.url(), cluster.url());
    assert!(is_there(&cluster, &secret).await);
    assert!(!again.stop_if_idle().await.unwrap(), "another still uses it");
    assert!(is_there(&cluster, &secret).await);
    assert!(cluster.stop_if_idle().await.unwrap());
}

#[tokio::test]
async fn a_client_keeps_it_running() {
    let folder = Folder::new();
    let cluster = Cluster::ensure(folder.path()).await.unwrap();
    let client = PgConnection::connect(&cluster.url()).await.unwrap();
    assert!(!cluster.stop_if_idle().await.unwrap());
    client.close().await.unwrap();
    let cluster = Cluster::ensure(folder.path()).await.unwrap();
    assert!(cluster.stop_if_idle().await.unwrap());
}

#[tokio::test]
async fn only_its_owner_reaches_it() {
    let folder = Folder::new();
    let cluster = Cluster::ensure(folder.path()).await.unwrap();
    let mut client = PgConnection::connect(&cluster.url()).await.unwrap();
    let setting = async |name: &str, client: &mut PgConnection| -> String {
        sqlx::query_scalar("select current_setting($1)")
            .bind(name)
            .fetch_one(client)
            .await
            .unwrap()
    };
    assert_eq!(setting("listen_addresses", &mut client).await, "");
    assert_eq!(setting("fsync", &mut client).await, "on");
    assert_eq!(setting("server_encoding", &mut client).await, "UTF8");
    let socket_folder = setting("unix_socket_directories", &mut client).await;
    assert_eq!(
        fs::metadata(&socket_folder).unwrap().permissions().mode() & 0o777,
        0o700
    );
    client.close().await.unwrap();
    assert!(cluster.stop_if_idle().await.unwrap());
    assert!(
        !Path::new(&socket_folder).exists(),
        "nothing is left in the temporary folder"
    );

    fs::create_dir(&socket_folder).unwrap();
    fs::set_permissions(&socket_folder, Permissions::from_mode(0o777)).unwrap();
    let e = Cluster::ensure(folder.path()).await.unwrap_err();
    assert!(matches!(e, LocalError::ForeignSocketFolder { .. }), "{e}");
    fs::remove_dir(&socket_folder).unwrap();
}

#[tokio::test]
async fn a_killed_server_comes_back_with_its_data() {
    let folder = Folder::new();
    let cluster = Cluster::ensure(folder.path()).await.unwrap();
    let secret = write(&cluster).await;
    let store = Store::open(&cluster.url()).await.unwrap();
    store.ping().await.unwrap();
    let killed = folder.pid().unwrap();
    signal(killed, "KILL");
    let started = Instant::now();
    let recovered = Cluster::ensure(folder.path()).await.unwrap();
    println!("recovery: {:.2?}", started.elapsed());
    assert_ne!(folder.pid().unwrap(), killed);
    assert!(is_there(&recovered, &secret).await);
    // a store that was open finds the new server by itself
    let deadline = Instant::now() + Duration::from_secs(20);
    while store.check_token(&secret).await.is_err() {
        assert!(Instant::now() < deadline, "the pool never recovered");
    }
    store.close().await;
    drop(cluster);
    assert!(recovered.stop_if_idle().await.unwrap());
}

#[tokio::test]
async fn a_stale_pid_file_is_seen_through() {
    let folder = Folder::new();
    let cluster = Cluster::ensure(folder.path()).await.unwrap();
    let secret = write(&cluster).await;
    let running = fs::read_to_string(folder.pid_file()).unwrap();
    let socket_folder = running.lines().nth(4).unwrap().to_owned();
    assert!(cluster.stop_if_idle().await.unwrap());

    // a zombie named postgres, as a kill leaves under an init that does not reap
    let binaries = store::find_binaries().unwrap();
    let mut zombie = Command::new(binaries.folder.join("postgres"))
        .arg("--version")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while fs::read_to_string(format!("/proc/{}/stat", zombie.id()))
        .unwrap()
        .rsplit_once(") Z")
        .is_none()
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    // this test itself: alive, and no server; process 1, which is nobody's server; a number beyond all; half a file
    let stale = [zombie.id(), std::process::id(), 1, 999_999_999].map(|pid| pid.to_string());
    for first in stale.iter().map(String::as_str).chain([""]) {
        let rest = running.split_once('\n').unwrap().1;
        let text = if first.is_empty() {
            String::new()
        } else {
            format!("{first}\n{rest}")
        };
        fs::write(folder.pid_file(), &text).unwrap();
        if !Path::new(&socket_folder).exists() {
            fs::create_dir(&socket_folder).unwrap();
            fs::set_permissions(&socket_folder, Permissions::from_mode(0o700)).unwrap();
            let owner = fs::metadata(folder.path().join("postgres")).unwrap();
            use std::os::unix::fs::{MetadataExt, chown};
            chown(&socket_folder, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        fs::write(Path::new(&socket_folder).join(".s.PGSQL.5432.lock"), &text).unwrap();
        let cluster = Cluster::ensure(folder.path())
            .await
            .unwrap_or_else(|e| panic!("{first:?}: {e}"));
        assert!(is_there(&cluster, &secret).await, "{first:?}");
        assert!(cluster.stop_if_idle().await.unwrap(), "{first:?}");
    }
    zombie.wait().unwrap();
}

#[tokio::test]
async fn an_interrupted_first_start_leaves_nothing_half_made() {
    let folder = Folder::new();
    let half = folder.path().join("postgres.new");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("PG_VERSION"), "1").unwrap();
    let cluster = Cluster::ensure(folder.path()).await.unwrap();
    write(&cluster).await;
    assert!(!half.exists());
    assert!(cluster.stop_if_idle().await.unwrap());
}

#[tokio::test]
async fn data_of_another_version_is_left_alone() {
    let folder = Folder::new();
    let data = folder.path().join("postgres");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "13\n").unwrap();
    let e = Cluster::ensure(folder.path()).await.unwrap_err();
    assert!(matches!(e, LocalError::WrongVersion { needed: 13, .. }), "{e}");
    assert!(e.to_string().contains("install version 13"), "{e}");
    fs::write(data.join("PG_VERSION"), "letters").unwrap();
    let e = Cluster::ensure(folder.path()).await.unwrap_err();
    assert!(matches!(e, LocalError::NotACluster { .. }), "{e}");
    fs::remove_file(data.join("PG_VERSION")).unwrap();
    fs::write(data.join("thesis.txt"), "years of work").unwrap();
    let e = Cluster::ensure(folder.path()).await.unwrap_err();
    assert!(matches!(e, LocalError::NotACluster { .. }), "{e}");
    assert_eq!(
        fs::read_to_string(data.join("thesis.txt")).unwrap(),
        "years of work"
    );
}

#[tokio::test]
async fn a_data_folder_that_is_a_file_is_named() {
    let folder = Folder::new();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let e = Cluster::ensure(&file).await.unwrap_err();
    assert!(e.to_string().contains(&file.display().to_string()), "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_race_for_an_empty_folder() {
    let folder = Folder::new();
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let data_dir = folder.path().to_owned();
        starting.spawn(async move {
            let cluster = Cluster::ensure(&data_dir).await.unwrap();
            let secret = write(&cluster).await;
            let found = is_there(&cluster, &secret).await;
            (found, cluster.stop_if_idle().await.unwrap())
        });
    }
    let ended = starting.join_all().await;
    assert!(ended.iter().all(|(found, _)| *found));
    assert!(
        ended.iter().any(|(_, stopped)| *stopped),
        "the last one stops it: {ended:?}"
    );
    assert_eq!(folder.pid(), None);
}

/// Plays two parts: started by itself with a folder in the environment, it is one of the racing processes.
#[tokio::test]
async fn processes_race_for_an_empty_folder() {
    const PART: &str = "STORE_TEST_RACE_FOLDER";
    if let Some(data_dir) = std::env::var_os(PART) {
        let cluster = Cluster::ensure(Path::new(&data_dir)).await.unwrap();
        let secret = write(&cluster).await;
        assert!(is_there(&cluster, &secret).await);
        cluster.stop_if_idle().await.unwrap();
        return;
    }
    let folder = Folder::new();
    let start = |_| {
        let mut process = Command::new(std::env::current_exe().unwrap());
        process
            .args(["--exact", "processes_race_for_an_empty_folder"])
            .env(PART, folder.path());
        process
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let racers: Vec<Child> = (0..3).map(start).collect();
    for racer in racers {
        let output = racer.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
    assert_eq!(folder.pid(), None, "the last process stops the server");
}

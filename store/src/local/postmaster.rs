//! Whether the server runs, and where it answers.

use std::{
    fs, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use super::{LocalError, PgBinaries, error::At};

/// The socket's file name: without a TCP port, every private server may have the same.
pub(super) const SOCKET: &str = ".s.PGSQL.5432";

/// Longer than a crash recovery should take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Postmaster {
    pid: u32,
    socket_folder: PathBuf,
}

/// A short folder named by the data path: a socket's path has at most 107 bytes, and the data folder may be deep.
pub(super) fn socket_folder(folder: &Path) -> PathBuf {
    let name = format!(
        "parsimony-{}",
        &spaces::fingerprint(folder.as_os_str().as_encoded_bytes())[..12]
    );
    let temporary = std::env::temp_dir();
    let harmless = |b: &u8| b.is_ascii_alphanumeric() || b"/._-".contains(b);
    let fits = temporary.as_os_str().len() <= 60 && temporary.is_absolute();
    if fits && temporary.as_os_str().as_encoded_bytes().iter().all(harmless) {
        temporary.join(name)
    } else {
        Path::new("/tmp").join(name)
    }
}

/// Waits until a server that runs or starts answers; returns the folder of its socket. `None` if none runs.
pub(super) fn await_running(folder: &Path, binaries: &PgBinaries) -> Result<Option<PathBuf>, LocalError> {
    let since = Instant::now();
    while let Some(running) = find(folder, binaries)? {
        if UnixStream::connect(running.socket_folder.join(SOCKET)).is_ok() {
            return Ok(Some(running.socket_folder));
        }
        if since.elapsed() > PATIENCE {
            return Err(LocalError::NoAnswer {
                pid: running.pid,
                folder: folder.to_owned(),
                socket_folder: running.socket_folder,
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(None)
}

/// The server that its own file names, if that process is alive and is it.
pub(super) fn find(folder: &Path, binaries: &PgBinaries) -> Result<Option<Postmaster>, LocalError> {
    let path = folder.join("postmaster.pid");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).at("read", &path),
    };
    let Some(named) = parse(&text) else {
        return Ok(None); // cut short by a crash while it was written
    };
    let alive = if Path::new("/proc/self/stat").exists() {
        is_alive(named.pid, folder)
    } else {
        pg_ctl_knows(folder, binaries)?
    };
    Ok(alive.then_some(named))
}

/// Reads `postmaster.pid`: the first line is the process, the fifth the folder of its socket.
fn parse(text: &str) -> Option<Postmaster> {
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    let socket_folder = lines.nth(3).unwrap_or_default().trim().into();
    Some(Postmaster { pid, socket_folder })
}

/// After a kill, the number may name a zombie that nobody reaps, or by now another program or server.
fn is_alive(pid: u32, folder: &Path) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // "12 (postgres) S ..", where the name may hold anything
    let Some((before, after)) = stat.rsplit_once(')') else {
        return false;
    };
    let ours = before
        .split_once('(')
        .is_some_and(|(_, name)| name.starts_with("postgres"));
    let gone = matches!(after.trim_start().chars().next(), Some('Z' | 'X'));
    // a server works in its data folder; where we may not look (root in a container), its name must do
    let elsewhere = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd != folder);
    ours && !gone && !elsewhere
}

fn pg_ctl_knows(folder: &Path, binaries: &PgBinaries) -> Result<bool, LocalError> {
    let pg_ctl = binaries.folder.join("pg_ctl");
    let mut status = Command::new(&pg_ctl);
    let output = status
        .arg("status")
        .arg("--pgdata")
        .arg(folder)
        .output()
        .at("run", &pg_ctl)?;
    Ok(output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_server_is_read() {
        let text = "4711\n/data/postgres\n1700000000\n5432\n/tmp/parsimony-1\n\n  123 456\nready   \n";
        let read = Postmaster {
            pid: 4711,
            socket_folder: "/tmp/parsimony-1".into(),
        };
        assert_eq!(parse(text), Some(read));
        assert_eq!(parse(""), None);
        assert_eq!(parse("not a number\n"), None);
    }

    #[test]
    fn another_program_of_that_number_is_not_the_server() {
        assert!(!is_alive(std::process::id(), Path::new("/")));
        assert!(!is_alive(u32::MAX, Path::new("/")));
    }

    #[test]
    fn the_socket_path_is_short_whatever_the_data_folder_is() {
        let deep = PathBuf::from(format!("/{}", "deep/".repeat(100)));
        let socket = socket_folder(&deep).join(SOCKET);
        assert!(socket.as_os_str().len() < 107, "{}", socket.display());
        assert_ne!(socket_folder(&deep), socket_folder(Path::new("/data")));
    }
}

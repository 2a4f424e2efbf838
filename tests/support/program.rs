//! The real program, run as its users run it.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

/// How long the program may take for anything that tests wait for.
const PATIENCE: Duration = Duration::from_secs(300);

/// The program with a data folder and a working folder of its own.
#[derive(Debug)]
pub struct Program {
    binary: PathBuf,
    home: TempDir,
}

/// What a run has left.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The exit code; `None` where a signal has ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Program {
    /// Prepares empty folders.
    ///
    /// # Panics
    /// Where the system has no room for temporary files.
    pub fn new(binary: &str) -> Program {
        let home = tempfile::tempdir().expect("the system has a folder for temporary files");
        // the database runs under another account where the tests run as root
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o711)).expect("the folder is ours");
        Program {
            binary: binary.into(),
            home,
        }
    }

    /// A path in the working folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file in the working folder.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the folder is ours");
    }

    /// The program with arguments, in its working folder and free of the caller's settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .env_clear()
            .envs(
                std::env::vars().filter(|(name, _)| matches!(name.as_str(), "PATH" | "HOME" | "CARGO_HOME")),
            )
            .env("PARSIMONY_DATA_DIR", self.path("data"))
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().expect("the program is built");
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs the program and gives what it printed.
    ///
    /// # Panics
    /// Where it fails.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?} says {}", ran.stderr);
        ran.stdout
    }

    /// Runs the program and gives the JSON of its last line.
    ///
    /// # Panics
    /// Where it fails or prints something else.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.ok(arguments);
        let last = printed.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|e| panic!("{arguments:?} printed {last}: {e}"))
    }

    /// Starts the program; what it prints goes to a file.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let log = self.path(&format!("{}.log", arguments[0]));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("the folder is ours");
        let child = self
            .command(arguments)
            .stdout(file.try_clone().expect("a file can be shared"))
            .stderr(file)
            .spawn()
            .expect("the program is built");
        Running { child, log }
    }
}

/// A program that runs. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed, in all its runs.
    pub fn printed(&self) -> String {
        let mut text = vec![];
        File::open(&self.log)
            .and_then(|mut file| file.read_to_end(&mut text))
            .expect("the log was opened for it");
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Waits until it has printed something; gives the rest of that line.
    ///
    /// # Panics
    /// Where it ends before, or never prints it.
    pub fn printed_after(&mut self, text: &str) -> String {
        wait_for(text, || {
            let printed = self.printed();
            if let Some(at) = printed.find(text) {
                let rest = &printed[at + text.len()..];
                return rest.find('\n').map(|end| rest[..end].to_owned());
            }
            assert!(
                self.child.try_wait().expect("a child can be asked").is_none(),
                "ended: {printed}"
            );
            None
        })
    }

    /// Kills it as a crash would: no farewell.
    ///
    /// # Panics
    /// Where it has ended before.
    pub fn crash(mut self) {
        assert!(
            self.child.try_wait().expect("a child can be asked").is_none(),
            "ended: {}",
            self.printed()
        );
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was killed");
    }

    /// Asks it to end and waits; gives its exit code.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn stop(mut self) -> Option<i32> {
        signal(self.pid(), Signal::SIGTERM);
        wait_for("the end", || self.child.try_wait().expect("a child can be asked")).code()
    }

    /// Waits until it ends; gives its exit code.
    ///
    /// # Panics
    /// Where it does not.
    pub fn wait(mut self) -> Option<i32> {
        wait_for("the end", || self.child.try_wait().expect("a child can be asked")).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until there is a value.
///
/// # Panics
/// Where there is none for five minutes.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "'{what}' never came");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends a signal to a process.
///
/// # Panics
/// Where there is no such process.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).expect("process numbers are small");
    kill(Pid::from_raw(pid), signal).expect("it runs and is ours");
}

/// Children of a process whose first argument is `verb`.
///
/// # Panics
/// Where the system has no `/proc`.
pub fn children(parent: u32, verb: &str) -> Vec<u32> {
    let list = fs::read_dir("/proc").expect("Linux has /proc");
    let pids = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let folder = Path::new("/proc").join(pid.to_string());
        // a process may end while it is looked at
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let stat = read("stat");
        let fields = stat.rsplit(')').next().unwrap_or_default();
        fields.split_whitespace().nth(1) == Some(parent.to_string().as_str())
            && read("cmdline").split('\0').nth(1) == Some(verb)
    })
    .collect()
}

//! A trial's process: one for each trial, so that its seed, its memory and its crash are its own.

use std::process::{ExitStatus, Stdio};

use anyhow::Context;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
};

use super::{TrialEvent, TrialJob};

/// Bytes of the process's last words that are kept.
const LAST_WORDS: usize = 2000;

/// Settings of the C library's allocator under which tensors are not given back to the system between steps; worth
/// about a third of the training time.
pub(crate) const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "1073741824"),
    ("MALLOC_TRIM_THRESHOLD_", "2147483647"),
    ("MALLOC_TOP_PAD_", "67108864"),
];

/// A running trial. Dropping it ends the process.
pub(crate) struct TrialProcess {
    child: Child,
    // held open: its end would end the process
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    last_words: JoinHandle<String>,
}

/// How the process ended without saying so.
pub(crate) enum Ending {
    /// Killed by the system, almost always for memory.
    Killed,
    /// With a code and its last words.
    Crashed(String),
}

impl TrialProcess {
    /// Starts this very program on a job.
    pub(crate) async fn start(job: &TrialJob, threads: usize) -> anyhow::Result<TrialProcess> {
        let program = std::env::current_exe().context("this program's own file cannot be found")?;
        let mut command = Command::new(program);
        command
            .arg("run-trial")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // secrets of the worker are none of the trial's business
        command.env_remove("PARSIMONY_TOKEN").env_remove("DATABASE_URL");
        for (name, value) in ALLOCATOR {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        if threads > 0 {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        let mut child = command.spawn().context("the trial's process cannot be started")?;
        let mut input = child.stdin.take().context("the process has an input")?;
        let mut line = serde_json::to_vec(job)?;
        line.push(b'\n');
        input.write_all(&line).await?;
        let output = BufReader::new(child.stdout.take().context("the process has an output")?).lines();
        let mut stderr = child.stderr.take().context("the process has an error output")?;
        let last_words = tokio::spawn(async move {
            let (mut kept, mut buffer) = (Vec::new(), [0u8; 1024]);
            while let Ok(n) = stderr.read(&mut buffer).await {
                if n == 0 {
                    break;
                }
                tracing::debug!(target: "trial", "{}", String::from_utf8_lossy(&buffer[..n]).trim_end());
                kept.extend_from_slice(&buffer[..n]);
                let surplus = kept.len().saturating_sub(LAST_WORDS);
                kept.drain(..surplus);
            }
            String::from_utf8_lossy(&kept).trim().to_owned()
        });
        Ok(TrialProcess {
            child,
            input,
            output,
            last_words,
        })
    }

    /// The next event; `None` when the process has ended.
    pub(crate) async fn next(&mut self) -> Option<TrialEvent> {
        loop {
            let line = self.output.next_line().await.ok()??;
            match serde_json::from_str(&line) {
                Ok(event) => return Some(event),
                Err(error) => tracing::warn!(%error, line, "the trial's process wrote something else"),
            }
        }
    }

    /// Tells the process, which waits, that what could be had of another's stage is had.
    pub(crate) async fn go_on(&mut self) {
        // a process that is gone is noticed where its events are read
        let _ = self.input.write_all(b"go on\n").await;
    }

    /// How the process ended, for one that ended without a result.
    pub(crate) async fn ending(mut self) -> Ending {
        let status = self.child.wait().await;
        let words = self.last_words.await.unwrap_or_default();
        match status {
            Ok(status) if was_killed(status) => Ending::Killed,
            Ok(status) => Ending::Crashed(format!(
                "the trial's process ended with {status}: {}",
                last_line(&words)
            )),
            Err(error) => Ending::Crashed(format!("the trial's process was lost: {error}")),
        }
    }

    /// Ends the process and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        // it may have ended by itself
        let _ = self.child.kill().await;
    }
}

fn was_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(9)
}

/// A panic's message stands on the line after its place.
fn last_line(words: &str) -> &str {
    let lines: Vec<&str> = words.lines().filter(|l| !l.starts_with("note: ")).collect();
    let panic = lines
        .iter()
        .position(|l| l.contains("panicked at"))
        .and_then(|i| lines.get(i + 1));
    panic.or(lines.last()).copied().unwrap_or("it said nothing")
}

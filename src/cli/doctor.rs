//! `parsimony doctor`: what was found on this machine, and what to do about what is missing.

use std::{path::Path, process::Command};

use clap::Args;
use evaluator::{
    device::{Device, gpus, processor},
    energy::{Nvml, Rapl, WATTS_PER_THREAD},
};
use serde::Serialize;

use crate::{
    output::{say, write_json},
    settings::Global,
};

/// Says what this machine has and what is missing
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  parsimony doctor --json")]
pub(crate) struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Finding {
    what: &'static str,
    ok: bool,
    found: String,
    remedy: Option<String>,
}

impl Doctor {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let findings = [
            processor_found(),
            gpu(),
            energy(),
            postgres(global),
            node(),
            chromium(),
            data_folder(&global.data_dir()),
        ];
        if self.json {
            return write_json(
                &serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "findings": findings }),
            );
        }
        for f in &findings {
            say(format!(
                "{} {:12} {}",
                if f.ok { "ok" } else { "--" },
                f.what,
                f.found
            ));
            if let Some(remedy) = &f.remedy {
                say(format!("{:15} {remedy}", ""));
            }
        }
        Ok(())
    }
}

fn found(what: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        what,
        ok: true,
        found: found.into(),
        remedy: None,
    }
}

fn missing(what: &'static str, reason: impl Into<String>, remedy: &str) -> Finding {
    Finding {
        what,
        ok: false,
        found: reason.into(),
        remedy: Some(remedy.into()),
    }
}

fn processor_found() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    found("processor", format!("{}, {cores} threads", processor()))
}

fn gpu() -> Finding {
    match gpus() {
        Ok(gpus) => found(
            "gpu",
            gpus.iter().map(Device::describe).collect::<Vec<_>>().join("; "),
        ),
        Err(reason) => missing("gpu", reason, "trials run on the processor until then"),
    }
}

fn energy() -> Finding {
    let gpu = Nvml::devices().first().map(|(name, _)| format!("NVML on {name}"));
    let rapl = Rapl::open(Path::new("/sys/class/powercap"));
    match (gpu, rapl) {
        (Some(gpu), _) => found("energy", gpu),
        (None, Ok(_)) => found("energy", "RAPL counters of the processor"),
        (None, Err(reason)) => missing(
            "energy",
            format!(
                "{reason}; energy is estimated at {WATTS_PER_THREAD} W for each busy thread and labelled so"
            ),
            "run on a machine with RAPL (readable by root) or an NVIDIA GPU for measured energy",
        ),
    }
}

fn postgres(global: &Global) -> Finding {
    if global.database_url.is_some() {
        return found("postgres", "the server of --database-url is used");
    }
    match store::find_binaries() {
        Ok(binaries) => found(
            "postgres",
            format!("{} in {}", binaries.version, binaries.folder.display()),
        ),
        Err(error) => missing(
            "postgres",
            error.to_string(),
            "without it nothing can be searched; measure, evaluate and generate work",
        ),
    }
}

fn version(program: &str) -> Option<String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .ok()
        .filter(|o| o.status.success())?;
    Some(
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()?
            .trim()
            .to_owned(),
    )
}

fn node() -> Finding {
    match version("node") {
        Some(version) => found("node", format!("{version} (only to build)")),
        None => missing(
            "node",
            "not found",
            "needed only to build this program: apt-get install nodejs npm",
        ),
    }
}

fn chromium() -> Finding {
    match version("chromium").or_else(|| version("chromium-browser")) {
        Some(version) => found("chromium", format!("{version} (only for tests)")),
        None => missing(
            "chromium",
            "not found",
            "needed only by this program's own tests: apt-get install chromium chromium-driver",
        ),
    }
}

fn data_folder(dir: &Path) -> Finding {
    let shown = dir.display();
    let probe = dir.join(".doctor");
    match std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&probe, b"ok")) {
        Ok(()) => {
            // the probe has told what it was for
            let _ = std::fs::remove_file(&probe);
            let free = nix::sys::statvfs::statvfs(dir).map(|s| s.blocks_available() * s.fragment_size());
            let free = free.map_or_else(
                |_| String::new(),
                |bytes| format!(", {} free", spaces::quantity::format(bytes as f64, "B")),
            );
            found("data folder", format!("{shown}{free}"))
        }
        Err(error) => missing(
            "data folder",
            format!("{shown} cannot be written: {error}"),
            "choose another with --data-dir",
        ),
    }
}

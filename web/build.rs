//! Fetches the chart library from the npm registry where it is missing, and packs the page's files for `src/assets.rs`.

use std::{
    env, fs,
    fs::File,
    io,
    path::Path,
    process::{Command, exit},
    time::SystemTime,
};

fn main() {
    let ui = Path::new("ui");
    for input in [
        "css",
        "icons",
        "js",
        "pack.mjs",
        "package-lock.json",
        "node_modules/echarts/package.json",
    ] {
        println!("cargo::rerun-if-changed=ui/{input}");
    }
    let built = fetch(ui).and_then(|()| pack(ui));
    if let Err(message) = built {
        println!("cargo::error={message}");
        exit(1);
    }
}

/// Installs what the lock file names, unless it is there already.
fn fetch(ui: &Path) -> Result<(), String> {
    // two builds may run at once, each with a target folder of its own, and share this one
    let lock =
        File::create(ui.join(".npm-lock")).map_err(|e| format!("cannot write web/ui/.npm-lock: {e}"))?;
    lock.lock()
        .map_err(|e| format!("cannot lock web/ui/.npm-lock: {e}"))?;
    let age = |path: &str| -> io::Result<SystemTime> { fs::metadata(ui.join(path))?.modified() };
    let wanted =
        age("package-lock.json").map_err(|e| format!("cannot read web/ui/package-lock.json: {e}"))?;
    let library = age("node_modules/echarts/dist/echarts.esm.min.js");
    let installed = age("node_modules/.package-lock.json");
    if library.is_ok() && installed.is_ok_and(|time| time >= wanted) {
        return Ok(());
    }
    run(Command::new("npm")
        .args(["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(ui))
    .map_err(|why| format!("the chart library could not be fetched: {why}"))
}

fn pack(ui: &Path) -> Result<(), String> {
    let out = env::var("OUT_DIR").expect("cargo tells a build script where to write");
    run(Command::new("node").arg("pack.mjs").arg(out).current_dir(ui))
        .map_err(|why| format!("the page's files could not be packed: {why}"))
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => format!("{program} is not installed; install Node.js 18 or newer with npm (Debian: apt-get install nodejs npm)"),
        _ => format!("{program} did not start: {e}"),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .take(6)
        .collect();
    Err(format!(
        "{program} ended with {}: {}",
        output.status,
        said.join("; ")
    ))
}

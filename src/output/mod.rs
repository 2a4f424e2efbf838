//! What commands print.

mod bundle;
mod folder;
mod progress;
mod results;
mod table;

use std::io::Write;

use serde::Serialize;
use serde_json::json;
use spaces::{Config, metric, protocol::Evaluation};

pub(crate) use self::{
    bundle::write_bundle,
    folder::{StagedFolder, unwritable, write_file},
    progress::{Bar, bench_bar, duration, replay_bar, request_bar, study_bar, trial_bar},
    results::{Results, load, results_of},
    table::{front_table, metrics_table, right, studies_table, table, trials_table},
};

/// How a listing is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For scripts.
    Json,
    /// For spreadsheets.
    Csv,
}

/// Prints a line to stdout.
pub(crate) fn say(line: impl AsRef<str>) {
    let mut stdout = std::io::stdout().lock();
    // whoever closed stdout does not want to hear more
    let _ = writeln!(stdout, "{}", line.as_ref());
}

/// Prints a line to stderr, beside what a command writes.
pub(crate) fn note(line: impl AsRef<str>) {
    let mut stderr = std::io::stderr().lock();
    // whoever closed stderr does not want to hear it
    let _ = writeln!(stderr, "{}", line.as_ref());
}

/// Prints text or bytes as they are.
///
/// # Errors
/// Where stdout is closed or full.
pub(crate) fn write_out(bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes.as_ref())?;
    stdout.flush()
}

/// Prints a JSON object on one line.
///
/// # Errors
/// Where stdout is closed or full.
pub(crate) fn write_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(write_out(line)?)
}

/// The object that `measure --json` and `evaluate --json` print.
pub(crate) fn measured_json(config: &Config, evaluation: &Evaluation) -> serde_json::Value {
    let metrics: serde_json::Map<String, serde_json::Value> = evaluation
        .measurements
        .iter()
        .map(|m| {
            let unit = metric(&m.metric).map_or("", |known| known.unit);
            let value = json!({
                "value": m.value,
                "unit": unit,
                "evidence": m.evidence,
                "spread": m.spread,
                "source": m.source,
            });
            (m.metric.clone(), value)
        })
        .collect();
    json!({
        "config": config,
        "metrics": metrics,
        "activity": evaluation.activity,
        "provenance": evaluation.provenance,
        "wall_s": evaluation.wall_s,
    })
}

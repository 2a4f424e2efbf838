//! `parsimony front`: the trade-offs that were found.

use std::{io::IsTerminal, path::PathBuf};

use clap::{Args, ValueEnum};
use spaces::{Limit, Objective, metric};
use web::{
    plots::FrontPlot,
    views::{FrontRequest, front_csv},
};

use super::block_on;
use crate::{
    admission::catalog,
    errors::BadInput,
    output::{front_table, load, say, write_json, write_out},
    server::Database,
    settings::Global,
};

/// Shows the Pareto front of a study
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  parsimony front demo\n  parsimony front demo --metric validation_loss --metric model_bytes --format svg > front.svg\n  parsimony front demo --where 'peak_memory_bytes<=1 MiB' --format json"
)]
pub(crate) struct Front {
    /// Name or id of the study
    study: String,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    format: FrontFormat,
    /// The same as --format json
    #[arg(long)]
    json: bool,
    /// Objective to use instead of the study's; may be given several times
    #[arg(long, value_name = "METRIC")]
    metric: Vec<String>,
    /// Limit that trials must keep; may be given several times
    #[arg(long = "where", value_name = "METRIC<=VALUE")]
    limits: Vec<String>,
    /// File to write instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FrontFormat {
    Table,
    Json,
    Csv,
    Svg,
    Png,
}

/// Reads the limits of `--where`.
pub(super) fn limits(given: &[String]) -> anyhow::Result<Vec<Limit>> {
    given
        .iter()
        .map(|text| Limit::parse(text).map_err(|e| BadInput::error(format!("--where: {e}"))))
        .collect()
}

impl Front {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let objectives = self.metric.iter().map(|name| {
            let found = metric(name).map(Objective::from);
            found.ok_or_else(|| {
                BadInput::error(spaces::suggest(
                    "metric",
                    name,
                    spaces::METRICS.iter().map(|m| m.name),
                ))
            })
        });
        let request = FrontRequest {
            objectives: objectives.collect::<Result<_, _>>()?,
            limits: limits(&self.limits)?,
        };
        let format = if self.json { FrontFormat::Json } else { self.format };
        if format == FrontFormat::Png && self.out.is_none() && std::io::stdout().is_terminal() {
            return Err(BadInput::error(
                "a PNG does not belong on a terminal; use --out FILE or redirect it",
            ));
        }
        block_on(async {
            let database = Database::open(global).await?;
            let results = load(&database.store, &self.study, &catalog()).await;
            database.close().await;
            let results = results?;
            let front = results.front(&request);
            let plot = || FrontPlot::new(&front, &results.study, &results.trials, &request);
            let bytes = match format {
                FrontFormat::Table => {
                    say(front_table(&front, &results.searched(), front.knee));
                    return Ok(());
                }
                FrontFormat::Json if self.out.is_none() => return write_json(&front),
                FrontFormat::Json => serde_json::to_vec(&front)?,
                FrontFormat::Csv => front_csv(&front.trials).into_bytes(),
                FrontFormat::Svg => plot()?.svg()?.into_bytes(),
                FrontFormat::Png => plot()?.png()?,
            };
            match &self.out {
                Some(file) => std::fs::write(file, bytes).map_err(|e| {
                    BadInput::error(format!(
                        "'{}' cannot be written: {e}; choose another --out",
                        file.display()
                    ))
                })?,
                None => write_out(bytes)?,
            }
            Ok(())
        })
    }
}

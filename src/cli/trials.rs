//! `parsimony trials`: every trial of a study.

use clap::Args;
use web::views::trials_csv;

use super::block_on;
use crate::{
    admission::catalog,
    output::{Format, load, say, trials_table, write_json, write_out},
    server::Database,
    settings::Global,
};

/// Lists the trials of a study
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  parsimony trials demo\n  parsimony trials demo --format csv > trials.csv"
)]
pub(crate) struct Trials {
    /// Name or id of the study
    study: String,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// The same as --format json
    #[arg(long)]
    json: bool,
}

impl Trials {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        block_on(async {
            let database = Database::open(global).await?;
            let results = load(&database.store, &self.study, &catalog()).await;
            database.close().await;
            let results = results?;
            let rows = results.rows();
            match if self.json { Format::Json } else { self.format } {
                Format::Table => {
                    let objectives: Vec<String> = results
                        .study
                        .objectives
                        .iter()
                        .map(|o| o.metric.clone())
                        .collect();
                    say(trials_table(&rows, &objectives));
                }
                Format::Json => write_json(&serde_json::json!({ "trials": rows }))?,
                Format::Csv => write_out(trials_csv(&rows))?,
            }
            Ok(())
        })
    }
}

//! `parsimony studies`: what has been searched.

use clap::Args;

use super::block_on;
use crate::{
    admission::catalog,
    output::{Format, say, studies_table, write_json, write_out},
    server::Database,
    settings::Global,
};

/// Lists the studies
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  parsimony studies --format json")]
pub(crate) struct Studies {
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// The same as --format json
    #[arg(long)]
    json: bool,
}

impl Studies {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        block_on(async {
            let database = Database::open(global).await?;
            let studies = database.store.studies().await;
            database.close().await;
            let studies = studies?;
            match if self.json { Format::Json } else { self.format } {
                Format::Table if studies.is_empty() => {
                    say("no study yet; try `parsimony search STUDY.toml` or `parsimony up --demo`")
                }
                Format::Table => say(studies_table(&studies)),
                Format::Json => {
                    let catalog = catalog();
                    let row = |s: store::StudySummary| {
                        let study = web::views::Resolved::new(s.study, &catalog);
                        let progress = web::views::Progress::of_counts(&study, &s.counts.into());
                        web::views::study_row(&study, s.counts.into(), progress)
                    };
                    let rows: Vec<_> = studies.into_iter().map(row).collect();
                    write_json(&serde_json::json!({ "studies": rows }))?;
                }
                Format::Csv => {
                    let mut text = String::from("id,name,state,done,running,queued,failed,trials\n");
                    for s in &studies {
                        let c = s.counts;
                        let trials = s.study.spec.search.trials;
                        // names are letters, digits, '-', '_' and '.', so they need no quotes
                        text += &format!(
                            "{},{},{},{},{},{},{},{trials}\n",
                            s.study.id,
                            s.study.name,
                            s.study.state.label(),
                            c.done,
                            c.running,
                            c.queued,
                            c.failed
                        );
                    }
                    write_out(text)?;
                }
            }
            Ok(())
        })
    }
}

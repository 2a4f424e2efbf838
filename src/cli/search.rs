//! `parsimony search`: one study, in the foreground, from its file to its recommended model.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use search::Rule;
use serde_json::json;
use spaces::study::{Study, study_from_toml, study_to_toml};
use store::{Store, StudyState};
use time::OffsetDateTime;
use web::{
    Admission,
    plots::FrontPlot,
    views::{FrontRequest, best, counts, front_csv, progress, trials_csv},
};

use super::{block_on, export::write_bundle, up::Local};
use crate::{
    admission::catalog,
    errors::{BadInput, spec_errors},
    files::{ReadableData, make_absolute, read_text},
    output::{Results, duration, front_table, results_of, say, study_bar, write_json},
    server::{Server, ServerSettings, objects},
    settings::Global,
    worker::local::LocalWorkers,
};

/// How often progress is looked at.
const POLL: Duration = Duration::from_millis(500);

/// Runs one study to its end and writes its results
#[derive(Debug, Args)]
#[command(
    name = "search",
    after_help = "Example:\n  parsimony search study.toml --out results\n\nInterrupted, the same command goes on where it was. While it runs, its page is open in a browser."
)]
pub(crate) struct Search {
    /// Study file
    study: PathBuf,
    /// Folder for front, table, plots and the recommended model; by default <name>-results
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON: the last line is the front, the recommended trial and the folder
    #[arg(long)]
    json: bool,
    /// Address of the page; port 0 for any free one
    #[arg(
        long,
        env = "PARSIMONY_SEARCH_LISTEN",
        default_value = "127.0.0.1:0",
        value_name = "ADDRESS:PORT"
    )]
    listen: SocketAddr,
    #[command(flatten)]
    local: Local,
}

impl Search {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let name = self.study.display().to_string();
        let catalog = catalog();
        let mut study =
            study_from_toml(&read_text(&self.study)?, &catalog).map_err(|e| spec_errors(&name, &e))?;
        make_absolute(&mut study.spec.data, study.spec.base.as_mut(), &self.study)?;
        let out = self
            .out
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("{}-results", study.spec.name)));
        // before hours are spent
        fs::create_dir_all(&out).map_err(|e| {
            BadInput::error(format!(
                "'{}' cannot be made: {e}; choose another --out",
                out.display()
            ))
        })?;
        let readable = ReadableData::new(vec![], &global.data_dir());
        readable.grant(&study.spec.data, study.spec.base.as_ref())?;
        block_on(async {
            let settings = ServerSettings {
                listen: self.listen,
                public_url: None,
                readable,
                lease: Duration::from_secs(20),
            };
            let mut server = Server::start(global, settings).await?;
            let result = self.search(&mut server, &study, &name, &out, global).await;
            server.stop().await;
            result
        })
    }

    async fn search(
        &self,
        server: &mut Server,
        study: &Study,
        file: &str,
        out: &Path,
        global: &Global,
    ) -> anyhow::Result<()> {
        let store = server.database.store.clone();
        let id = submit(server, study, file).await?;
        let finished = if store.study(id).await?.state.is_over() {
            true
        } else {
            if !self.json {
                say(format!("The page: {}", server.login_link().await?));
            }
            let workers = self.workers(global).start(server).await?;
            let catalog = Arc::clone(&server.catalog);
            let followed = tokio::select! {
                followed = follow(&store, id, &catalog, self.json) => followed,
                error = server.failed() => Err(error),
                () = super::interrupted() => Ok(false),
            };
            workers.stop().await;
            followed?
        };
        if !finished {
            anyhow::bail!(
                "stopped; run the same command again to go on with study '{}'",
                study.spec.name
            );
        }
        let results = results_of(&store, store.study(id).await?, &server.catalog).await?;
        self.write(&results, &store, out, global).await
    }

    fn workers(&self, global: &Global) -> LocalWorkers {
        LocalWorkers {
            device: self.local.device,
            workers: self.local.workers.into(),
            data_dir: global.data_dir(),
            data_folders: vec![],
            log: global.log.clone(),
        }
    }

    /// Writes and prints what was found.
    async fn write(
        &self,
        results: &Results,
        store: &Store,
        out: &Path,
        global: &Global,
    ) -> anyhow::Result<()> {
        let row = &results.study.row;
        if row.state != StudyState::Finished {
            let reason = row
                .error
                .clone()
                .unwrap_or_else(|| format!("it is {}", row.state.label()));
            anyhow::bail!("study '{}' did not finish: {reason}", row.name);
        }
        let request = FrontRequest::default();
        let front = results.front(&request);
        let chosen = results.recommend(&Rule::Knee, &[])?;
        let mut written = vec![];
        let mut write = |name: &str, bytes: &[u8]| -> anyhow::Result<()> {
            let file = out.join(name);
            fs::write(&file, bytes).with_context(|| {
                format!(
                    "'{}' cannot be written; free space or choose another --out",
                    file.display()
                )
            })?;
            written.push(file);
            Ok(())
        };
        write("study.toml", study_to_toml(&row.spec).as_bytes())?;
        write("front.json", &serde_json::to_vec_pretty(&front)?)?;
        write("front.csv", front_csv(&front.trials).as_bytes())?;
        write("trials.csv", trials_csv(&results.rows()).as_bytes())?;
        if front.objectives.len() > 1 {
            let plot = FrontPlot::new(&front, &results.study, &results.trials, &request)?;
            write("front.svg", plot.svg()?.as_bytes())?;
            write("front.png", &plot.png()?)?;
        }
        let model = out.join("recommended");
        if model.exists() {
            fs::remove_dir_all(&model)
                .with_context(|| format!("'{}' cannot be replaced", model.display()))?;
        }
        write_bundle(
            store,
            objects(global)?.as_ref(),
            chosen.trial.id,
            chosen.trial.attempt,
            &model,
        )
        .await?;
        if self.json {
            let mut object = serde_json::to_value(&front)?;
            object["recommended"] = json!(chosen.trial.id);
            object["reason"] = json!(chosen.reason);
            object["out"] = json!(out);
            return write_json(&object);
        }
        say(front_table(&front, &results.searched(), Some(chosen.trial.id)));
        say("");
        say(format!("Recommended (*): {}", chosen.reason));
        say(format!("Model: {}", model.display()));
        say(format!(
            "Files: {}",
            written
                .iter()
                .map(|f| f.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ));
        Ok(())
    }
}

/// Creates the study, or finds the one that was begun.
async fn submit(server: &Server, study: &Study, file: &str) -> anyhow::Result<i64> {
    let store = &server.database.store;
    let name = &study.spec.name;
    match store.find_study(name).await {
        Ok(found) if found.spec != study.spec => Err(BadInput::error(format!(
            "a study named '{name}' exists with another content; rename this one in {file}, or delete that one on its page"
        ))),
        Ok(found) => {
            if found.state == StudyState::Paused {
                store.resume(found.id).await?;
            }
            Ok(found.id)
        }
        Err(store::StoreError::NotFound { .. }) => {
            let fingerprint = tokio::task::block_in_place(|| server.inspector.admit(study));
            let fingerprint = fingerprint.map_err(|e| spec_errors(file, &e))?;
            Ok(store.create_study(&study.spec, &fingerprint).await?.id)
        }
        Err(error) => Err(error.into()),
    }
}

/// Shows the progress until the study is over; gives whether it is.
async fn follow(store: &Store, id: i64, catalog: &Arc<spaces::Catalog>, quiet: bool) -> anyhow::Result<bool> {
    let mut bar = study_bar();
    let mut revision = -1;
    let mut shown_failures = 0;
    loop {
        let row = store.study(id).await?;
        if row.state.is_over() {
            bar.finish();
            return Ok(true);
        }
        if row.revision != revision && !quiet {
            revision = row.revision;
            let results = results_of(store, row, catalog).await?;
            let (study, trials) = (&results.study, &results.trials);
            let counts = counts(trials);
            let progress = progress(study, trials.iter(), OffsetDateTime::now_utc());
            let eta = progress.eta.as_ref().map_or_else(String::new, |eta| {
                format!("  {} to {} left", duration(eta.low_s), duration(eta.high_s))
            });
            let shown: Vec<String> = best(study, trials)
                .iter()
                .map(|b| format!("{} {}", b.metric, spaces::quantity::format(b.value, b.unit)))
                .collect();
            let best = if shown.is_empty() {
                String::new()
            } else {
                format!("  best {}", shown.join(", "))
            };
            for trial in trials
                .iter()
                .filter(|t| t.failure_message.is_some())
                .skip(shown_failures)
            {
                shown_failures += 1;
                bar.line(&format!(
                    "trial {} failed: {}",
                    trial.id,
                    trial.failure_message.as_deref().unwrap_or_default()
                ));
            }
            bar.set(
                progress.finished.into(),
                u64::from(study.row.spec.search.trials),
                &format!("{} running{eta}{best}", counts.running),
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

//! `parsimony search`: one study, in the foreground, from its file to its recommended model.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use spaces::study::{Study, study_from_toml};
use web::views::{FrontRequest, starts};

use super::{block_on, up::Local};
use crate::{
    admission::catalog,
    errors::{BadInput, spec_errors},
    files::{ReadableData, make_absolute, read_text},
    foreground::{follow, submit, write_report},
    output::{results_of, say, write_json},
    server::{Server, ServerSettings, objects},
    settings::Global,
    worker::local::LocalWorkers,
};

/// Runs one study to its end and writes its results
#[derive(Debug, Args)]
#[command(
    name = "search",
    after_help = "Example:\n  parsimony search study.toml --out results\n  parsimony search wider.toml --start-from my-text   # begins with what that study found\n\nInterrupted, the same command goes on where it was. While it runs, its page is open in a browser."
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
    /// Begin with the configurations on the front of this earlier study, by name or id
    #[arg(long, value_name = "STUDY")]
    start_from: Option<String>,
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
        make_absolute(
            &mut study.spec.data,
            [study.spec.base.as_mut(), study.spec.teacher.as_mut()],
            &self.study,
        )?;
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
        readable.grant(
            &study.spec.data,
            [study.spec.base.as_ref(), study.spec.teacher.as_ref()],
        )?;
        block_on(async {
            let settings = ServerSettings {
                listen: self.listen,
                public_url: None,
                readable,
                lease: Duration::from_secs(20),
            };
            let mut server = Server::start(global, settings).await?;
            let result = self.search(&mut server, study, &name, &out, global).await;
            server.stop().await;
            result
        })
    }

    async fn search(
        &self,
        server: &mut Server,
        mut study: Study,
        file: &str,
        out: &Path,
        global: &Global,
    ) -> anyhow::Result<()> {
        let store = server.database.store.clone();
        if let Some(earlier) = &self.start_from {
            let earlier = store.find_study(earlier).await?;
            let earlier = results_of(&store, earlier, &server.catalog).await?;
            let found = starts(&earlier.front(&FrontRequest::default()), &study, &server.catalog);
            study.spec.search.start.extend(found);
        }
        let id = submit(server, &study, file).await?;
        if !store.study(id).await?.state.is_over() {
            if !self.json {
                say(format!("The page: {}", server.login_link().await?));
            }
            let workers = self.workers(global).start(server).await?;
            let catalog = Arc::clone(&server.catalog);
            let stopped = format!(
                "stopped; run the same command again to go on with study '{}'",
                study.spec.name
            );
            let followed = tokio::select! {
                followed = follow(&store, id, &catalog, self.json) => followed,
                error = server.failed() => Err(error),
                () = super::interrupted() => Err(anyhow::anyhow!(stopped)),
            };
            workers.stop().await;
            followed?;
        }
        let results = results_of(&store, store.study(id).await?, &server.catalog).await?;
        let report = write_report(&results, &store, objects(global)?.as_ref(), out).await?;
        if self.json {
            return write_json(&report.json()?);
        }
        report.say();
        Ok(())
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
}

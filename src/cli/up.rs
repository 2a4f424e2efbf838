//! `parsimony up`: everything on this machine.

use std::sync::Arc;

use clap::Args;
use evaluator::device::DeviceChoice;
use spaces::{Catalog, study::study_from_toml};
use store::Store;

use super::{block_on, serve::Listen};
use crate::{
    errors,
    foreground::{follow, submit, write_report},
    output::{results_of, say},
    server::{Server, objects},
    settings::Global,
    worker::local::LocalWorkers,
};

/// The study that `--demo` submits.
const DEMO: &str = include_str!("demo.toml");

/// Runs server, controller and one worker for each device of this machine
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  parsimony up --demo\n  parsimony up --listen 127.0.0.1:0 --data-folder ~/texts"
)]
pub(crate) struct Up {
    #[command(flatten)]
    listen: Listen,
    /// Also submit the demonstration study, and print its front and the recommended model at its end
    #[arg(long)]
    demo: bool,
    #[command(flatten)]
    local: Local,
}

/// The local workers.
#[derive(Clone, Debug, Args)]
pub(super) struct Local {
    /// Where local workers compute: auto, cpu or cuda:N
    #[arg(long, env = "PARSIMONY_DEVICE", default_value = "auto", value_parser = clap::value_parser!(DeviceChoice))]
    pub(super) device: DeviceChoice,
    /// Local workers on the processor, which share its cores
    #[arg(long, env = "PARSIMONY_WORKERS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) workers: u16,
}

impl Local {
    pub(super) fn workers(&self, listen: &Listen, global: &Global) -> LocalWorkers {
        LocalWorkers {
            device: self.device,
            workers: self.workers.into(),
            data_dir: global.data_dir(),
            data_folders: listen.data_folder.clone(),
            log: global.log.clone(),
        }
    }
}

impl Up {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        block_on(async {
            let mut server = Server::start(global, self.listen.settings(global)).await?;
            let demo = match self.demo {
                true => Some(submit_demo(&server).await?),
                false => None,
            };
            let workers = self.local.workers(&self.listen, global).start(&server).await?;
            say(format!("Parsimony serves {}", server.url));
            say(format!(
                "Open {} (logs a browser in, once, within a day)",
                server.login_link().await?
            ));
            say("Ctrl-C stops it; running trials go on from their checkpoints next time");
            let (store, catalog) = (server.database.store.clone(), Arc::clone(&server.catalog));
            let report = async {
                if let Some(id) = demo
                    && let Err(error) = report_demo(&store, id, &catalog, global).await
                {
                    // somebody has cancelled or deleted it on its page; the server goes on
                    say(errors::sentence(&error));
                }
                std::future::pending::<()>().await
            };
            let result = tokio::select! {
                error = server.failed() => Err(error),
                () = report => Ok(()),
                () = super::interrupted() => Ok(()),
            };
            workers.stop().await;
            server.stop().await;
            result
        })
    }
}

async fn submit_demo(server: &Server) -> anyhow::Result<i64> {
    let study = study_from_toml(DEMO, &server.catalog).map_err(|e| errors::spec_errors("demo study", &e))?;
    let id = submit(server, &study, "demo study").await?;
    say(format!(
        "The demonstration study '{}': {} trials",
        study.spec.name, study.spec.search.trials
    ));
    Ok(id)
}

/// Follows the demonstration to its end and prints what it found; the server goes on.
async fn report_demo(store: &Store, id: i64, catalog: &Arc<Catalog>, global: &Global) -> anyhow::Result<()> {
    follow(store, id, catalog, false).await?;
    let results = results_of(store, store.study(id).await?, catalog).await?;
    let out = global.data_dir().join("results").join(&results.study.row.name);
    write_report(&results, store, objects(global)?.as_ref(), &out)
        .await?
        .say();
    Ok(())
}

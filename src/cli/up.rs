//! `parsimony up`: everything on this machine.

use clap::Args;
use evaluator::device::DeviceChoice;
use spaces::study::study_from_toml;
use web::Admission;

use super::{block_on, serve::Listen};
use crate::{errors, output::say, server::Server, settings::Global, worker::local::LocalWorkers};

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
    /// Also submit the demonstration study
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
            if self.demo {
                submit_demo(&server).await?;
            }
            let workers = self.local.workers(&self.listen, global).start(&server).await?;
            say(format!("Parsimony serves {}", server.url));
            say(format!(
                "Open {} (logs a browser in, once, within a day)",
                server.login_link().await?
            ));
            say("Ctrl-C stops it; running trials go on from their checkpoints next time");
            let result = tokio::select! {
                error = server.failed() => Err(error),
                () = super::interrupted() => Ok(()),
            };
            workers.stop().await;
            server.stop().await;
            result
        })
    }
}

async fn submit_demo(server: &Server) -> anyhow::Result<()> {
    let study = study_from_toml(DEMO, &server.catalog).map_err(|e| errors::spec_errors("demo study", &e))?;
    let name = &study.spec.name;
    if server.database.store.find_study(name).await.is_ok() {
        say(format!("The demonstration study '{name}' is there already"));
        return Ok(());
    }
    let fingerprint = tokio::task::block_in_place(|| server.inspector.admit(&study));
    let fingerprint = fingerprint.map_err(|e| errors::spec_errors("demo study", &e))?;
    server
        .database
        .store
        .create_study(&study.spec, &fingerprint)
        .await?;
    say(format!(
        "The demonstration study '{name}' is submitted: {} trials",
        study.spec.search.trials
    ));
    Ok(())
}

//! `parsimony serve`: server and controller, without local workers.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;

use super::block_on;
use crate::{
    files::ReadableData,
    output::say,
    server::{Server, ServerSettings},
    settings::Global,
};

/// Runs the server for workers on other machines
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  parsimony serve --listen 0.0.0.0:8080 --public-url http://lab:8080 --database-url postgres://..."
)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(super) listen: Listen,
}

/// Where a server listens and what its studies may read.
#[derive(Clone, Debug, Args)]
pub(super) struct Listen {
    /// Address to listen on; port 0 for any free one
    #[arg(
        long,
        env = "PARSIMONY_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS:PORT"
    )]
    pub(super) listen: SocketAddr,
    /// Address that people and workers use, where it is another, such as that of a proxy
    #[arg(long, env = "PARSIMONY_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
    /// Folder that studies may read; may be given several times; by default data/ below the data folder
    #[arg(long, value_name = "DIR")]
    pub(super) data_folder: Vec<PathBuf>,
    /// Seconds after which a worker that is not heard of loses its trial
    #[arg(long, env = "PARSIMONY_LEASE", default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(3..))]
    pub(super) lease: u64,
}

impl Listen {
    /// The server's settings.
    pub(super) fn settings(&self, global: &Global) -> ServerSettings {
        ServerSettings {
            listen: self.listen,
            public_url: self
                .public_url
                .as_ref()
                .map(|u| u.trim_end_matches('/').to_owned()),
            readable: ReadableData::new(self.data_folder.clone(), &global.data_dir()),
            lease: Duration::from_secs(self.lease),
        }
    }
}

impl Serve {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        block_on(async {
            let mut server = Server::start(global, self.listen.settings(global)).await?;
            say(format!("Parsimony serves {}", server.url));
            say(format!(
                "Open {} (logs a browser in, once, within a day)",
                server.login_link().await?
            ));
            say(format!(
                "Workers: PARSIMONY_TOKEN={} parsimony worker --server {}",
                server.worker_token().await?,
                server.url
            ));
            tokio::select! {
                error = server.failed() => return Err(error),
                () = super::interrupted() => {}
            }
            say("stopping; studies go on when the server is started again");
            server.stop().await;
            Ok(())
        })
    }
}

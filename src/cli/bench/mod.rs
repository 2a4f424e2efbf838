//! `parsimony bench`: measures the program itself.

mod names;
mod pictures;
mod quality;
mod search;
mod speed;
mod statistics;
mod tables;
mod timed;

use clap::{Args, Subcommand};

use crate::settings::Global;

/// Measures the program itself: how well and how fast its search methods search
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Search(search::Search),
}

impl Bench {
    pub(crate) fn run(self, _: &Global) -> anyhow::Result<()> {
        match self.what {
            What::Search(command) => command.run(),
        }
    }
}

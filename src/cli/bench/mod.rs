//! `parsimony bench`: measures the program itself.

mod cases;
mod models;
mod names;
mod pictures;
mod quality;
mod scaling;
mod search;
mod sheet;
mod sparse;
mod speed;
mod statistics;
mod tables;
mod timed;

use clap::{Args, Subcommand};
use evaluator::Work;

use crate::settings::Global;

/// Measures the program itself: how well its search methods search, how fast models train and decode
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Search(search::Search),
    /// Times the training of models
    Train(models::Models),
    /// Times the reading of batches, without gradients
    Forward(models::Models),
    /// Times decoding, one sequence token by token
    Decode(models::Models),
    Scaling(scaling::Scaling),
    Sheet(sheet::Sheet),
    Sparse(sparse::Sparse),
}

impl Bench {
    pub(crate) fn run(self, _: &Global) -> anyhow::Result<()> {
        match self.what {
            What::Search(command) => command.run(),
            What::Train(command) => command.run(Work::Train),
            What::Forward(command) => command.run(Work::Forward),
            What::Decode(command) => command.run(Work::Decode),
            What::Scaling(command) => command.run(),
            What::Sheet(command) => command.run(),
            What::Sparse(command) => command.run(),
        }
    }
}

//! `parsimony evaluate`: measures an exported model again.

use std::path::PathBuf;

use clap::Args;
use evaluator::{bundle, data::DataAccess, device::DeviceChoice};

use crate::{
    output::{measured_json, metrics_table, say, write_json},
    settings::Global,
};

/// Measures an exported model again
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  parsimony evaluate model --json")]
pub(crate) struct Evaluate {
    /// Folder of the exported model
    bundle: PathBuf,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, env = "PARSIMONY_DEVICE", default_value = "auto", value_parser = clap::value_parser!(DeviceChoice))]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Evaluate {
    pub(crate) fn run(self, _: &Global) -> anyhow::Result<()> {
        let evaluation = evaluator::remeasure(&self.bundle, &DataAccess::anywhere(), self.device)?;
        if self.json {
            let config = bundle::read_provenance(&self.bundle)?.config;
            return write_json(&measured_json(&config, &evaluation));
        }
        say(metrics_table(&evaluation.measurements));
        Ok(())
    }
}

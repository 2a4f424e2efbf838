//! `parsimony delta`: a tuned model as what it differs in from its base, and made whole again.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use evaluator::{
    EvaluationError,
    bundle::{Differences, apply_delta, measured_bytes, write_delta},
};
use spaces::quantity;

use super::export::check_free;
use crate::{
    errors::BadInput,
    output::{StagedFolder, say, write_json},
    settings::Global,
};

/// Writes what a tuned model differs in from its base, or makes the model of the two again
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("direction").required(true).args(["tuned", "apply"])),
    after_help = "Examples:\n  parsimony delta --base base --tuned tuned --out tuned.delta.safetensors\n  parsimony delta --base base --apply tuned.delta.safetensors --out tuned-again\n\n\
                  A weight that was trained takes 8 bytes where few of its matrix were; what the base has too takes none. \
                  The model that is made again is the tuned one to the bit, or there is none."
)]
pub(crate) struct Delta {
    /// Folder of the model that the tuning started from
    #[arg(long, value_name = "DIR")]
    base: PathBuf,
    /// Folder of the tuned model: what it differs in is written to --out, a file
    #[arg(long, value_name = "DIR")]
    tuned: Option<PathBuf>,
    /// What was written so: the tuned model is written to --out, a folder
    #[arg(long, value_name = "FILE")]
    apply: Option<PathBuf>,
    /// File or folder to make; must not exist, or be an empty folder where one is made
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Delta {
    pub(crate) fn run(self, _: &Global) -> anyhow::Result<()> {
        match (&self.apply, &self.tuned) {
            (Some(file), _) => self.make_again(file),
            (None, tuned) => self.make(tuned.as_deref().expect("one of the two is required")),
        }
    }

    fn make(&self, tuned: &Path) -> anyhow::Result<()> {
        if self.out.exists() {
            return Err(BadInput::error(format!(
                "'{}' is there already; choose another --out or remove it",
                self.out.display()
            )));
        }
        let model_bytes = measured_bytes(tuned).map_err(EvaluationError::from)?;
        let found = write_delta(&self.base, tuned, &self.out).map_err(EvaluationError::from)?;
        if self.json {
            return write_json(&serde_json::json!({
                "out": self.out,
                "model_bytes": model_bytes,
                "differences": found,
            }));
        }
        say(summary(&found));
        say(format!(
            "written to {}: {}, of a model of {}",
            self.out.display(),
            quantity::format(found.bytes as f64, "B"),
            quantity::format(model_bytes as f64, "B"),
        ));
        Ok(())
    }

    fn make_again(&self, file: &Path) -> anyhow::Result<()> {
        if !file.is_file() {
            return Err(BadInput::error(format!(
                "--apply '{}' is no file; name one that 'parsimony delta --tuned' wrote",
                file.display()
            )));
        }
        check_free(&self.out)?;
        let staged = StagedFolder::beside(&self.out)?;
        apply_delta(&self.base, file, staged.path()).map_err(EvaluationError::from)?;
        staged.appear()?;
        if self.json {
            return write_json(&serde_json::json!({ "out": self.out }));
        }
        say(format!(
            "written to {}: every file is that of the model that was compared",
            self.out.display()
        ));
        Ok(())
    }
}

/// What two models differ in, in a line.
fn summary(found: &Differences) -> String {
    format!(
        "{} tensors are the base's; of {} single weights are stored, {} together; {} are stored whole; {} are new",
        found.same, found.sparse, found.weights, found.whole, found.new
    )
}

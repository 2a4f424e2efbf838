//! `parsimony sensitivity`: what each layer of a trained model loses by fewer bits, or fewer weights.

use std::path::{Path, PathBuf};

use clap::Args;
use evaluator::{
    Events,
    data::DataAccess,
    device::DeviceChoice,
    measure_sensitivity,
    sensitivity::{PartChoice, Sensitivity},
};
use serde::{Deserialize, Serialize};
use spaces::{Measurement, protocol::Progress, quantity, study::config_from_toml};
use toml_edit::DocumentMut;

use crate::{
    errors::{BadInput, spec_errors},
    files::{make_absolute, read_text},
    output::{Bar, right, say, table, trial_bar, write_file, write_json},
    settings::Global,
};

/// Measures once what each layer of a trained model loses by fewer bits or fewer weights, for `resolve`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  parsimony sensitivity config.toml --out sensitivity.json\n  parsimony resolve sensitivity.json --model-bytes '300 KiB' --out smaller.toml\n\n\
                  The configuration has a [base] of 32-bit weights; its bits, quant_method and quant_group say how layers are packed. Where its sparsity is above 0, its sparsity_method says how weights of layers are removed instead. Losses are on training text."
)]
pub(crate) struct SensitivityCommand {
    /// Configuration file
    config: PathBuf,
    /// File for the result
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, env = "PARSIMONY_DEVICE", default_value = "auto", value_parser = clap::value_parser!(DeviceChoice))]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A sensitivity, and of what.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    /// The configuration file, with absolute paths.
    pub(super) config: String,
    /// What was measured.
    pub(super) sensitivity: Sensitivity,
}

struct Follow(Bar);

impl Events for Follow {
    fn progress(&mut self, progress: Progress) {
        self.0.progress(&progress);
    }

    fn report(&mut self, _: Vec<Measurement>) {}

    fn cancelled(&self) -> bool {
        false
    }
}

impl SensitivityCommand {
    pub(crate) fn run(self, _: &Global) -> anyhow::Result<()> {
        let name = self.config.display().to_string();
        let text = read_text(&self.config)?;
        let mut config =
            config_from_toml(&text, &evaluator::catalog()).map_err(|e| spec_errors(&name, &e))?;
        make_absolute(
            &mut config.data,
            [config.base.as_mut(), config.teacher.as_mut()],
            &self.config,
        )?;
        let mut follow = Follow(trial_bar());
        let measured = measure_sensitivity(&config, &DataAccess::anywhere(), self.device, &mut follow);
        follow.0.finish();
        let measured = Measured {
            config: with_absolute_paths(&text, &config),
            sensitivity: measured.map_err(|e| BadInput::error(format!("{name}: {e}")))?,
        };
        if let Some(out) = &self.out {
            write_file(out, &serde_json::to_vec_pretty(&measured)?)?;
        }
        if self.json {
            return write_json(&measured);
        }
        say(shown(&measured.sensitivity));
        if let Some(out) = &self.out {
            say(format!("written to {}", out.display()));
        }
        Ok(())
    }
}

/// The text of a configuration whose paths hold wherever it is written.
fn with_absolute_paths(text: &str, config: &spaces::Config) -> String {
    let mut document: DocumentMut = text.parse().expect("it was read as TOML before");
    if let Some(base) = &config.base {
        document["base"]["path"] = toml_edit::value(&base.path);
    }
    for name in ["path", "tokenizer"] {
        if let Some(spaces::Value::Text(path)) = config.data.options.get(name) {
            document["data"][name] = toml_edit::value(path);
        }
    }
    document.to_string()
}

fn shown(sensitivity: &Sensitivity) -> String {
    // layers have every choice, and the rest some of them
    let all = sensitivity.parts.iter().map(|part| &part.choices);
    let all: &[PartChoice] = all.max_by_key(|choices| choices.len()).map_or(&[], Vec::as_slice);
    let head = all.iter().map(|choice| words(choice.bits, choice.sparsity));
    let mut table = table(["part".to_owned()].into_iter().chain(head));
    right(&mut table, 1..all.len() + 1);
    for part in &sensitivity.parts {
        let losses = part.choices.iter().map(|c| format!("{:+.4}", c.loss_increase));
        let nothing = (part.choices.len()..all.len()).map(|_| String::new());
        table.add_row(
            std::iter::once(part.parameter.clone())
                .chain(losses)
                .chain(nothing),
        );
    }
    format!(
        "{table}\nloss {:.4} with 32-bit weights ({}), over {} targets of training text; what it rises by where one part alone is stored so",
        sensitivity.loss,
        quantity::format(sensitivity.bytes as f64, "B"),
        sensitivity.targets
    )
}

/// How a part is stored.
pub(super) fn words(bits: usize, sparsity: f64) -> String {
    if sparsity > 0.0 {
        format!("{:.0} % sparse", 100.0 * sparsity)
    } else {
        format!("{bits} bits")
    }
}

/// Reads what the command wrote.
pub(super) fn read(file: &Path) -> anyhow::Result<Measured> {
    let text = read_text(file)?;
    serde_json::from_str(&text).map_err(|e| {
        BadInput::error(format!(
            "'{}' is no result of 'parsimony sensitivity --out' ({e}); make one",
            file.display()
        ))
    })
}

//! `parsimony resolve`: bits of each layer, or the share of its weights that go, for a budget, from a sensitivity, without training or measuring.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use evaluator::{
    sensitivity::{PartChoice, Sensitivity},
    techniques::sparsity::layers::NONE,
};
use search::allocation::{Choice, allocate};
use serde::Serialize;
use spaces::{Evidence, quantity};
use toml_edit::DocumentMut;

use super::sensitivity::{Measured, read, words};
use crate::{
    errors::BadInput,
    output::{right, say, table, write_file, write_json},
    settings::Global,
};

/// Chooses bits or sparsity of each layer for a budget, from what `sensitivity` measured
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  parsimony resolve sensitivity.json --model-bytes '300 KiB' --out smaller.toml\n  parsimony measure smaller.toml --out model\n\n\
                  The loss it tells is extrapolated: losses of single layers are taken to add up. The second command measures it."
)]
pub(crate) struct Resolve {
    /// Result of `parsimony sensitivity --out`
    sensitivity: PathBuf,
    /// What the model's files may take, such as '300 KiB'
    #[arg(long, value_name = "BYTES")]
    model_bytes: String,
    /// File for the configuration
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was chosen.
#[derive(Debug, Serialize)]
struct Resolved {
    parts: Vec<Chosen>,
    model_bytes: u64,
    loss: f64,
    loss_increase: f64,
    evidence: &'static str,
}

/// Of one part.
#[derive(Debug, Serialize)]
struct Chosen {
    parameter: String,
    bits: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    sparsity_parameter: Option<String>,
    /// Share of its weights that go, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    sparsity: Option<f64>,
    loss_increase: f64,
}

impl Resolve {
    pub(crate) fn run(self, _: &Global) -> anyhow::Result<()> {
        let Measured { config, sensitivity } = read(&self.sensitivity)?;
        let budget = quantity::parse(&self.model_bytes, "B")
            .map_err(|e| BadInput::error(format!("--model-bytes: {e}")))?;
        let resolved = resolve(&sensitivity, budget as u64)?;
        let text = with_choices(&config, &resolved.parts)
            .with_context(|| format!("'{}' holds no configuration", self.sensitivity.display()))?;
        if let Some(out) = &self.out {
            write_file(out, text.as_bytes())?;
        }
        if self.json {
            return write_json(&resolved);
        }
        let mut table = table(["part", "stored in", "loss"]);
        right(&mut table, 1..3);
        for part in &resolved.parts {
            table.add_row([
                part.parameter.clone(),
                words(part.bits, part.sparsity.unwrap_or(0.0)),
                format!("{:+.4}", part.loss_increase),
            ]);
        }
        say(table.to_string());
        say(format!(
            "{} of {}, loss {:.4} ({:+.4}), {} from single layers",
            quantity::format(resolved.model_bytes as f64, "B"),
            quantity::format(sensitivity.bytes as f64, "B"),
            resolved.loss,
            resolved.loss_increase,
            resolved.evidence
        ));
        if let Some(out) = &self.out {
            say(format!(
                "written to {0}; 'parsimony measure {0}' measures it",
                out.display()
            ));
        }
        Ok(())
    }
}

/// The choices of each part that lose least within a budget of bytes.
fn resolve(sensitivity: &Sensitivity, budget: u64) -> anyhow::Result<Resolved> {
    // what a part takes is told by what it saves: packed or not, its 32-bit bytes are the same
    let most = |choices: &[PartChoice]| choices.iter().map(|c| c.saved_bytes).max().unwrap_or(0);
    let all_saved: u64 = sensitivity.parts.iter().map(|p| most(&p.choices)).sum();
    let least = sensitivity.bytes.saturating_sub(all_saved);
    let too_small = || {
        BadInput::error(format!(
            "--model-bytes {} is below {}, the least that this model can take; ask for more, or start from a smaller or pruned model",
            quantity::format(budget as f64, "B"),
            quantity::format(least as f64, "B"),
        ))
    };
    let parts: Vec<Vec<Choice>> = sensitivity
        .parts
        .iter()
        .map(|part| {
            let choice = |c: &PartChoice| Choice {
                cost: most(&part.choices) - c.saved_bytes,
                loss: c.loss_increase,
            };
            part.choices.iter().map(choice).collect()
        })
        .collect();
    let room = budget.checked_sub(least).ok_or_else(too_small)?;
    let taken = allocate(&parts, room).ok_or_else(too_small)?;
    let chosen = sensitivity.parts.iter().zip(taken).map(|(part, i)| {
        let choice = part.choices[i];
        let saved = choice.saved_bytes;
        (
            Chosen {
                parameter: part.parameter.clone(),
                bits: choice.bits,
                sparsity: part.sparsity_parameter.as_ref().map(|_| choice.sparsity),
                sparsity_parameter: part.sparsity_parameter.clone(),
                loss_increase: choice.loss_increase,
            },
            saved,
        )
    });
    let (parts, saved): (Vec<Chosen>, Vec<u64>) = chosen.unzip();
    let loss_increase: f64 = parts.iter().map(|part| part.loss_increase).sum();
    Ok(Resolved {
        model_bytes: sensitivity.bytes.saturating_sub(saved.iter().sum()),
        loss: sensitivity.loss + loss_increase,
        loss_increase,
        parts,
        evidence: Evidence::Extrapolated.label(),
    })
}

/// A configuration with these choices.
fn with_choices(config: &str, parts: &[Chosen]) -> anyhow::Result<String> {
    let mut document: DocumentMut = config.parse()?;
    for part in parts {
        document["fixed"][&part.parameter] = toml_edit::value(part.bits as i64);
        if let (Some(parameter), Some(share)) = (&part.sparsity_parameter, part.sparsity) {
            let share = if share > 0.0 { share } else { NONE };
            document["fixed"][parameter] = toml_edit::value(share);
        }
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use evaluator::sensitivity::PartSensitivity;

    use super::*;

    fn choice(bits: usize, sparsity: f64, saved_bytes: u64, loss_increase: f64) -> PartChoice {
        PartChoice {
            bits,
            sparsity,
            saved_bytes,
            loss_increase,
        }
    }

    fn measured() -> Sensitivity {
        let layer = |number: usize, of_sparse: f64| PartSensitivity {
            parameter: format!("bits_layer_{number}"),
            sparsity_parameter: Some(format!("sparsity_layer_{number}")),
            choices: vec![
                choice(8, 0.0, 300, 0.0),
                choice(2, 0.0, 380, 0.5),
                choice(32, 0.75, 380, of_sparse),
            ],
        };
        let rest = PartSensitivity {
            parameter: "bits".into(),
            sparsity_parameter: None,
            choices: vec![choice(8, 0.0, 70, 0.0), choice(2, 0.0, 90, 1.0)],
        };
        Sensitivity {
            loss: 2.0,
            bytes: 1000,
            targets: 1,
            parts: vec![rest, layer(1, 0.1), layer(2, 0.9)],
        }
    }

    #[test]
    fn a_layer_is_sparse_where_that_loses_less_than_bits() {
        let resolved = resolve(&measured(), 250).unwrap();
        let stored: Vec<(usize, Option<f64>)> = resolved.parts.iter().map(|p| (p.bits, p.sparsity)).collect();
        assert_eq!(stored, [(8, None), (32, Some(0.75)), (8, Some(0.0))]);
        assert_eq!((resolved.model_bytes, resolved.evidence), (250, "extrapolated"));
        // both layers as small as they get, each in the way that loses less
        let resolved = resolve(&measured(), 170).unwrap();
        let stored: Vec<(usize, Option<f64>)> = resolved.parts.iter().map(|p| (p.bits, p.sparsity)).collect();
        assert_eq!(stored, [(8, None), (32, Some(0.75)), (2, Some(0.0))]);
        assert!((resolved.loss - 2.6).abs() < 1e-9, "{}", resolved.loss);
        assert!(resolve(&measured(), 149).is_err());

        let config = "[fixed]\nbits = 8\nsparsity = 0.5\n";
        let text = with_choices(config, &resolved.parts).unwrap();
        for line in [
            "bits_layer_1 = 32",
            "sparsity_layer_1 = 0.75",
            "bits_layer_2 = 2",
            "sparsity_layer_2 = -1.0",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}

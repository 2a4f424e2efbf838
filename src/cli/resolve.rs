//! `parsimony resolve`: bits of each layer for a budget, from a sensitivity, without training or measuring.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use evaluator::sensitivity::{BitsChoice, Sensitivity};
use search::allocation::{Choice, allocate};
use serde::Serialize;
use spaces::{Evidence, quantity};
use toml_edit::DocumentMut;

use super::sensitivity::{Measured, read};
use crate::{
    errors::BadInput,
    output::{right, say, table, write_file, write_json},
    settings::Global,
};

/// Chooses the bits of each layer for a budget, from what `sensitivity` measured
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

/// The bits that were chosen.
#[derive(Debug, Serialize)]
struct Resolved {
    parts: Vec<Chosen>,
    model_bytes: u64,
    loss: f64,
    loss_increase: f64,
    evidence: &'static str,
}

/// Those of one part.
#[derive(Debug, Serialize)]
struct Chosen {
    parameter: String,
    bits: usize,
    loss_increase: f64,
}

impl Resolve {
    pub(crate) fn run(self, _: &Global) -> anyhow::Result<()> {
        let Measured { config, sensitivity } = read(&self.sensitivity)?;
        let budget = quantity::parse(&self.model_bytes, "B")
            .map_err(|e| BadInput::error(format!("--model-bytes: {e}")))?;
        let resolved = resolve(&sensitivity, budget as u64)?;
        let text = with_bits(&config, &resolved.parts)
            .with_context(|| format!("'{}' holds no configuration", self.sensitivity.display()))?;
        if let Some(out) = &self.out {
            write_file(out, text.as_bytes())?;
        }
        if self.json {
            return write_json(&resolved);
        }
        let mut table = table(["part", "bits", "loss"]);
        right(&mut table, 1..3);
        for part in &resolved.parts {
            table.add_row([
                part.parameter.clone(),
                part.bits.to_string(),
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

/// The bits of each part that lose least within a budget of bytes.
fn resolve(sensitivity: &Sensitivity, budget: u64) -> anyhow::Result<Resolved> {
    // what a part takes is told by what it saves: packed or not, its 32-bit bytes are the same
    let most = |choices: &[BitsChoice]| choices.iter().map(|c| c.saved_bytes).max().unwrap_or(0);
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
            let choice = |c: &BitsChoice| Choice {
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

/// A configuration with these bits.
fn with_bits(config: &str, parts: &[Chosen]) -> anyhow::Result<String> {
    let mut document: DocumentMut = config.parse()?;
    for part in parts {
        document["fixed"][&part.parameter] = toml_edit::value(part.bits as i64);
    }
    Ok(document.to_string())
}

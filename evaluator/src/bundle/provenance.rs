//! `parsimony.json` and `README.md`: what the model is, what was measured on it, and how to make it again.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};
use spaces::{Config, Measurement, metric, quantity};

use super::BundleError;
use crate::model::ModelPlan;

/// Where a bundle comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The configuration, defaults included.
    pub config: Config,
    /// The model as it was trained, before pruning and packing.
    pub trained: ModelPlan,
    /// Final values by metric.
    pub metrics: Vec<Measurement>,
    /// How much each technique that is on has done.
    pub activity: BTreeMap<String, u64>,
    /// Version, seed, data fingerprint, device and, where there was one, study and trial.
    pub provenance: BTreeMap<String, String>,
}

/// Reads `parsimony.json` of a bundle.
///
/// # Errors
/// [`BundleError`].
pub fn read_provenance(dir: &Path) -> Result<Provenance, BundleError> {
    let path = dir.join("parsimony.json");
    let text = fs::read_to_string(&path).map_err(BundleError::file(&path))?;
    serde_json::from_str(&text).map_err(|e| BundleError::content(&path, e))
}

/// The text of `README.md`.
pub(super) fn readme(p: &Provenance) -> String {
    let get = |key: &str| p.provenance.get(key).map_or("unknown", String::as_str);
    let mut text = String::from("# A model chosen by Parsimony\n\n");
    text += &format!("{}\n\n", get("summary"));
    text += "| metric | value | evidence | source |\n| --- | --- | --- | --- |\n";
    for m in &p.metrics {
        let unit = metric(&m.metric).map_or("", |known| known.unit);
        let spread = m
            .spread
            .map(|s| format!(" ± {}", quantity::format(s, unit)))
            .unwrap_or_default();
        let value = quantity::format(m.value, unit);
        text += &format!(
            "| {} | {value}{spread} | {} | {} |\n",
            m.metric,
            m.evidence.label(),
            m.source
        );
    }
    text += "\n## Use it\n\n```sh\n";
    if p.trained.kind.writes() {
        let prompt = if p.trained.kind.reading() > 0 {
            "Once ___ a time"
        } else {
            "Once"
        };
        text += &format!("parsimony generate . --prompt \"{prompt}\"\n");
    }
    text += "parsimony evaluate .\n```\n\n";
    match get("architecture") {
        "unknown" => {
            text += "The architecture is not one that other tools know; the weights are plain safetensors and \
                     `config.json` tells the shape.\n";
        }
        architecture => {
            text += &format!(
                "It is a `{architecture}`:\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\
                 model, tokenizer = AutoModelForCausalLM.from_pretrained(\".\"), AutoTokenizer.from_pretrained(\".\")\n```\n"
            );
        }
    }
    text += "\n## Make it again\n\n`parsimony.json` holds the configuration and what it ran on:\n\n";
    for (key, value) in &p.provenance {
        text += &format!("- {key}: {value}\n");
    }
    text
}

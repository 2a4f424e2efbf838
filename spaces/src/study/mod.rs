//! The study file: one type for TOML, the web form and the API body.
//!
//! [`StudySpec`] is what the user wrote. [`Study`] is the same, checked against a [`crate::Catalog`] and resolved.

mod error;
mod fidelity;
mod parameter;
mod read;
mod reader;
mod resolve;
mod space;
mod start;
mod toml;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::{
    error::{SpecError, suggest},
    fidelity::FidelitySpec,
    read::{read_config, read_study},
    resolve::{Config, Study, resolve_config, resolve_study},
    toml::{config_from_toml, json_to_toml, study_from_toml, study_to_toml},
};
use crate::Value;

/// A study as the user wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StudySpec {
    /// Unique name; also the folder name of its results.
    pub name: String,
    /// What is learnt.
    pub data: DataSpec,
    /// The checkpoint to start from, if not from scratch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseSpec>,
    /// The model to learn from beside the data, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<BaseSpec>,
    /// Parameters held constant.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fixed: BTreeMap<String, Value>,
    /// Parameters searched.
    #[serde(default)]
    pub space: SpaceSpec,
    /// What is optimised.
    pub objective: Vec<ObjectiveSpec>,
    /// What must be kept to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraint: Vec<ConstraintSpec>,
    /// How it is searched.
    #[serde(default)]
    pub search: SearchSpec,
}

/// A single configuration as the user wrote it (for `measure`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfigSpec {
    /// What is learnt.
    pub data: DataSpec,
    /// The checkpoint to start from, if not from scratch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseSpec>,
    /// The model to learn from beside the data, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<BaseSpec>,
    /// The parameters that differ from their defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fixed: BTreeMap<String, Value>,
}

/// The `[data]` table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DataSpec {
    /// Name of a corpus of the catalogue.
    pub corpus: String,
    /// Its options: `path`, `tokenizer` and what the corpus declares.
    #[serde(flatten)]
    pub options: BTreeMap<String, Value>,
}

impl DataSpec {
    /// The file or folder of the user's, where one is named.
    pub fn path(&self) -> Option<&str> {
        self.options.get("path").and_then(Value::as_str)
    }

    /// The tokenizer, where one is named.
    pub fn tokenizer(&self) -> Option<&str> {
        self.options.get("tokenizer").and_then(Value::as_str)
    }
}

/// The `[base]` table, or `[teacher]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BaseSpec {
    /// An exported bundle or a Hugging Face folder.
    pub path: String,
}

/// The `[space]` table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SpaceSpec {
    /// Fills what is not named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// The parameters by name; `serde_json` keeps their order.
    #[serde(flatten)]
    pub parameters: serde_json::Map<String, serde_json::Value>,
}

/// How one searched parameter is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum ParameterSpec {
    /// `bits = [32, 8, 4]`
    List(Vec<Value>),
    /// `layers = { int = [2, 6] }`
    Table(RangeSpec),
}

/// The table form of a searched parameter. Exactly one of `int`, `float`, `choices` is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RangeSpec {
    /// Ends of a range of whole numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int: Option<[i64; 2]>,
    /// Ends of a real interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub float: Option<[f64; 2]>,
    /// Distinct values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<Value>>,
    /// Spacing of the grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// Even in the logarithm.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    /// When it is active, beside the condition that the catalogue gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// One `[[objective]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ObjectiveSpec {
    /// The metric's name; its direction is the metric's own.
    pub metric: String,
}

/// One `[[constraint]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConstraintSpec {
    /// The metric's name.
    pub metric: String,
    /// Lower limit, a number or a quantity such as `"30 s"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Value>,
    /// Upper limit, a number or a quantity such as `"4 MiB"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Value>,
}

/// The `[search]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct SearchSpec {
    /// A search method of the catalogue.
    pub method: String,
    /// Number of trials to finish.
    pub trials: u32,
    /// Wall time after which no further trial is proposed, such as `"30 min"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall: Option<Value>,
    /// Training that the study may spend altogether, in trainings of full length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_trials: Option<f64>,
    /// Trials that may wait or run at once.
    pub parallel: u32,
    /// Seed of the search and, with the trial's number, of each training.
    pub seed: u64,
    /// How trials are trained in parts, the promising ones further; without it each is trained in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fidelity: Option<FidelitySpec>,
    /// How often a configuration may be trained again, with another seed each time, where noise decides whether it is on
    /// the front.
    #[serde(skip_serializing_if = "is_zero")]
    pub repeats: u32,
    /// Configurations that are tried first; what they leave out has its usual value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<BTreeMap<String, Value>>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Default for SearchSpec {
    fn default() -> Self {
        SearchSpec {
            method: "auto".into(),
            trials: 64,
            wall: None,
            full_trials: None,
            parallel: 1,
            seed: 0,
            fidelity: None,
            repeats: 0,
            start: vec![],
        }
    }
}

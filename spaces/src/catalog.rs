//! What a build offers: parameters, techniques, corpora, presets, meters, methods.
//!
//! Only data. The crates that implement a thing describe it; forms, help, tables and checks derive from it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Condition, Domain, Value, quantity, study::ParameterSpec, suggest};

/// Everything a study can name.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Catalog {
    /// Parameters, parents first.
    pub parameters: Vec<ParameterInfo>,
    /// Techniques, by family.
    pub techniques: Vec<TechniqueInfo>,
    /// Corpora.
    pub corpora: Vec<CorpusInfo>,
    /// Named spaces.
    pub presets: Vec<Preset>,
    /// Names of the metrics that this build measures or computes.
    pub metrics: Vec<String>,
    /// Search methods.
    pub methods: Vec<MethodInfo>,
    /// Rules that decide how far trials are trained.
    pub rules: Vec<MethodInfo>,
}

/// A parameter of a configuration.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ParameterInfo {
    /// Unique name.
    pub name: String,
    /// One line for people.
    pub doc: String,
    /// Unit, or empty.
    pub unit: String,
    /// The part of a configuration it belongs to: `model`, `training`, `attention` ...
    pub group: String,
    /// Values that can be used at all.
    pub allowed: Domain,
    /// Values searched where a preset opens it without naming a range.
    pub search: Domain,
    /// Value where nothing is said.
    pub default: Value,
    /// When it has a meaning.
    pub condition: Condition,
}

/// A technique of a family, such as attention `linear`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TechniqueInfo {
    /// The family, which is also the parameter that chooses it, such as `attention`.
    pub family: String,
    /// The value that chooses it, such as `linear`.
    pub name: String,
    /// One line for people.
    pub doc: String,
    /// Where it comes from, as an arXiv number or a venue.
    pub paper: String,
}

/// A source of training data.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CorpusInfo {
    /// Unique name.
    pub name: String,
    /// One line for people.
    pub doc: String,
    /// Reads `path`.
    pub needs_path: bool,
    /// Takes `tokenizer`; otherwise the corpus brings its own vocabulary.
    pub takes_tokenizer: bool,
    /// Further keys of `[data]`.
    pub options: Vec<ParameterInfo>,
}

/// A named space: what is held constant and what is opened.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Preset {
    /// Unique name.
    pub name: String,
    /// One line for people.
    pub doc: String,
    /// Constants.
    pub fixed: BTreeMap<String, Value>,
    /// Opened parameters, in order.
    pub space: Vec<(String, ParameterSpec)>,
}

/// A search method, or a rule of `search.fidelity`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MethodInfo {
    /// The value that chooses it.
    pub name: String,
    /// One line for people.
    pub doc: String,
    /// Where it comes from.
    pub paper: String,
    /// A metric that must be an objective of the study, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs: Option<String>,
}

impl ParameterInfo {
    /// The value in the parameter's own type; text with a unit is converted.
    ///
    /// # Errors
    /// A sentence that names the value and what is allowed.
    pub fn fit(&self, value: &Value) -> Result<Value, String> {
        let value = match (&self.allowed, value) {
            (Domain::Categorical { .. }, v) | (_, v @ (Value::Int(_) | Value::Float(_) | Value::Bool(_))) => {
                v.clone()
            }
            (_, Value::Text(text)) => Value::Float(quantity::parse(text, &self.unit)?),
        };
        self.allowed
            .canonical(&value)
            .ok_or_else(|| match (&self.allowed, &value) {
                (Domain::Categorical { choices }, Value::Text(name)) => {
                    suggest(&self.name, name, choices.iter().filter_map(Value::as_str))
                }
                _ => format!("{value} does not fit '{}'; use {}", self.name, self.allowed),
            })
    }
}

impl Catalog {
    /// The parameter of that name.
    pub fn parameter(&self, name: &str) -> Option<&ParameterInfo> {
        self.parameters.iter().find(|p| p.name == name)
    }

    /// The corpus of that name.
    pub fn corpus(&self, name: &str) -> Option<&CorpusInfo> {
        self.corpora.iter().find(|c| c.name == name)
    }

    /// The preset of that name.
    pub fn preset(&self, name: &str) -> Option<&Preset> {
        self.presets.iter().find(|p| p.name == name)
    }

    /// Every parameter that has a meaning, given the chosen values; what is not chosen takes its default.
    pub fn resolve(&self, chosen: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
        let mut resolved = BTreeMap::new();
        for p in &self.parameters {
            if p.condition.holds(|name| resolved.get(name)) {
                let value = chosen.get(&p.name).unwrap_or(&p.default);
                resolved.insert(p.name.clone(), value.clone());
            }
        }
        resolved
    }
}

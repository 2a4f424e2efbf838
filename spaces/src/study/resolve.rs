//! Spec and catalogue to a checked study.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    BaseSpec, ConfigSpec, DataSpec, ParameterSpec, SpecError, StudySpec, fidelity, parameter::read_parameter,
    space::build_space, start, suggest,
};
use crate::{Candidate, Catalog, Limit, Objective, Space, Value, metric, quantity};

/// A study that can be run.
#[derive(Clone, Debug)]
pub struct Study {
    /// What the user wrote.
    pub spec: StudySpec,
    /// The searched parameters.
    pub space: Space,
    /// What is optimised, in the order given.
    pub objectives: Vec<Objective>,
    /// What must be kept to.
    pub limits: Vec<Limit>,
    /// Chosen constants: those of the preset and, over them, `[fixed]`.
    pub fixed: BTreeMap<String, Value>,
    /// Wall time after which no further trial is proposed, in seconds.
    pub wall_s: Option<f64>,
    /// Points that are tried first.
    pub start: Vec<Candidate>,
}

/// One full configuration: everything an evaluation depends on but the seed and the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Config {
    /// What is learnt.
    pub data: DataSpec,
    /// The checkpoint to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseSpec>,
    /// The model to learn from beside the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<BaseSpec>,
    /// Every parameter that has a meaning here, defaults included.
    pub values: BTreeMap<String, Value>,
}

impl Study {
    /// The full configuration of a candidate.
    pub fn config(&self, catalog: &Catalog, candidate: &Candidate) -> Config {
        let mut chosen = self.fixed.clone();
        chosen.extend(candidate.values.iter().map(|(k, v)| (k.clone(), v.clone())));
        Config {
            data: self.spec.data.clone(),
            base: self.spec.base.clone(),
            teacher: self.spec.teacher.clone(),
            values: catalog.resolve(&chosen),
        }
    }
}

/// Checks a study against the catalogue.
///
/// # Errors
/// Every [`SpecError`] found: unknown names, values out of range, empty ranges, impossible conditions.
pub fn resolve_study(spec: &StudySpec, catalog: &Catalog) -> Result<Study, Vec<SpecError>> {
    let mut errors = vec![];
    check_data(&spec.data, catalog, &mut errors);
    let preset = spec.space.preset.as_ref().and_then(|name| {
        let found = catalog.preset(name);
        if found.is_none() {
            let known = catalog.presets.iter().map(|p| p.name.as_str());
            errors.push(SpecError::new("space.preset", suggest("preset", name, known)));
        }
        found
    });
    let mut fixed = preset.map(|p| p.fixed.clone()).unwrap_or_default();
    for name in spec.space.parameters.keys() {
        fixed.remove(name);
    }
    fixed.extend(check_fixed(&spec.fixed, catalog, &mut errors));
    for name in spec
        .fixed
        .keys()
        .filter(|n| spec.space.parameters.contains_key(*n))
    {
        errors.push(SpecError::new(
            format!("fixed.{name}"),
            format!("'{name}' is both fixed and searched; keep one"),
        ));
    }

    let mut entries: Vec<(String, ParameterSpec)> = vec![];
    for (name, json) in &spec.space.parameters {
        match read_parameter(json, &format!("space.{name}")) {
            Ok(parameter) => entries.push((name.clone(), parameter)),
            Err(more) => errors.extend(more),
        }
    }
    if let Some(preset) = preset {
        for (name, parameter) in &preset.space {
            if !fixed.contains_key(name) && !entries.iter().any(|(n, _)| n == name) {
                entries.push((name.clone(), parameter.clone()));
            }
        }
    }
    let space = build_space(&entries, &fixed, catalog, &mut errors);
    if space.is_empty() && errors.is_empty() {
        errors.push(SpecError::new(
            "space",
            "nothing is searched; add parameters or preset = \"tiny-decoder\"",
        ));
    }

    let mut objectives: Vec<Objective> = vec![];
    for (i, o) in spec.objective.iter().enumerate() {
        let path = format!("objective[{i}].metric");
        match known_metric(&o.metric, catalog) {
            Ok(m) if objectives.iter().any(|other| other.metric == m.name) => {
                errors.push(SpecError::new(
                    path,
                    format!("'{}' is given twice; remove one", o.metric),
                ));
            }
            Ok(m) => objectives.push(m.into()),
            Err(message) => errors.push(SpecError::new(path, message)),
        }
    }
    if objectives.len() > 5 {
        errors.push(SpecError::new(
            "objective",
            format!(
                "{} objectives are given, but at most 5 can be traded off; turn some into [[constraint]]",
                objectives.len()
            ),
        ));
    }
    let limits = check_limits(spec, catalog, &mut errors);
    if !catalog.methods.iter().any(|m| m.name == spec.search.method) {
        let known = catalog.methods.iter().map(|m| m.name.as_str());
        errors.push(SpecError::new(
            "search.method",
            suggest("method", &spec.search.method, known),
        ));
    }
    fidelity::check(spec, catalog, &mut errors);
    let start = start::candidates(spec, &space, catalog, &mut errors);
    let wall_s = spec
        .search
        .wall
        .as_ref()
        .and_then(|value| match in_unit(value, "s") {
            Ok(seconds) if seconds > 0.0 => Some(seconds),
            Ok(seconds) => {
                errors.push(SpecError::new(
                    "search.wall",
                    format!("{seconds} s leaves no time; give more than 0"),
                ));
                None
            }
            Err(message) => {
                errors.push(SpecError::new("search.wall", message));
                None
            }
        });
    if errors.is_empty() {
        Ok(Study {
            spec: spec.clone(),
            space,
            objectives,
            limits,
            fixed,
            wall_s,
            start,
        })
    } else {
        Err(errors)
    }
}

/// Checks a single configuration against the catalogue.
///
/// # Errors
/// Every [`SpecError`] found.
pub fn resolve_config(spec: &ConfigSpec, catalog: &Catalog) -> Result<Config, Vec<SpecError>> {
    let mut errors = vec![];
    check_data(&spec.data, catalog, &mut errors);
    let fixed = check_fixed(&spec.fixed, catalog, &mut errors);
    let values = catalog.resolve(&fixed);
    for name in fixed.keys().filter(|n| !values.contains_key(*n)) {
        let condition = &catalog.parameter(name).expect("checked above").condition;
        errors.push(SpecError::new(
            format!("fixed.{name}"),
            format!("'{name}' has a meaning only when {condition}; remove it or change that"),
        ));
    }
    if errors.is_empty() {
        Ok(Config {
            data: spec.data.clone(),
            base: spec.base.clone(),
            teacher: spec.teacher.clone(),
            values,
        })
    } else {
        Err(errors)
    }
}

fn check_data(data: &DataSpec, catalog: &Catalog, errors: &mut Vec<SpecError>) {
    let Some(corpus) = catalog.corpus(&data.corpus) else {
        let known = catalog.corpora.iter().map(|c| c.name.as_str());
        errors.push(SpecError::new(
            "data.corpus",
            suggest("corpus", &data.corpus, known),
        ));
        return;
    };
    if corpus.needs_path && data.path().is_none() {
        errors.push(SpecError::new(
            "data.path",
            format!("corpus '{}' needs path = \"FILE OR FOLDER\"", corpus.name),
        ));
    }
    let mut known: Vec<&str> = corpus.options.iter().map(|o| o.name.as_str()).collect();
    known.extend(corpus.needs_path.then_some("path"));
    known.extend(corpus.takes_tokenizer.then_some("tokenizer"));
    for (name, value) in &data.options {
        let path = format!("data.{name}");
        if !known.contains(&name.as_str()) {
            errors.push(SpecError::new(
                path,
                suggest("key", name, known.iter().copied().chain(["corpus"])),
            ));
        } else if let Some(option) = corpus.options.iter().find(|o| o.name == *name) {
            if let Err(message) = option.fit(value) {
                errors.push(SpecError::new(path, message));
            }
        } else if value.as_str().is_none() {
            errors.push(SpecError::new(
                path,
                format!("{value} is not text; write {name} = \"...\""),
            ));
        }
    }
}

fn check_fixed(
    fixed: &BTreeMap<String, Value>,
    catalog: &Catalog,
    errors: &mut Vec<SpecError>,
) -> BTreeMap<String, Value> {
    let mut checked = BTreeMap::new();
    for (name, value) in fixed {
        let fitted = match catalog.parameter(name) {
            Some(info) => info.fit(value),
            None => Err(suggest(
                "parameter",
                name,
                catalog.parameters.iter().map(|p| p.name.as_str()),
            )),
        };
        match fitted {
            Ok(value) => {
                checked.insert(name.clone(), value);
            }
            Err(message) => errors.push(SpecError::new(format!("fixed.{name}"), message)),
        }
    }
    checked
}

fn known_metric(name: &str, catalog: &Catalog) -> Result<&'static crate::Metric, String> {
    match metric(name) {
        Some(m) if catalog.metrics.iter().any(|known| known == name) => Ok(m),
        _ => Err(suggest(
            "metric",
            name,
            catalog.metrics.iter().map(String::as_str),
        )),
    }
}

fn check_limits(spec: &StudySpec, catalog: &Catalog, errors: &mut Vec<SpecError>) -> Vec<Limit> {
    let mut limits = vec![];
    for (i, c) in spec.constraint.iter().enumerate() {
        let path = format!("constraint[{i}]");
        let m = match known_metric(&c.metric, catalog) {
            Ok(m) => m,
            Err(message) => {
                errors.push(SpecError::new(format!("{path}.metric"), message));
                continue;
            }
        };
        let mut end = |value: &Option<Value>, key: &str| match value.as_ref().map(|v| in_unit(v, m.unit)) {
            Some(Ok(x)) => Some(x),
            Some(Err(message)) => {
                errors.push(SpecError::new(format!("{path}.{key}"), message));
                None
            }
            None => None,
        };
        let (min, max) = (end(&c.min, "min"), end(&c.max, "max"));
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            errors.push(SpecError::new(
                &path,
                format!("min {min} is above max {max}; swap them"),
            ));
        }
        limits.push(Limit {
            metric: c.metric.clone(),
            min,
            max,
        });
    }
    limits
}

fn in_unit(value: &Value, unit: &str) -> Result<f64, String> {
    match value {
        Value::Text(text) => quantity::parse(text, unit),
        other => other.as_f64().ok_or_else(|| format!("{other} is not a number")),
    }
}

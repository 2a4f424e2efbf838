//! Configurations that a study begins with: the tables `[[search.start]]`, and those of another study.

use std::{collections::BTreeMap, convert::Infallible};

use serde_json::{Map, Value as Json};

use super::{SpecError, Study, StudySpec, reader::Reader, suggest};
use crate::{Candidate, Catalog, Parameter, Space, Value};

/// Reads the tables of `search`.
pub(super) fn read(reader: &mut Reader, search: &Map<String, Json>) -> Vec<BTreeMap<String, Value>> {
    let tables = reader.tables(search.get("start"), "search.start");
    let start =
        |(path, table): (String, Map<String, Json>)| reader.scalars(Some(&Json::Object(table)), &path);
    tables.into_iter().map(start).collect()
}

/// The points of the space; a searched parameter that is left out has its usual value.
pub(super) fn candidates(
    spec: &StudySpec,
    space: &Space,
    catalog: &Catalog,
    errors: &mut Vec<SpecError>,
) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = vec![];
    for (i, given) in spec.search.start.iter().enumerate() {
        let path = format!("search.start[{i}]");
        match candidate(given, space, catalog) {
            Ok(candidate) if candidates.contains(&candidate) => {
                errors.push(SpecError::new(
                    path,
                    "the same configuration stands there before; remove one",
                ));
            }
            Ok(candidate) => candidates.push(candidate),
            Err((name, message)) => errors.push(SpecError::new(format!("{path}.{name}"), message)),
        }
    }
    if let Some(more) = candidates
        .len()
        .checked_sub(spec.search.trials as usize)
        .filter(|n| *n > 0)
    {
        let message =
            format!("{more} more configurations are given than search.trials; raise it or remove them");
        errors.push(SpecError::new("search.start", message));
    }
    candidates
}

/// One point, or the parameter that is wrong and why.
fn candidate(
    given: &BTreeMap<String, Value>,
    space: &Space,
    catalog: &Catalog,
) -> Result<Candidate, (String, String)> {
    let point = point(space, |parameter, active| {
        let name = &parameter.name;
        value(given.get(name), parameter, active, catalog).map_err(|message| (name.clone(), message))
    })?;
    match given.keys().find(|name| space.get(name).is_none()) {
        Some(name) => {
            let known = space.parameters().iter().map(|p| p.name.as_str());
            Err((name.clone(), suggest("searched parameter", name, known)))
        }
        None => Ok(point),
    }
}

/// A parameter's value, given or usual; `None` where it is not active, or what is wrong.
fn value(
    given: Option<&Value>,
    parameter: &Parameter,
    active: bool,
    catalog: &Catalog,
) -> Result<Option<Value>, String> {
    let Parameter {
        name,
        domain,
        condition,
    } = parameter;
    match (given, active) {
        (None, false) => Ok(None),
        (Some(_), false) => Err(format!(
            "'{name}' has a meaning only when {condition}; remove it or change that"
        )),
        (None, true) => match usual(parameter, catalog) {
            Some(value) => Ok(Some(value)),
            None => Err(format!("'{name}' is missing; give one of its values, {domain}")),
        },
        (Some(value), true) => {
            let info = catalog.parameter(name);
            let value = info.map_or(Ok(value.clone()), |info| info.fit(value))?;
            match domain.canonical(&value) {
                Some(value) => Ok(Some(value)),
                None => Err(format!(
                    "'{name}' is {value}, which is not searched; use {domain}"
                )),
            }
        }
    }
}

impl Study {
    /// The point of this space that a configuration of another study comes to: what is not searched there or here, or
    /// lies beyond, has its usual value, or one from the middle.
    pub fn adopt(&self, catalog: &Catalog, values: &BTreeMap<String, Value>) -> Candidate {
        let Ok(point) = point(&self.space, |parameter, active| {
            let own = values
                .get(&parameter.name)
                .and_then(|v| parameter.domain.canonical(v));
            let value = own.or_else(|| usual(parameter, catalog));
            Ok::<_, Infallible>(active.then(|| value.unwrap_or_else(|| parameter.domain.from_unit(0.5))))
        });
        point
    }
}

/// The point that has the chosen values; parents come before their children, which are told whether they are active.
fn point<E>(
    space: &Space,
    mut choose: impl FnMut(&Parameter, bool) -> Result<Option<Value>, E>,
) -> Result<Candidate, E> {
    let mut point = Candidate::default();
    for parameter in space.parameters() {
        let active = parameter.condition.holds(|parent| point.get(parent));
        if let Some(value) = choose(parameter, active)? {
            point.values.insert(parameter.name.clone(), value);
        }
    }
    Ok(point)
}

/// The value that a parameter has where nothing is said, if it is searched.
fn usual(parameter: &Parameter, catalog: &Catalog) -> Option<Value> {
    let info = catalog.parameter(&parameter.name)?;
    parameter.domain.canonical(&info.default)
}

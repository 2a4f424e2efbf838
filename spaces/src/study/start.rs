//! Configurations that a study begins with: the tables `[[search.start]]`.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::{SpecError, StudySpec, reader::Reader, suggest};
use crate::{Candidate, Catalog, Space, Value};

/// Reads the tables of `search`.
pub(super) fn read(reader: &mut Reader, search: &Map<String, Json>) -> Vec<BTreeMap<String, Value>> {
    let tables = reader.tables_at(search.get("start"), "search.start");
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
    let mut point = Candidate::default();
    // parents stand before their children
    for parameter in space.parameters() {
        let name = &parameter.name;
        let active = parameter.condition.holds(|parent| point.get(parent));
        let info = catalog.parameter(name);
        let wrong = |message: String| Err((name.clone(), message));
        let value = match (given.get(name), active) {
            (None, false) => continue,
            (Some(_), false) => {
                let condition = &parameter.condition;
                return wrong(format!(
                    "'{name}' has a meaning only when {condition}; remove it or change that"
                ));
            }
            (Some(value), true) => match info.map_or(Ok(value.clone()), |info| info.fit(value)) {
                Ok(value) => value,
                Err(message) => return wrong(message),
            },
            (None, true) => match info.map(|info| &info.default) {
                Some(usual) if parameter.domain.contains(usual) => usual.clone(),
                _ => {
                    return wrong(format!(
                        "'{name}' is missing; give one of its values, {}",
                        parameter.domain
                    ));
                }
            },
        };
        match parameter.domain.canonical(&value) {
            Some(value) => point.values.insert(name.clone(), value),
            None => {
                return wrong(format!(
                    "'{name}' is {value}, which is not searched; use {}",
                    parameter.domain
                ));
            }
        };
    }
    match given.keys().find(|name| space.get(name).is_none()) {
        Some(name) => {
            let known = space.parameters().iter().map(|p| p.name.as_str());
            Err((name.clone(), suggest("searched parameter", name, known)))
        }
        None => Ok(point),
    }
}

//! The searched parameters of a spec as a space.

use std::collections::BTreeMap;

use super::{ParameterSpec, RangeSpec, SpecError, suggest};
use crate::{Catalog, Condition, Domain, DomainError, Parameter, ParameterInfo, Space, Test, Value};

/// The space of the entries, given what is held constant.
pub(super) fn build_space(
    entries: &[(String, ParameterSpec)],
    fixed: &BTreeMap<String, Value>,
    catalog: &Catalog,
    errors: &mut Vec<SpecError>,
) -> Space {
    let searched = |name: &str| entries.iter().any(|(n, _)| n == name);
    let constants = catalog.resolve(fixed);
    let mut parameters = vec![];
    for (name, spec) in entries {
        let path = format!("space.{name}");
        let Some(info) = catalog.parameter(name) else {
            let known = catalog.parameters.iter().map(|p| p.name.as_str());
            errors.push(SpecError::new(path, suggest("parameter", name, known)));
            continue;
        };
        let domain = match domain_of(spec, info) {
            Ok(domain) => domain,
            Err(message) => {
                errors.push(SpecError::new(path, message));
                continue;
            }
        };
        let own = match spec {
            ParameterSpec::Table(RangeSpec { when: Some(text), .. }) => match Condition::parse(text) {
                Ok(condition) => condition,
                Err(message) => {
                    errors.push(SpecError::new(format!("{path}.when"), message));
                    continue;
                }
            },
            _ => Condition::default(),
        };
        let mut condition = Condition::default();
        for clause in own.clauses.iter().chain(&info.condition.clauses) {
            if searched(&clause.parent) {
                if !condition.clauses.contains(clause) {
                    condition.clauses.push(clause.clone());
                }
                continue;
            }
            let parent = catalog.parameter(&clause.parent);
            match parent.map(|p| constants.get(&clause.parent).unwrap_or(&p.default)) {
                None => {
                    let known = catalog.parameters.iter().map(|p| p.name.as_str());
                    errors.push(SpecError::new(
                        format!("{path}.when"),
                        suggest("parameter", &clause.parent, known),
                    ));
                }
                Some(value) if !clause.test.holds(value) => {
                    let needed = Condition {
                        clauses: vec![clause.clone()],
                    };
                    errors.push(SpecError::new(
                        &path,
                        format!(
                            "'{name}' has a meaning only when {needed}, but {} is {value}; search {} too or remove '{name}'",
                            clause.parent, clause.parent
                        ),
                    ));
                }
                Some(_) => {}
            }
        }
        parameters.push(Parameter {
            name: name.clone(),
            domain,
            condition,
        });
    }
    if parameters.len() < entries.len() {
        return Space::default(); // a child of a faulty parent is no further mistake
    }
    check_reachable(&parameters, errors);
    match Space::new(parameters) {
        Ok(space) => space,
        Err(e) => {
            errors.push(SpecError::new("space", e.to_string()));
            Space::default()
        }
    }
}

/// A condition that no value of the parent satisfies makes a parameter that can never be searched.
fn check_reachable(parameters: &[Parameter], errors: &mut Vec<SpecError>) {
    for p in parameters {
        for clause in &p.condition.clauses {
            let Some(parent) = parameters.iter().find(|q| q.name == clause.parent) else {
                continue;
            };
            let satisfiable = match (&parent.domain, &clause.test) {
                (Domain::Categorical { choices }, test) => choices.iter().any(|c| test.holds(c)),
                (domain, Test::In(values)) => values.iter().any(|v| domain.contains(v)),
                (domain, test) => [0.0, 1.0].iter().any(|end| test.holds(&domain.from_unit(*end))),
            };
            if !satisfiable {
                let needed = Condition {
                    clauses: vec![clause.clone()],
                };
                errors.push(SpecError::new(
                    format!("space.{}", p.name),
                    format!(
                        "no value of '{}' ({}) makes {needed} true; widen it or remove '{}'",
                        parent.name, parent.domain, p.name
                    ),
                ));
            }
        }
    }
}

fn domain_of(spec: &ParameterSpec, info: &ParameterInfo) -> Result<Domain, String> {
    let says = |e: DomainError| e.to_string();
    let domain = match spec {
        ParameterSpec::List(values) => Domain::categorical(values.clone()).map_err(says)?,
        ParameterSpec::Table(range) => match range {
            RangeSpec {
                int: Some([low, high]),
                ..
            } => {
                let step = range.step.unwrap_or(1.0);
                if step.fract() != 0.0 {
                    return Err(format!(
                        "step {step} is not whole; use a whole step or float = [..]"
                    ));
                }
                Domain::int(*low, *high, range.log, step as i64).map_err(says)?
            }
            RangeSpec {
                float: Some([low, high]),
                ..
            } => Domain::float(*low, *high, range.log, range.step).map_err(says)?,
            RangeSpec {
                choices: Some(values),
                ..
            } => Domain::categorical(values.clone()).map_err(says)?,
            _ => return Err("exactly one of int, float and choices is needed".into()),
        },
    };
    if !info.allowed.covers(&domain) {
        let outside = match &domain {
            Domain::Categorical { choices } => choices.iter().find(|c| !info.allowed.contains(c)).cloned(),
            _ => None,
        };
        return Err(match (&outside, &info.allowed) {
            (Some(Value::Text(name)), Domain::Categorical { choices }) => {
                suggest(&info.name, name, choices.iter().filter_map(Value::as_str))
            }
            (Some(value), _) => format!("{value} does not fit '{}'; use {}", info.name, info.allowed),
            (None, _) => format!(
                "{domain} is wider than '{}' allows; use {}",
                info.name, info.allowed
            ),
        });
    }
    // values in the parameter's own type, so that 1 and 1.0 are one candidate
    Ok(match domain {
        Domain::Categorical { choices } => Domain::Categorical {
            choices: choices.iter().filter_map(|c| info.allowed.canonical(c)).collect(),
        },
        other => other,
    })
}

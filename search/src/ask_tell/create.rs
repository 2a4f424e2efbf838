//! A `create` message to the parts of a study, each checked.

use std::collections::{BTreeMap, HashSet};

use spaces::{Candidate, Clause, Condition, Domain, DomainError, Objective, Parameter, Space, Test, suggest};

use super::{
    Refusal,
    message::{ClauseEntry, Create, ObjectiveEntry, ParameterKind, SpaceEntry, TrialStatus},
};
use crate::{Outcome, Problem, REGISTRY, Sampler, sampler};

/// Largest size of a whole number: beyond it, JSON readers that keep numbers as doubles lose the last digits.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// What is searched.
pub(super) fn problem(create: &Create) -> Result<Problem, Refusal> {
    let objectives = create.objectives.iter().map(|o| Objective {
        metric: o.name.clone(),
        direction: o.direction,
        known_before_training: o.cheap,
    });
    Ok(Problem::new(
        space(&create.space)?,
        objectives.collect(),
        vec![],
        create.seed,
    )?)
}

/// The reference point, turned so that less is better.
pub(super) fn reference(create: &Create) -> Result<Option<Vec<f64>>, Refusal> {
    let Some(point) = &create.ref_point else {
        return Ok(None);
    };
    let minimised = in_order(&create.objectives, point, "ref_point")?;
    Ok(Some(minimised.map(|(o, v)| o.direction.minimized(v)).collect()))
}

/// How to search.
pub(super) fn method(create: &Create) -> Result<Box<dyn Sampler + Send>, Refusal> {
    let name = create.method.as_deref().unwrap_or("auto");
    sampler(name)
        .ok_or_else(|| Refusal::part("method", suggest("method", name, REGISTRY.iter().map(|m| m.name))))
}

/// Checks the number of trials that are planned.
pub(super) fn check_budget(create: &Create) -> Result<(), Refusal> {
    if create.budget == Some(0) {
        return Err(Refusal::part(
            "budget",
            "0 trials are no study; plan at least 1 or leave it out",
        ));
    }
    Ok(())
}

/// What to propose first.
pub(super) fn starting_points(create: &Create, space: &Space) -> Result<Vec<Candidate>, Refusal> {
    let mut met = HashSet::new();
    let points = create.starting_points.iter().enumerate().map(|(i, point)| {
        let place = format!("starting_points[{i}].params");
        let candidate = candidate(&point.params, space, &place)?;
        if !met.insert(candidate.key()) {
            return Err(Refusal::part(
                place,
                "the same configuration stands there before; remove one",
            ));
        }
        Ok(candidate)
    });
    points.collect()
}

/// What an earlier study has found.
pub(super) fn earlier(create: &Create, space: &Space) -> Result<Vec<(Candidate, Outcome)>, Refusal> {
    let trials = create.earlier.iter().enumerate().map(|(i, trial)| {
        let place = format!("earlier[{i}]");
        let candidate = candidate(&trial.params, space, &format!("{place}.params"))?;
        Ok((
            candidate,
            outcome(&create.objectives, trial.status, trial.values.as_deref(), &place)?,
        ))
    });
    trials.collect()
}

/// How a trial ended, its values checked against the objectives.
pub(super) fn outcome(
    objectives: &[ObjectiveEntry],
    status: TrialStatus,
    values: Option<&[f64]>,
    place: &str,
) -> Result<Outcome, Refusal> {
    match (status, values) {
        (TrialStatus::Ok, Some(values)) => {
            let values = in_order(objectives, values, &format!("{place}.values"))?;
            let metrics: BTreeMap<String, f64> = values.map(|(o, v)| (o.name.clone(), v)).collect();
            Ok(Outcome::Measured(metrics))
        }
        (TrialStatus::Ok, None) => Err(Refusal::part(
            place,
            "'values' is missing; give one for each objective, or the status failed",
        )),
        (_, Some([_, ..])) => Err(Refusal::part(
            place,
            "a trial that did not end well has no values; leave them out, or give the status ok",
        )),
        (TrialStatus::Failed, _) => Ok(Outcome::Failed),
        (TrialStatus::Invalid, _) => Ok(Outcome::Infeasible),
    }
}

/// Each objective with its value.
fn in_order<'a>(
    objectives: &'a [ObjectiveEntry],
    values: &'a [f64],
    place: &str,
) -> Result<impl Iterator<Item = (&'a ObjectiveEntry, f64)> + use<'a>, Refusal> {
    if values.len() != objectives.len() {
        let names: Vec<&str> = objectives.iter().map(|o| o.name.as_str()).collect();
        let problem = format!(
            "there {} for {} objectives; give one for each of {}",
            counted(values.len()),
            objectives.len(),
            names.join(", ")
        );
        return Err(Refusal::part(place, problem));
    }
    Ok(objectives.iter().zip(values.iter().copied()))
}

fn counted(n: usize) -> String {
    match n {
        1 => "is 1 number".to_owned(),
        n => format!("are {n} numbers"),
    }
}

/// A configuration of the user's, each value in its domain's own type.
fn candidate(given: &Candidate, space: &Space, place: &str) -> Result<Candidate, Refusal> {
    space.check(given).map_err(|error| Refusal::Candidate {
        place: place.to_owned(),
        error,
    })?;
    let own = |(name, value): (&String, &spaces::Value)| {
        let own = space.get(name).and_then(|p| p.domain.canonical(value));
        (name.clone(), own.unwrap_or_else(|| value.clone()))
    };
    Ok(given.values.iter().map(own).collect())
}

fn space(entries: &[SpaceEntry]) -> Result<Space, Refusal> {
    if entries.is_empty() {
        return Err(Refusal::part("space", "there is no parameter; name at least one"));
    }
    let mut parameters: Vec<Parameter> = Vec::with_capacity(entries.len());
    for (i, entry) in entries.iter().enumerate() {
        let place = format!("space[{i}]");
        if parameters.iter().any(|p| p.name == entry.name) {
            let problem = format!("parameter '{}' is given twice; rename or remove one", entry.name);
            return Err(Refusal::part(place, problem));
        }
        let domain = domain(entry, &place)?;
        let clauses = entry.condition.iter().enumerate().map(|(j, clause)| {
            let place = format!("{place}.condition[{j}]");
            self::clause(clause, entry, entries, &parameters).map_err(|problem| Refusal::part(place, problem))
        });
        let condition = Condition {
            clauses: clauses.collect::<Result<_, _>>()?,
        };
        parameters.push(Parameter {
            name: entry.name.clone(),
            domain,
            condition,
        });
    }
    Ok(Space::new(parameters).expect("names differ and parents stand before their children"))
}

fn domain(entry: &SpaceEntry, place: &str) -> Result<Domain, Refusal> {
    let refused = |problem: String| Refusal::part(place, format!("parameter '{}' {problem}", entry.name));
    let built = |domain: Result<Domain, DomainError>| {
        domain.map_err(|error| Refusal::Domain {
            place: place.to_owned(),
            name: entry.name.clone(),
            error,
        })
    };
    if entry.kind == ParameterKind::Categorical {
        let stray = [
            ("low", entry.low.is_some()),
            ("high", entry.high.is_some()),
            ("log", entry.log.is_some()),
        ];
        if let Some((key, _)) = stray.iter().find(|(_, given)| *given) {
            return Err(refused(format!(
                "has '{key}', which is for numbers; a categorical has choices"
            )));
        }
        let choices = entry.choices.clone();
        let choices = choices.ok_or_else(|| refused("has no choices; list at least one value".into()))?;
        return built(Domain::categorical(choices));
    }
    if entry.choices.is_some() {
        return Err(refused(
            "has choices, which are for a categorical; a number has low and high".into(),
        ));
    }
    let end = |key, end: Option<f64>| {
        end.ok_or_else(|| refused(format!("has no '{key}'; give both ends of its range")))
    };
    let (low, high) = (end("low", entry.low)?, end("high", entry.high)?);
    let log = entry.log.unwrap_or(false);
    if entry.kind == ParameterKind::Float {
        return built(Domain::float(low, high, log, None));
    }
    for end in [low, high] {
        if end.fract() != 0.0 || end.abs() > WHOLE {
            return Err(refused(format!(
                "is an int and reaches to {end}; give whole numbers up to 2^53"
            )));
        }
    }
    built(Domain::int(low as i64, high as i64, log, 1))
}

/// A clause, or what is wrong with it.
fn clause(
    clause: &ClauseEntry,
    child: &SpaceEntry,
    entries: &[SpaceEntry],
    before: &[Parameter],
) -> Result<Clause, String> {
    let (child, parent) = (&child.name, &clause.parent);
    let Some(known) = before.iter().find(|p| p.name == *parent) else {
        return Err(if child == parent {
            format!("parameter '{child}' depends on itself; name another parent")
        } else if entries.iter().any(|e| e.name == *parent) {
            format!(
                "parameter '{child}' depends on '{parent}', which comes later; list parents before their children"
            )
        } else {
            let names = before.iter().map(|p| p.name.as_str());
            match before {
                [] => format!("parameter '{child}' depends on '{parent}', but no parameter stands before it"),
                _ => format!(
                    "parameter '{child}' depends on an {}",
                    suggest("parent", parent, names)
                ),
            }
        });
    };
    let test = match (&clause.one_of, clause.ge) {
        (Some(values), None) => Test::In(values.clone()),
        (None, Some(least)) => Test::Ge(least),
        _ => return Err("a clause has exactly one of 'in' and 'ge'".into()),
    };
    let can_hold = match (&test, &known.domain) {
        (Test::In(values), domain) => values.iter().any(|v| domain.contains(v)),
        (_, Domain::Float { high, .. }) => clause.ge.is_some_and(|least| least <= *high),
        (_, Domain::Int { high, .. }) => clause.ge.is_some_and(|least| least <= *high as f64),
        (test, Domain::Categorical { choices }) => choices.iter().any(|choice| test.holds(choice)),
    };
    let clause = Clause {
        parent: parent.clone(),
        test,
    };
    if can_hold {
        return Ok(clause);
    }
    let domain = &known.domain;
    let condition = Condition {
        clauses: vec![clause],
    };
    Err(format!(
        "'{condition}' never holds, because '{parent}' is {domain}; correct the clause or drop '{child}'"
    ))
}

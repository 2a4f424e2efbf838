//! What the problems' spaces are made of.

use spaces::{Candidate, Condition, Domain, Parameter, Space, Value};

/// The space of these parameters.
pub(super) fn space(parameters: Vec<Parameter>) -> Space {
    Space::new(parameters).expect("distinct names, parents in the space")
}

/// A real interval.
pub(super) fn real(name: &str, low: f64, high: f64) -> Parameter {
    parameter(
        name,
        Domain::float(low, high, false, None).expect("low below high"),
    )
}

/// A real interval, spread evenly in the logarithm.
pub(super) fn real_log(name: &str, low: f64, high: f64) -> Parameter {
    parameter(
        name,
        Domain::float(low, high, true, None).expect("0 < low < high"),
    )
}

/// A range of whole numbers.
pub(super) fn int(name: &str, low: i64, high: i64) -> Parameter {
    parameter(name, Domain::int(low, high, false, 1).expect("low below high"))
}

/// A range of whole numbers, spread evenly in the logarithm.
pub(super) fn int_log(name: &str, low: i64, high: i64) -> Parameter {
    parameter(name, Domain::int(low, high, true, 1).expect("0 < low < high"))
}

/// A choice of names or of numbers.
pub(super) fn one_of<T: Into<Value> + Copy>(name: &str, choices: &[T]) -> Parameter {
    let choices = choices.iter().map(|c| (*c).into()).collect();
    parameter(name, Domain::categorical(choices).expect("distinct choices"))
}

/// The parameter, active only under a condition.
pub(super) fn when(condition: &str, parameter: Parameter) -> Parameter {
    let condition = Condition::parse(condition).expect("a condition that parses");
    Parameter {
        condition,
        ..parameter
    }
}

fn parameter(name: &str, domain: Domain) -> Parameter {
    Parameter {
        name: name.into(),
        domain,
        condition: Condition::default(),
    }
}

/// Real parameters `x00`, `x01` ..., named such that their order is that of their names.
pub(super) fn reals(n: usize, low: f64, high: f64) -> Space {
    space((0..n).map(|i| real(&format!("x{i:02}"), low, high)).collect())
}

/// The numbers of a candidate, in the order of their names.
pub(super) fn numbers(candidate: &Candidate) -> Vec<f64> {
    candidate.values.values().filter_map(Value::as_f64).collect()
}

/// The number of a parameter, or `otherwise` where it is not active.
pub(super) fn number(candidate: &Candidate, name: &str, otherwise: f64) -> f64 {
    candidate.get(name).and_then(Value::as_f64).unwrap_or(otherwise)
}

/// The name that a parameter has.
pub(super) fn name<'c>(candidate: &'c Candidate, parameter: &str) -> &'c str {
    candidate.get(parameter).and_then(Value::as_str).unwrap_or("")
}

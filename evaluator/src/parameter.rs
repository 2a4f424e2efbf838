//! How a technique declares its parameters, and how it reads their values.

use std::collections::BTreeMap;

use spaces::{Condition, Domain, ParameterInfo, Value};

/// Declares a parameter of whole numbers.
pub(crate) fn int(name: &str, doc: &str, low: i64, high: i64, default: i64) -> ParameterInfo {
    let allowed = Domain::int(low, high, false, 1).expect("a declared range is not empty");
    declare(name, doc, allowed, Value::Int(default))
}

/// Declares a parameter of real numbers.
pub(crate) fn float(name: &str, doc: &str, low: f64, high: f64, default: f64) -> ParameterInfo {
    let allowed = Domain::float(low, high, false, None).expect("a declared range is not empty");
    declare(name, doc, allowed, Value::Float(default))
}

/// Declares a parameter of listed values; the first one is the default.
pub(crate) fn choice<V: Into<Value> + Clone>(name: &str, doc: &str, choices: &[V]) -> ParameterInfo {
    let choices: Vec<Value> = choices.iter().cloned().map(Into::into).collect();
    let default = choices[0].clone();
    declare(
        name,
        doc,
        Domain::categorical(choices).expect("declared choices differ"),
        default,
    )
}

fn declare(name: &str, doc: &str, allowed: Domain, default: Value) -> ParameterInfo {
    ParameterInfo {
        name: name.into(),
        doc: doc.into(),
        unit: String::new(),
        group: String::new(),
        search: allowed.clone(),
        allowed,
        default,
        condition: Condition::default(),
    }
}

/// What is said of a parameter after its range.
pub(crate) trait Declared: Sized {
    /// The unit of its values.
    fn unit(self, unit: &str) -> Self;
    /// When it has a meaning.
    fn when(self, condition: &str) -> Self;
    /// What is searched where a study opens it without a range.
    fn search(self, domain: Domain) -> Self;
}

impl Declared for ParameterInfo {
    fn unit(mut self, unit: &str) -> Self {
        self.unit = unit.into();
        self
    }

    fn when(mut self, condition: &str) -> Self {
        self.condition = Condition::parse(condition).expect("a declared condition can be read");
        self
    }

    fn search(mut self, domain: Domain) -> Self {
        self.search = domain;
        self
    }
}

/// The chosen values of a configuration, all parameters that have a meaning included.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a>(pub(crate) &'a BTreeMap<String, Value>);

impl<'a> Values<'a> {
    /// A whole number; 0 where the parameter has no meaning here.
    pub(crate) fn int(&self, name: &str) -> usize {
        self.0
            .get(name)
            .and_then(Value::as_i64)
            .and_then(|i| usize::try_from(i).ok())
            .unwrap_or(0)
    }

    /// A real number; 0 where the parameter has no meaning here.
    pub(crate) fn float(&self, name: &str) -> f64 {
        self.0.get(name).and_then(Value::as_f64).unwrap_or(0.0)
    }

    /// Whether it is yes; no where the parameter has no meaning here.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(Value::Bool(true)))
    }

    /// A name; empty where the parameter has no meaning here.
    pub(crate) fn text(&self, name: &str) -> &'a str {
        self.0.get(name).and_then(Value::as_str).unwrap_or("")
    }
}

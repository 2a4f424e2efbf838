//! Spaces and objectives that the tests share.

use spaces::{Condition, Direction, Domain, Limit, Objective, Parameter, Space, Value};

/// A parameter; `when` may be empty.
pub(crate) fn parameter(name: &str, domain: Domain, when: &str) -> Parameter {
    Parameter {
        name: name.into(),
        domain,
        condition: if when.is_empty() {
            Condition::default()
        } else {
            Condition::parse(when).unwrap()
        },
    }
}

/// A choice of names.
pub(crate) fn names(list: &[&str]) -> Domain {
    Domain::categorical(list.iter().map(|s| Value::from(*s)).collect()).unwrap()
}

/// Real parameters `x0`, `x1` ... between 0 and 1.
pub(crate) fn cube(dimensions: usize) -> Space {
    let real = |i| {
        parameter(
            &format!("x{i}"),
            Domain::float(0.0, 1.0, false, None).unwrap(),
            "",
        )
    };
    Space::new((0..dimensions).map(real).collect()).unwrap()
}

/// Every kind of domain, and chains of conditions three deep.
pub(crate) fn mixed() -> Space {
    Space::new(vec![
        parameter("attention", names(&["full", "sliding", "linear"]), ""),
        parameter(
            "window",
            Domain::int(8, 512, true, 1).unwrap(),
            "attention == 'sliding'",
        ),
        parameter("sinks", Domain::int(0, 4, false, 1).unwrap(), "window >= 64"),
        parameter("layers", Domain::int(2, 12, false, 1).unwrap(), ""),
        parameter("width", Domain::int(64, 512, false, 32).unwrap(), ""),
        parameter(
            "experts",
            Domain::categorical([1, 2, 4].map(Value::Int).to_vec()).unwrap(),
            "",
        ),
        parameter("top_k", Domain::int(1, 2, false, 1).unwrap(), "experts > 1"),
        parameter("rate", Domain::float(1e-4, 1e-2, true, None).unwrap(), ""),
        parameter("prune", Domain::float(0.0, 0.8, false, Some(0.1)).unwrap(), ""),
        parameter(
            "share",
            Domain::categorical(vec![true.into(), false.into()]).unwrap(),
            "prune > 0.35",
        ),
        parameter("dropout", Domain::float(0.0, 0.5, false, None).unwrap(), ""),
    ])
    .unwrap()
}

/// A metric to be minimised.
pub(crate) fn objective(metric: &str) -> Objective {
    Objective {
        metric: metric.into(),
        direction: Direction::Minimize,
        known_before_training: false,
    }
}

/// An upper limit.
pub(crate) fn at_most(metric: &str, max: f64) -> Limit {
    Limit {
        metric: metric.into(),
        min: None,
        max: Some(max),
    }
}

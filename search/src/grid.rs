//! Every point of a small finite space.

use spaces::{Candidate, Domain, Space, Value};

/// Every distinct point of the space; `None` if there are more than `most` or a reachable parameter is a continuum.
pub(crate) fn points(space: &Space, most: usize) -> Option<Vec<Candidate>> {
    let mut points = vec![Candidate::default()];
    for parameter in space.parameters() {
        let mut longer = Vec::with_capacity(points.len());
        let mut values = None;
        for point in points {
            if !parameter.condition.holds(|name| point.get(name)) {
                longer.push(point);
                continue;
            }
            if values.is_none() {
                values = Some(values_of(&parameter.domain, most)?);
            }
            for value in values.iter().flatten() {
                let mut next = point.clone();
                next.values.insert(parameter.name.clone(), value.clone());
                longer.push(next);
            }
            if longer.len() > most {
                return None;
            }
        }
        points = longer;
    }
    Some(points)
}

fn values_of(domain: &Domain, most: usize) -> Option<Vec<Value>> {
    let n = domain.cardinality().filter(|n| *n <= most as u64)?;
    Some(match domain {
        Domain::Int { low, step, .. } => (0..n as i64).map(|k| Value::Int(low + k * step)).collect(),
        Domain::Categorical { choices } => choices.clone(),
        // equal slices of the unit interval, one for each value of the grid
        Domain::Float { .. } => (0..n)
            .map(|k| domain.from_unit((k as f64 + 0.5) / n as f64))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use spaces::{Condition, Parameter};

    use super::*;

    fn parameter(name: &str, domain: Domain, when: &str) -> Parameter {
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

    #[test]
    fn each_point_is_walked_once_and_inactive_values_are_not_counted() {
        let space = Space::new(vec![
            parameter("a", Domain::int(1, 3, true, 1).unwrap(), ""),
            parameter("b", Domain::float(0.0, 1.0, false, Some(0.25)).unwrap(), "a > 1"),
            parameter(
                "c",
                Domain::categorical(vec!["x".into(), "y".into()]).unwrap(),
                "b >= 0.75",
            ),
            parameter("rate", Domain::float(0.0, 1.0, false, None).unwrap(), "a > 3"),
        ])
        .unwrap();
        let points = points(&space, 100).unwrap();
        assert_eq!(points.len(), 1 + 2 * (3 + 2 * 2));
        assert!(points.iter().all(|p| space.check(p).is_ok()));
        let distinct: HashSet<String> = points.iter().map(Candidate::hash).collect();
        assert_eq!(distinct.len(), points.len());
        assert!(super::points(&space, 14).is_none());
    }

    #[test]
    fn a_continuum_is_not_walked() {
        let real = Domain::float(0.0, 1.0, false, None).unwrap();
        assert!(points(&Space::new(vec![parameter("x", real, "")]).unwrap(), 100).is_none());
    }
}

//! An ordered set of parameters with their conditions.

use serde::{Deserialize, Serialize};

use crate::{Candidate, Condition, Domain, Value};

/// A searched parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Unique name.
    pub name: String,
    /// Its values.
    pub domain: Domain,
    /// When it is active.
    #[serde(default)]
    pub condition: Condition,
}

/// Parameters in an order in which parents stand before their children.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Space {
    parameters: Vec<Parameter>,
}

/// Why a list of parameters is not a space.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SpaceError {
    /// A name given twice.
    #[error("parameter '{0}' is given twice; rename or remove one")]
    Duplicate(String),
    /// A condition on a parameter that is not there.
    #[error(
        "parameter '{child}' depends on '{parent}', which is not in the space; add it or drop the condition"
    )]
    UnknownParent {
        /// The parameter with the condition.
        child: String,
        /// The parent it names.
        parent: String,
    },
    /// Conditions that form a ring.
    #[error("parameter '{0}' depends on itself through its conditions; break the ring")]
    Ring(String),
}

/// Why a candidate is not a point of the space.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CandidateError {
    /// A name the space does not have.
    #[error("'{0}' is not a parameter of this space")]
    Unknown(String),
    /// An active parameter without a value.
    #[error("parameter '{0}' is active and has no value")]
    Missing(String),
    /// A value for a parameter whose condition does not hold.
    #[error("parameter '{0}' has a value although its condition ({1}) does not hold")]
    Inactive(String, Condition),
    /// A value outside of the domain.
    #[error("parameter '{0}': {1} is not in its domain ({2})")]
    OutOfDomain(String, Value, Domain),
}

impl Space {
    /// Checks the parameters and puts parents before children, otherwise keeping the given order.
    ///
    /// # Errors
    /// [`SpaceError`] for repeated names, unknown parents and rings.
    pub fn new(parameters: Vec<Parameter>) -> Result<Space, SpaceError> {
        for (i, p) in parameters.iter().enumerate() {
            if parameters[..i].iter().any(|q| q.name == p.name) {
                return Err(SpaceError::Duplicate(p.name.clone()));
            }
            for clause in &p.condition.clauses {
                if !parameters.iter().any(|q| q.name == clause.parent) {
                    return Err(SpaceError::UnknownParent {
                        child: p.name.clone(),
                        parent: clause.parent.clone(),
                    });
                }
            }
        }
        let mut waiting = parameters;
        let mut sorted: Vec<Parameter> = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            let ready = |p: &Parameter| {
                p.condition
                    .clauses
                    .iter()
                    .all(|c| sorted.iter().any(|q| q.name == c.parent))
            };
            match waiting.iter().position(ready) {
                Some(i) => sorted.push(waiting.remove(i)),
                None => return Err(SpaceError::Ring(waiting[0].name.clone())),
            }
        }
        Ok(Space { parameters: sorted })
    }

    /// The parameters, parents first.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Number of parameters, active or not.
    pub fn len(&self) -> usize {
        self.parameters.len()
    }

    /// Whether nothing varies.
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }

    /// The parameter of that name.
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|p| p.name == name)
    }

    /// Number of distinct points; `None` if a parameter is a continuum or the product overflows.
    pub fn cardinality(&self) -> Option<u64> {
        // an upper bound: inactive combinations are counted once for each value they cannot take
        self.parameters
            .iter()
            .try_fold(1u64, |n, p| n.checked_mul(p.domain.cardinality()?))
    }

    /// The candidate at a point of the unit cube; inactive coordinates are ignored.
    ///
    /// # Panics
    /// If `unit` has not one coordinate for each parameter.
    pub fn decode(&self, unit: &[f64]) -> Candidate {
        assert_eq!(unit.len(), self.len(), "one coordinate for each parameter");
        let mut candidate = Candidate::default();
        for (p, u) in self.parameters.iter().zip(unit) {
            if p.condition.holds(|name| candidate.get(name)) {
                candidate.values.insert(p.name.clone(), p.domain.from_unit(*u));
            }
        }
        candidate
    }

    /// Coordinates in the unit cube, `None` where inactive. The candidate must be valid.
    pub fn encode(&self, candidate: &Candidate) -> Vec<Option<f64>> {
        self.parameters
            .iter()
            .map(|p| candidate.get(&p.name).and_then(|v| p.domain.to_unit(v)))
            .collect()
    }

    /// Checks that the candidate has exactly the active parameters, each in its domain.
    ///
    /// # Errors
    /// The first [`CandidateError`] found.
    pub fn check(&self, candidate: &Candidate) -> Result<(), CandidateError> {
        for name in candidate.values.keys() {
            if self.get(name).is_none() {
                return Err(CandidateError::Unknown(name.clone()));
            }
        }
        for p in &self.parameters {
            let active = p.condition.holds(|name| candidate.get(name));
            match candidate.get(&p.name) {
                None if active => return Err(CandidateError::Missing(p.name.clone())),
                Some(_) if !active => {
                    return Err(CandidateError::Inactive(p.name.clone(), p.condition.clone()));
                }
                Some(v) if !p.domain.contains(v) => {
                    return Err(CandidateError::OutOfDomain(
                        p.name.clone(),
                        v.clone(),
                        p.domain.clone(),
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> Space {
        let p = |name: &str, domain, when: &str| Parameter {
            name: name.into(),
            domain,
            condition: if when.is_empty() {
                Condition::default()
            } else {
                Condition::parse(when).unwrap()
            },
        };
        Space::new(vec![
            p("top_k", Domain::int(1, 2, false, 1).unwrap(), "experts > 1"),
            p(
                "experts",
                Domain::categorical([1, 2, 4].map(Value::Int).to_vec()).unwrap(),
                "",
            ),
            p("rate", Domain::float(1e-4, 1e-2, true, None).unwrap(), ""),
        ])
        .unwrap()
    }

    proptest! {
        #[test]
        fn every_point_of_the_cube_is_a_valid_candidate(unit in proptest::collection::vec(0.0..=1.0f64, 3)) {
            let space = example();
            let candidate = space.decode(&unit);
            prop_assert!(space.check(&candidate).is_ok());
            let again: Vec<f64> = space.encode(&candidate).iter().map(|u| u.unwrap_or(0.5)).collect();
            let back = space.decode(&again);
            prop_assert_eq!(space.encode(&back).len(), 3);
            prop_assert_eq!(back.get("experts"), candidate.get("experts"));
            prop_assert_eq!(back.get("top_k"), candidate.get("top_k"));
        }
    }

    #[test]
    fn parents_come_first_and_bad_lists_are_refused() {
        let space = example();
        let names: Vec<_> = space.parameters().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["experts", "top_k", "rate"]);
        let one = |name: &str, when: &str| Parameter {
            name: name.into(),
            domain: Domain::int(1, 2, false, 1).unwrap(),
            condition: Condition::parse(when).unwrap(),
        };
        assert!(matches!(
            Space::new(vec![one("a", "b > 1"), one("b", "a > 1")]),
            Err(SpaceError::Ring(_))
        ));
        assert!(matches!(
            Space::new(vec![one("a", "b > 1")]),
            Err(SpaceError::UnknownParent { .. })
        ));
    }

    #[test]
    fn a_wrong_candidate_is_named() {
        let space = example();
        let mut candidate = space.decode(&[0.9, 0.5, 0.5]);
        candidate.values.remove("top_k");
        assert_eq!(
            space.check(&candidate),
            Err(CandidateError::Missing("top_k".into()))
        );
        candidate.values.insert("experts".into(), Value::Int(1));
        candidate.values.insert("top_k".into(), Value::Int(1));
        assert!(matches!(
            space.check(&candidate),
            Err(CandidateError::Inactive(..))
        ));
        candidate.values.remove("top_k");
        candidate.values.insert("rate".into(), Value::Float(1.0));
        assert!(matches!(
            space.check(&candidate),
            Err(CandidateError::OutOfDomain(..))
        ));
    }
}

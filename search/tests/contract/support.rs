//! Spaces and oracles of the contract.

use std::collections::BTreeMap;

use rand::RngExt;
use search::{Known, Oracle, Problem, proposal_rng};
use spaces::{Candidate, Condition, Domain, Limit, Parameter, Space, Value};

use crate::common::{cube, mixed, names, objective, parameter};

/// A space drawn at random: up to nine parameters of any kind, many with conditions on earlier ones.
pub(crate) fn generated(seed: u64) -> Space {
    let mut rng = proposal_rng(seed, 0);
    let mut parameters: Vec<Parameter> = vec![parameter(
        "p0",
        Domain::float(-1.0, 1.0, false, None).unwrap(),
        "",
    )];
    for i in 1..rng.random_range(2..10usize) {
        let domain = match rng.random_range(0..6) {
            0 => Domain::float(-3.0, 5.0, false, None),
            1 => Domain::float(1e-5, 1.0, true, None),
            2 => Domain::float(0.0, 1.0, false, Some(0.125)),
            3 => Domain::int(-4, 20, false, 3),
            4 => Domain::int(1, 1000, true, 1),
            _ => Ok(names(&["a", "b", "c"])),
        };
        let mut p = parameter(&format!("p{i}"), domain.unwrap(), "");
        if rng.random_bool(0.5) {
            let parent = &parameters[rng.random_range(0..i)];
            // a value the parent can take, so that the condition can hold
            let value = parent.domain.from_unit(rng.random());
            let name = &parent.name;
            p.condition = Condition::parse(&match value.as_f64() {
                Some(v) => format!("{name} >= {v}"),
                None => format!("{name} == '{value}'"),
            })
            .unwrap();
        }
        parameters.push(p);
    }
    Space::new(parameters).unwrap()
}

/// A number that depends on the candidate and the salt alone, even in `[0, 1)`.
pub(crate) fn noise(candidate: &Candidate, salt: u64) -> f64 {
    let hash = u64::from_str_radix(&candidate.hash()[..15], 16).unwrap();
    proposal_rng(hash ^ salt, 0).random()
}

/// An oracle with a fixed opinion about each candidate, that counts what it is asked.
pub(crate) struct Judge<F> {
    pub(crate) opinion: F,
    pub(crate) questions: usize,
    pub(crate) candidates: usize,
}

impl<F: FnMut(&Candidate) -> Known> Judge<F> {
    pub(crate) fn new(opinion: F) -> Self {
        Judge {
            opinion,
            questions: 0,
            candidates: 0,
        }
    }
}

impl<F: FnMut(&Candidate) -> Known> Oracle for Judge<F> {
    fn known(&mut self, candidates: &[Candidate]) -> Vec<Known> {
        self.questions += 1;
        self.candidates += candidates.len();
        candidates.iter().map(&mut self.opinion).collect()
    }
}

/// Values of one known metric.
pub(crate) fn known(metric: &str, value: f64) -> Known {
    Known::Values(BTreeMap::from([(metric.to_owned(), value)]))
}

/// The sum of a candidate's numbers.
pub(crate) fn sum(candidate: &Candidate) -> f64 {
    candidate.values.values().filter_map(Value::as_f64).sum()
}

/// A problem with objectives `loss` and `bytes`.
pub(crate) fn problem(space: Space, limits: Vec<Limit>, seed: u64) -> Problem {
    Problem::new(space, vec![objective("loss"), objective("bytes")], limits, seed).unwrap()
}

/// The spaces without an end to their points.
pub(crate) fn spaces() -> Vec<Space> {
    let mut spaces: Vec<Space> = (0..12).map(generated).collect();
    spaces.extend([mixed(), cube(1), cube(40)]);
    spaces
}

/// Finite spaces with their number of distinct points.
pub(crate) fn tiny_spaces() -> Vec<(Space, usize)> {
    let int = |high| Domain::int(1, high, false, 1).unwrap();
    let chain = vec![
        parameter("a", names(&["x", "y"]), ""),
        parameter("b", int(3), "a == 'y'"),
        parameter("c", Domain::float(0.0, 1.0, false, Some(0.5)).unwrap(), "b >= 2"),
    ];
    let grid = vec![
        parameter("a", int(6), ""),
        parameter("b", Domain::int(1, 5, true, 1).unwrap(), ""),
    ];
    let one = Domain::float(2.0, 2.0, false, None).unwrap();
    vec![
        (Space::new(chain).unwrap(), 1 + 1 + 2 * 3),
        (Space::new(grid).unwrap(), 30),
        (Space::new(vec![parameter("a", one, "")]).unwrap(), 1),
        (Space::default(), 1),
    ]
}

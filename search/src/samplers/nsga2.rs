//! NSGA-II (Deb et al. 2002), steady state: the parents are the best of everything that has finished.
//!
//! Starts with Sobol points.

use rand::RngExt;

use super::{Method, Sampler, sobol::Sobol};
use crate::{Ask, AskError, Proposal, ranking, variation};

pub(super) const METHOD: Method = Method {
    name: "nsga2",
    doc: "evolution of the best trials, for large budgets",
    paper: "Deb, Pratap, Agarwal and Meyarivan, IEEE TEVC 2002",
    build: || Box::new(Nsga2 { population: 32 }),
};

/// Share of the children that have two parents.
const CROSSOVER_RATE: f64 = 0.9;

/// The sampler.
pub(super) struct Nsga2 {
    /// Number of parents, and of the points it starts with.
    pub(super) population: usize,
}

impl Sampler for Nsga2 {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        let parents = ranking::parents(ask.history.trials(), self.population);
        if ask.history.len() < self.population || parents.len() < 2 {
            return Sobol.ask(ask);
        }
        let space = &ask.problem.space;
        let genes: Vec<_> = parents.iter().map(|p| space.encode(&p.trial.candidate)).collect();
        ask.first(|rng| {
            let (a, b) = (
                ranking::tournament(&parents, rng),
                ranking::tournament(&parents, rng),
            );
            let b = if rng.random_bool(CROSSOVER_RATE) { b } else { a };
            let mut child = variation::crossover(space, &genes[a], &genes[b], rng);
            let active = genes[a].iter().flatten().count().max(1);
            variation::mutate(space, &mut child, 1.0 / active as f64, rng);
            child
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use spaces::{Direction, Domain, Objective, Parameter, Space, Value};

    use super::*;
    use crate::{History, NoOracle, Outcome, Problem};

    #[test]
    fn children_reach_values_that_no_parent_has() {
        let parameter = |name: &str, domain| Parameter {
            name: name.into(),
            domain,
            condition: Default::default(),
        };
        let names = Domain::categorical(vec!["a".into(), "b".into(), "c".into()]).unwrap();
        let real = Domain::float(0.0, 1.0, false, None).unwrap();
        let space = Space::new(vec![parameter("name", names), parameter("x", real)]).unwrap();
        let objective = |metric: &str| Objective {
            metric: metric.into(),
            direction: Direction::Minimize,
            known_before_training: false,
        };
        let objectives = vec![objective("loss"), objective("bytes")];
        let problem = Problem::new(space, objectives, vec![], 0).unwrap();
        let mut history = History::default();
        for number in 0..32u32 {
            let x = f64::from(number) / 100.0;
            let candidate = problem.space.decode(&[0.0, x]);
            let metrics = BTreeMap::from([("loss".into(), x), ("bytes".into(), 1.0 - x)]);
            history.push(&problem, number, candidate, Outcome::Measured(metrics));
        }
        let (mut other, mut beyond) = (0, 0);
        for number in 32..132 {
            let mut oracle = NoOracle;
            let proposal =
                Nsga2 { population: 32 }.ask(&mut Ask::new(&problem, &history, &mut oracle, number));
            let candidate = proposal.unwrap().candidate;
            other += u32::from(candidate.get("name") != Some(&"a".into()));
            beyond += u32::from(candidate.get("x").and_then(Value::as_f64).unwrap() > 0.4);
        }
        assert!(other > 20 && beyond > 2, "{other} {beyond}");
    }
}

//! NSGA-II (Deb et al. 2002), steady state: each finished trial joins the population, and whoever is worst then leaves.
//!
//! Worst is who stands last by rank and then by the room around it. Starts with Sobol points.

use rand::RngExt;

use super::{Method, Sampler, sobol::Sobol};
use crate::{
    Ask, AskError, History, Proposal, Trial,
    ranking::{self, Parent},
    variation,
};

pub(super) const METHOD: Method = Method {
    name: "nsga2",
    doc: "evolution of the best trials, for large budgets",
    paper: "Deb, Pratap, Agarwal and Meyarivan, IEEE TEVC 2002",
    build: || Box::new(Nsga2::default()),
};

/// Share of the children that have two parents.
const CROSSOVER_RATE: f64 = 0.9;

/// Number of parents, and of the points it starts with.
const POPULATION: usize = 32;

/// The sampler; it remembers who survived.
#[derive(Default)]
struct Nsga2 {
    survivors: Survivors,
}

impl Sampler for Nsga2 {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        if ask.history.len() < POPULATION {
            return Sobol.ask(ask);
        }
        let parents = self.survivors.parents(ask.history);
        if parents.len() < 2 {
            return Sobol.ask(ask);
        }
        let space = &ask.problem.space;
        ask.first(|rng| {
            let mut parent = || space.encode(&parents[ranking::tournament(&parents, rng)].trial.candidate);
            let (a, b) = (parent(), parent());
            let b = if rng.random_bool(CROSSOVER_RATE) { &b } else { &a };
            let mut child = variation::crossover(space, &a, b, rng);
            let active = a.iter().flatten().count().max(1);
            variation::mutate(space, &mut child, 1.0 / active as f64, rng);
            child
        })
    }
}

/// Who is left of the trials so far.
#[derive(Default)]
struct Survivors {
    /// Best first.
    population: Vec<Survivor>,
    /// Finished trials that have been seen, and what they came to.
    seen: usize,
    digest: u64,
}

/// One that is left, with its standing among them and who left last, as the paper has it.
struct Survivor {
    /// Index into the finished trials.
    index: usize,
    rank: usize,
    crowding: f64,
}

impl Survivors {
    /// The population after all finished trials, best first.
    fn parents<'h>(&mut self, history: &'h History) -> Vec<Parent<'h>> {
        let trials = history.trials();
        if history.digest_of_first(self.seen) != Some(self.digest) {
            *self = Survivors::default();
        }
        while self.seen < trials.len() {
            // the first ones fill the population, then each replaces one
            let next = (self.seen + 1).max(POPULATION).min(trials.len());
            self.take(trials, next);
        }
        self.digest = history.digest_of_first(self.seen).unwrap_or_default();
        let parent = |s: &Survivor| Parent {
            trial: &trials[s.index],
            rank: s.rank,
            crowding: s.crowding,
        };
        self.population.iter().map(parent).collect()
    }

    /// Lets the finished trials up to `next` join.
    fn take(&mut self, trials: &[Trial], next: usize) {
        let survivors = self.population.iter().map(|s| &trials[s.index]);
        let left = ranking::parents(survivors.chain(&trials[self.seen..next]), POPULATION);
        let survivor = |p: &Parent<'_>| Survivor {
            index: trials.element_offset(p.trial).expect("it was taken from them"),
            rank: p.rank,
            crowding: p.crowding,
        };
        self.population = left.iter().map(survivor).collect();
        self.seen = next;
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
            let proposal = Nsga2::default().ask(&mut Ask::new(&problem, &history, &mut oracle, number));
            let candidate = proposal.unwrap().candidate;
            other += u32::from(candidate.get("name") != Some(&"a".into()));
            beyond += u32::from(candidate.get("x").and_then(Value::as_f64).unwrap() > 0.4);
        }
        assert!(other > 20 && beyond > 2, "{other} {beyond}");
    }

    #[test]
    fn who_went_on_who_starts_and_who_saw_other_results_agree() {
        let x = Parameter {
            name: "x".into(),
            domain: Domain::float(0.0, 1.0, false, None).unwrap(),
            condition: Default::default(),
        };
        let objective = |metric: &str| Objective {
            metric: metric.into(),
            direction: Direction::Minimize,
            known_before_training: false,
        };
        let objectives = vec![objective("loss"), objective("bytes")];
        let problem = Problem::new(Space::new(vec![x]).unwrap(), objectives, vec![], 0).unwrap();
        let tell = |history: &mut History, number: u32, sign: f64| {
            let x = f64::from(number * 37 % 100) / 100.0;
            let metrics = BTreeMap::from([("loss".into(), sign * x), ("bytes".into(), (x - 0.5).abs())]);
            let outcome = if number % 7 == 3 {
                Outcome::Failed
            } else {
                Outcome::Measured(metrics)
            };
            history.push(&problem, number, problem.space.decode(&[x]), outcome);
        };
        let mut astray = Nsga2::default();
        let mut other = History::default();
        (0..80).for_each(|number| tell(&mut other, number, -1.0));
        let ask = |sampler: &mut Nsga2, history: &History, number| {
            let mut oracle = NoOracle;
            sampler.ask(&mut Ask::new(&problem, history, &mut oracle, number))
        };
        ask(&mut astray, &other, 80).unwrap();
        let (mut going, mut history) = (Nsga2::default(), History::default());
        for number in 0..90 {
            tell(&mut history, number, 1.0);
            let proposal = ask(&mut going, &history, 200);
            assert_eq!(proposal, ask(&mut Nsga2::default(), &history, 200));
            if number >= 79 {
                assert_eq!(proposal, ask(&mut astray, &history, 200));
            }
        }
        // the losses are told of the same points, so only who survived differs
        assert_ne!(
            ask(&mut going, &history, 200),
            ask(&mut Nsga2::default(), &other, 200)
        );
    }
}

//! Regularised evolution (Real et al. 2019): the oldest leave, however good they are.
//!
//! For many objectives: of the youngest finished trials a few are drawn, the best of them by limits, rank and crowding
//! is mutated in one place. Starts with Sobol points.

use rand::{RngExt, seq::index};

use super::{Method, Sampler, sobol::Sobol};
use crate::{Ask, AskError, Proposal, ranking, variation};

pub(super) const METHOD: Method = Method {
    name: "regularised_evolution",
    doc: "one mutation of the best of a few young trials; robust against lucky results",
    paper: "Real, Aggarwal, Huang and Le, AAAI 2019",
    build: || Box::new(RegularisedEvolution),
};

/// Trials that are alive, and the number of Sobol points at the start.
const POPULATION: usize = 32;
/// Trials of one tournament.
const SAMPLE: usize = 8;
/// Share of the mutations that draw the value anew, as the paper's do; the others stay near, which it has no case of.
const REDRAWN: f64 = 0.5;

/// The sampler; it has no state.
struct RegularisedEvolution;

impl Sampler for RegularisedEvolution {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        let finished = ask.history.trials().iter().rev();
        let alive = finished.filter(|t| t.values.is_some()).take(POPULATION);
        let alive = ranking::parents(alive, POPULATION);
        if ask.history.len() < POPULATION || alive.is_empty() {
            return Sobol.ask(ask);
        }
        let space = &ask.problem.space;
        let genes: Vec<_> = alive.iter().map(|p| space.encode(&p.trial.candidate)).collect();
        ask.first(|rng| {
            // best first, so the least index wins
            let sample = index::sample(rng, alive.len(), SAMPLE.min(alive.len()));
            let winner = &genes[sample.into_iter().min().unwrap_or(0)];
            let mut child: Vec<f64> = winner.iter().map(|g| g.unwrap_or_else(|| rng.random())).collect();
            let active: Vec<usize> = (0..child.len()).filter(|d| winner[*d].is_some()).collect();
            if !active.is_empty() {
                let place = active[rng.random_range(0..active.len())];
                if rng.random_bool(REDRAWN) {
                    child[place] = rng.random();
                } else {
                    variation::mutate_at(space, &mut child, place, rng);
                }
            }
            child
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use spaces::{Direction, Domain, Objective, Parameter, Space};

    use super::*;
    use crate::{History, NoOracle, Outcome, Problem};

    /// A space of six reals and the history of `trials` points at `place`, each with that loss.
    fn study(trials: impl Iterator<Item = (f64, f64)>) -> (Problem, History) {
        let real = |i: i32| Parameter {
            name: format!("x{i}"),
            domain: Domain::float(0.0, 1.0, false, None).unwrap(),
            condition: Default::default(),
        };
        let loss = Objective {
            metric: "loss".into(),
            direction: Direction::Minimize,
            known_before_training: false,
        };
        let space = Space::new((0..6).map(real).collect()).unwrap();
        let problem = Problem::new(space, vec![loss], vec![], 0).unwrap();
        let mut history = History::default();
        for (number, (place, loss)) in trials.enumerate() {
            let metrics = BTreeMap::from([("loss".to_owned(), loss)]);
            let candidate = problem.space.decode(&[place; 6]);
            history.push(&problem, number as u32, candidate, Outcome::Measured(metrics));
        }
        (problem, history)
    }

    fn asked(problem: &Problem, history: &History, number: u32) -> Vec<f64> {
        let proposal = RegularisedEvolution.ask(&mut Ask::new(problem, history, &mut NoOracle, number));
        let candidate = proposal.unwrap().candidate;
        problem.space.encode(&candidate).into_iter().flatten().collect()
    }

    #[test]
    fn a_child_differs_from_a_young_trial_in_one_place() {
        // the best are the oldest: they have no children
        let (problem, history) = study((0..64).map(|i| (f64::from(i) / 64.0, f64::from(i))));
        for number in 64..90 {
            let child = asked(&problem, &history, number);
            let near = |place: f64| child.iter().filter(|x| (**x - place).abs() < 1e-9).count();
            let parent = (0..64).find(|i| near(f64::from(*i) / 64.0) == 5);
            assert!(parent.is_some_and(|i| i >= 32), "{child:?}");
        }
    }

    #[test]
    fn the_best_of_a_sample_wins() {
        let (problem, history) = study((0..32).map(|i| (f64::from(i) / 64.0, f64::from(i))));
        let mut best = 0;
        for number in 32..132 {
            let child = asked(&problem, &history, number);
            best += usize::from(child.iter().filter(|x| **x < 8.5 / 64.0).count() >= 5);
        }
        // that none of eight comes from the best quarter has a chance of one in fourteen
        assert!(best > 80, "{best}");
    }
}

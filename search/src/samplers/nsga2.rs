//! NSGA-II (Deb et al. 2002), steady state: the parents are the best of everything that has finished.
//!
//! Ranked by constraint domination: trials that keep the limits by non-dominated rank and crowding, behind them the
//! others by how far they break them. Trials without a result are no parents. Starts with Sobol points.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Method, Sampler, sobol::Sobol};
use crate::{Ask, AskError, History, Proposal, Trial, front, variation};

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

/// A trial that may have children.
struct Parent<'a> {
    trial: &'a Trial,
    rank: usize,
    crowding: f64,
}

impl Sampler for Nsga2 {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        let parents = parents(ask.history, self.population);
        if ask.history.len() < self.population || parents.len() < 2 {
            return Sobol.ask(ask);
        }
        let space = &ask.problem.space;
        let genes: Vec<_> = parents.iter().map(|p| space.encode(&p.trial.candidate)).collect();
        ask.first(|rng| {
            let (a, b) = (tournament(&parents, rng), tournament(&parents, rng));
            let b = if rng.random_bool(CROSSOVER_RATE) { b } else { a };
            let mut child = variation::crossover(space, &genes[a], &genes[b], rng);
            let active = genes[a].iter().flatten().count().max(1);
            variation::mutate(space, &mut child, 1.0 / active as f64, rng);
            child
        })
    }
}

/// The best `most` trials, best first.
fn parents(history: &History, most: usize) -> Vec<Parent<'_>> {
    let usable = history.trials().iter().filter(|t| t.values.is_some());
    let (feasible, mut broken): (Vec<&Trial>, Vec<&Trial>) = usable.partition(|t| t.violation == 0.0);
    let values: Vec<&[f64]> = feasible.iter().filter_map(|t| t.values.as_deref()).collect();
    let mut parents = Vec::with_capacity(most);
    let mut rank = 0;
    for members in front::sort_best(&values, most) {
        let crowding = front::crowding(&values, &members);
        let mut ranked: Vec<(usize, f64)> = members.into_iter().zip(crowding).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        parents.extend(ranked.into_iter().map(|(i, crowding)| Parent {
            trial: feasible[i],
            rank,
            crowding,
        }));
        rank += 1;
    }
    broken.sort_by(|a, b| a.violation.total_cmp(&b.violation));
    parents.extend(broken.into_iter().zip(rank..).map(|(trial, rank)| Parent {
        trial,
        rank,
        crowding: 0.0,
    }));
    parents.truncate(most);
    parents
}

/// The better of two parents drawn at random: by rank, then by crowding.
fn tournament(parents: &[Parent<'_>], rng: &mut ChaCha8Rng) -> usize {
    let (a, b) = (
        rng.random_range(0..parents.len()),
        rng.random_range(0..parents.len()),
    );
    let better = |p: &Parent<'_>, q: &Parent<'_>| p.rank.cmp(&q.rank).then(q.crowding.total_cmp(&p.crowding));
    if better(&parents[b], &parents[a]).is_lt() {
        b
    } else {
        a
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use spaces::{Direction, Domain, Limit, Objective, Parameter, Space, Value};

    use super::*;
    use crate::{NoOracle, Outcome, Problem, proposal_rng};

    /// A history of trials with loss, bytes and heat, of which heat may be at most 10.
    fn history(rows: &[[f64; 3]]) -> (History, Problem) {
        let objective = |metric: &str| Objective {
            metric: metric.into(),
            direction: Direction::Minimize,
            known_before_training: false,
        };
        let limit = Limit {
            metric: "heat".into(),
            min: None,
            max: Some(10.0),
        };
        let objectives = vec![objective("loss"), objective("bytes")];
        let problem = Problem::new(Space::default(), objectives, vec![limit], 0).unwrap();
        let mut history = History::default();
        for (number, row) in (0..).zip(rows) {
            let metrics = ["loss", "bytes", "heat"].map(String::from).into_iter().zip(*row);
            let metrics: BTreeMap<String, f64> = metrics.collect();
            history.push(&problem, number, Default::default(), Outcome::Measured(metrics));
        }
        (history, problem)
    }

    #[test]
    fn parents_stand_by_limits_then_rank_then_room() {
        let (history, _) = history(&[
            [0.0, 0.0, 15.0],     // best, but too hot
            [0.0, 0.0, 12.0],     // less too hot
            [5.0, 5.0, 5.0],      // second rank
            [1.0, 4.0, 5.0],      // an end of the front
            [2.0, 2.9, 5.0],      // between near neighbours
            [2.1, 2.8, 5.0],      // with more room on one side
            [4.0, 1.0, 5.0],      // the other end
            [f64::NAN, 0.0, 5.0], // no result
        ]);
        let parents = parents(&history, 10);
        let order: Vec<u32> = parents.iter().map(|p| p.trial.number).collect();
        assert_eq!(order, [3, 6, 5, 4, 2, 1, 0]);
        let ranks: Vec<usize> = parents.iter().map(|p| p.rank).collect();
        assert_eq!(ranks, [0, 0, 0, 0, 1, 2, 3]);
        assert_eq!(super::parents(&history, 3).len(), 3);
    }

    #[test]
    fn the_better_of_two_wins() {
        let (history, _) = history(&[[1.0, 4.0, 5.0], [2.0, 2.0, 5.0], [4.0, 1.0, 5.0], [5.0, 5.0, 5.0]]);
        let parents = parents(&history, 4);
        let (mut rng, mut wins) = (proposal_rng(0, 0), [0; 4]);
        for _ in 0..4000 {
            wins[tournament(&parents, &mut rng)] += 1;
        }
        // the last wins only against itself, the third only against itself and the last
        assert!(
            (200..300).contains(&wins[3]) && (680..820).contains(&wins[2]),
            "{wins:?}"
        );
    }

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
        let objectives = history(&[]).1.objectives;
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

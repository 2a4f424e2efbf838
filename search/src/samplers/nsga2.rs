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

//! NSGA-III (Deb and Jain 2014), steady state: the parents are picked from everything that has finished.
//!
//! Whole ranks by constraint domination, and of the rank that does not fit those near reference directions that few
//! others stand by. Starts with Sobol points.

mod directions;
mod niching;

use rand::RngExt;

use self::{directions::directions, niching::pick};
use super::{Method, Sampler, sobol::Sobol};
use crate::{Ask, AskError, Proposal, Trial, ranking, variation};

pub(super) const METHOD: Method = Method {
    name: "nsga3",
    doc: "evolution along reference directions, for four or more objectives and large budgets",
    paper: "Deb and Jain, IEEE TEVC 2014",
    build: || Box::new(Nsga3),
};

/// Fewest parents.
const POPULATION: usize = 16;
/// Share of the children that have two parents.
const CROSSOVER_RATE: f64 = 0.9;

/// The sampler; it has no state.
struct Nsga3;

impl Sampler for Nsga3 {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        let directions = directions(ask.problem.objectives.len(), POPULATION);
        let population = directions.len().max(POPULATION);
        let mut parents: Vec<&Trial> = Vec::with_capacity(population);
        for rank in ranking::ranks(ask.history.trials(), population) {
            let room = population - parents.len();
            if rank.len() <= room {
                parents.extend(rank);
            } else {
                let (before, candidates) = (ranking::values(&parents), ranking::values(&rank));
                let picked = pick(&before, &candidates, room, &directions, &mut ask.rng);
                parents.extend(picked.into_iter().map(|i| rank[i]));
            }
        }
        if ask.history.len() < population || parents.len() < 2 {
            return Sobol.ask(ask);
        }
        let space = &ask.problem.space;
        let genes: Vec<_> = parents.iter().map(|t| space.encode(&t.candidate)).collect();
        ask.first(|rng| {
            // the niches have chosen: parents are equal but for the limits that they break
            let mut parent = || {
                let (a, b) = (rng.random_range(0..genes.len()), rng.random_range(0..genes.len()));
                if parents[b].violation < parents[a].violation {
                    b
                } else {
                    a
                }
            };
            let (a, b) = (parent(), parent());
            let b = if rng.random_bool(CROSSOVER_RATE) { b } else { a };
            let mut child = variation::crossover(space, &genes[a], &genes[b], rng);
            let active = genes[a].iter().flatten().count().max(1);
            variation::mutate(space, &mut child, 1.0 / active as f64, rng);
            child
        })
    }
}

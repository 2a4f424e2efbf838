//! Uniform draws from the unit cube (Bergstra and Bengio 2012): the yardstick for every other method.

use super::{Method, Sampler};
use crate::{Ask, AskError, Proposal, ask::uniform};

pub(super) const METHOD: Method = Method {
    name: "random",
    doc: "uniform random configurations, the yardstick for the others",
    paper: "Bergstra and Bengio, JMLR 2012",
    build: || Box::new(Random),
};

struct Random;

impl Sampler for Random {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        let dimensions = ask.problem.space.len();
        ask.first(|rng| uniform(dimensions, rng))
    }
}

//! The default: chooses by the budget that is left to it.
//!
//! The present rule: Sobol points for the first 8 to 16 trials (twice the number of parameters), then NSGA-II with a
//! population small enough to turn over within the few dozen trials of a usual study.

use super::{Method, Sampler, nsga2::Nsga2, sobol::Sobol};
use crate::{Ask, AskError, Proposal};

pub(super) const METHOD: Method = Method {
    name: "auto",
    doc: "even spread first, then evolution of the best; right for most studies",
    paper: "Joe and Kuo 2008; Deb et al. 2002",
    build: || Box::new(Auto),
};

struct Auto;

impl Sampler for Auto {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        let start = (2 * ask.problem.space.len()).clamp(8, 16);
        if ask.history.len() < start {
            Sobol.ask(ask)
        } else {
            Nsga2 { population: start }.ask(ask)
        }
    }
}

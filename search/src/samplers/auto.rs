//! The default: spreads first, then evolves.
//!
//! The present rule: Sobol points for the first 8 to 16 trials (twice the number of parameters), then NSGA-II with a
//! population of 8, or 16 from three objectives on: few enough to turn over within the few dozen trials of a usual
//! study, and enough to cover its front. Both were chosen on ZDT1, DTLZ2, Kursawe's problem and a conditional
//! language-model space at 50 to 200 trials.

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
        if ask.history.len() < (2 * ask.problem.space.len()).clamp(8, 16) {
            return Sobol.ask(ask);
        }
        let population = if ask.problem.objectives.len() < 3 { 8 } else { 16 };
        Nsga2 { population }.ask(ask)
    }
}

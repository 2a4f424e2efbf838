//! The default: chooses by what is searched and by how much has been tried.
//!
//! The present rule. Up to 400 trials each proposal is the Gaussian processes': after a hundred they are ahead of the
//! other methods here on nearly all problems of `benchmark`, smooth or mixed and conditional. More trials than that mean
//! that they are cheap enough for the thought to count; then two of three proposals come from TPE, whose cost hardly grows, and one from
//! the processes, which look at the best, the latest and some of all trials. Above 2,000 it is one in ten. Spaces with
//! more than 60 parameters have too few results for processes to tell them apart and get TPE from the start.

use super::{Method, Sampler, gp::Gp, tpe::Tpe};
use crate::{Ask, AskError, Proposal};

pub(super) const METHOD: Method = Method {
    name: "auto",
    doc: "models what has been tried, by Gaussian processes and density estimates; right for most studies",
    paper: "Daulton, Balandat and Bakshy, NeurIPS 2021; Watanabe 2023",
    build: || Box::new(Auto::default()),
};

/// Trials up to which every proposal is the processes'.
const FEW: usize = 400;
/// Trials from which few are.
const MANY: usize = 2_000;
/// Most parameters that the processes can tell apart.
const WIDE: usize = 60;

#[derive(Default)]
struct Auto {
    gp: Gp,
}

impl Sampler for Auto {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        let every = match ask.history.len() {
            n if n <= FEW => 1,
            n if n <= MANY => 3,
            _ => 10,
        };
        if ask.problem.space.len() <= WIDE && ask.number.is_multiple_of(every) {
            self.gp.ask(ask)
        } else {
            Tpe.ask(ask)
        }
    }
}

//! The search methods. A new one is a file here and a line in [`REGISTRY`].

mod auto;
mod gp;
mod nsga2;
mod nsga3;
mod parego;
mod random;
mod regularised_evolution;
mod sobol;
mod tpe;

use spaces::MethodInfo;

use crate::{Ask, AskError, Proposal};

/// Chooses what to try next.
///
/// A sampler may keep what it has computed, but its answer is a function of the request alone: the same problem,
/// history and trial number give the same proposal bit for bit, in any process. [`Ask::first`] and [`Ask::screen`]
/// see to it that a proposal is new, can be built and keeps the limits that are known beforehand.
pub trait Sampler {
    /// The proposal for one trial.
    ///
    /// # Errors
    /// [`AskError`] when there is nothing left to propose, with what to change.
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError>;
}

/// A search method, as its file describes it.
pub struct Method {
    /// The value of `search.method`.
    pub name: &'static str,
    /// One line for people.
    pub doc: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    build: fn() -> Box<dyn Sampler + Send>,
}

impl Method {
    /// A sampler of this method.
    pub fn sampler(&self) -> Box<dyn Sampler + Send> {
        (self.build)()
    }
}

/// Every search method; the first is the default.
pub const REGISTRY: &[Method] = &[
    auto::METHOD,
    gp::METHOD,
    tpe::METHOD,
    parego::METHOD,
    nsga2::METHOD,
    nsga3::METHOD,
    regularised_evolution::METHOD,
    sobol::METHOD,
    random::METHOD,
];

/// The search methods for the catalogue.
pub fn methods() -> Vec<MethodInfo> {
    let info = |method: &Method| MethodInfo {
        name: method.name.to_owned(),
        doc: method.doc.to_owned(),
        paper: method.paper.to_owned(),
        needs: None,
    };
    REGISTRY.iter().map(info).collect()
}

/// A sampler of the method of that name.
pub fn sampler(name: &str) -> Option<Box<dyn Sampler + Send>> {
    REGISTRY.iter().find(|m| m.name == name).map(Method::sampler)
}

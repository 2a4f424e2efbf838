//! Which configuration to try next, and what has been reached: pure and seeded.

mod ask;
pub mod front;
mod grid;
mod history;
mod hypervolume;
mod indicators;
mod knee;
mod oracle;
mod problem;
mod recommend;
mod refused;
mod samplers;
mod text;
mod variation;

pub use self::{
    ask::{Ask, AskError, Proposal, Verdict, proposal_rng},
    front::{Front, dominates},
    history::{History, Outcome, Pending, Trial},
    hypervolume::{REFERENCE_TRIALS, contributions, hypervolume, reference_point},
    indicators::{additive_epsilon, igd, igd_plus},
    knee::{Knee, knee},
    oracle::{Known, NoOracle, Oracle},
    problem::{Problem, ProblemError},
    recommend::{GivenUp, NoRecommendation, Point, Recommendation, Relax, Rule, RuleError, recommend},
    samplers::{Method, REGISTRY, Sampler, methods, sampler},
};

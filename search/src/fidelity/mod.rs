//! How far to train: rules that train many configurations a little and the promising ones further.
//!
//! A trial is trained to a first part of its full length, measured, and rests; a [`Rule`] then promotes it to the next
//! part, stops it, or has a new configuration begun. Each rule is a file here and a line in [`REGISTRY`]. Decisions are
//! functions of the [`Standing`] alone: no rule remembers anything, and no rule draws chance.

mod asha;
mod brackets;
mod forecast;
mod hyperband;
mod learning_curve;
mod median;
mod mo_asha;
mod ranking;
mod standing;
mod successive_halving;

use spaces::MethodInfo;

pub use self::{
    forecast::Forecast,
    standing::{Entrant, Ladder, Standing, State},
};
use crate::{History, Problem};

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Train a resting trial on, up to the step of that index.
    Promote {
        /// The trial's number.
        number: u32,
        /// Index of the step.
        rung: usize,
    },
    /// End a resting trial.
    Stop(u32),
    /// Begin a new configuration, and train it up to the step of that index first.
    Start {
        /// Index of the step.
        rung: usize,
    },
    /// Nothing until a running trial reports; if none runs, nothing more.
    Wait,
}

/// Decides how far trials are trained.
pub trait Rule: Sync {
    /// The next thing to do. [`Decision::Start`] only where the standing has room.
    fn decide(&self, standing: &Standing<'_>) -> Decision;

    /// Least and most training for each configuration that begins, in trainings of full length, once all is decided.
    ///
    /// Of rules that promote one in eta: that share from each step.
    fn share(&self, ladder: &Ladder) -> (f64, f64) {
        let (mut training, mut share) = (0.0, 1.0);
        for rung in 0..ladder.steps.len() {
            training += share * ladder.cost(rung);
            share /= f64::from(ladder.eta);
        }
        (training, training)
    }

    /// The metric whose curve it looks at as well, where it does: it must be an objective.
    fn curve(&self) -> Option<&'static str> {
        None
    }
}

/// A rule, as its file describes it.
pub struct RuleInfo {
    /// The value of `search.fidelity.rule`.
    pub name: &'static str,
    /// One line for people.
    pub doc: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    /// The rule.
    pub rule: &'static dyn Rule,
}

/// Every rule; the first is the default.
pub const REGISTRY: &[RuleInfo] = &[
    mo_asha::RULE,
    asha::RULE,
    successive_halving::RULE,
    hyperband::RULE,
    median::RULE,
    learning_curve::RULE,
];

/// The rules for the catalogue.
pub fn rules() -> Vec<MethodInfo> {
    let info = |rule: &RuleInfo| MethodInfo {
        name: rule.name.to_owned(),
        doc: rule.doc.to_owned(),
        paper: rule.paper.to_owned(),
        needs: rule.rule.curve().map(str::to_owned),
    };
    REGISTRY.iter().map(info).collect()
}

/// The rule of that name.
pub fn rule(name: &str) -> Option<&'static dyn Rule> {
    REGISTRY.iter().find(|r| r.name == name).map(|r| r.rule)
}

/// What may still be spent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// Whether a new configuration may begin.
    pub room: bool,
    /// Training that the study may spend altogether, in trainings of full length.
    pub full_trials: f64,
}

/// The next thing to do in a study, within what it may spend.
///
/// What could no longer be trained in full is neither begun nor trained on; what then is left goes to the best resting
/// trials. Where a rule is done and no trial was trained in full, the best resting one is trained on: a study of few
/// trials still ends with a result.
pub fn next(
    rule: &dyn Rule,
    ladder: &Ladder,
    problem: &Problem,
    history: &History,
    allowance: Allowance,
) -> Decision {
    let standing = Standing::new(problem, history, ladder, allowance.room);
    // a hair more than the exact sum, which rounding may miss
    let left = allowance.full_trials - standing.committed() + 1e-9;
    let affordable = |decision: &Decision| match *decision {
        Decision::Start { .. } => 1.0 <= left,
        Decision::Promote { rung, .. } => ladder.rest(rung - 1) <= left,
        Decision::Stop(_) | Decision::Wait => true,
    };
    let decision = rule.decide(&standing);
    if !affordable(&decision) {
        return standing.best_resting(left);
    }
    match decision {
        Decision::Wait if !standing.room => standing.last_resort(left),
        decision => decision,
    }
}

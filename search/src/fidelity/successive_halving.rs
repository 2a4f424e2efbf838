//! Successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943), bracket after bracket.
//!
//! With `k` steps a bracket has `eta^(k-1)` configurations, of which one in `eta` goes on at each step and one is
//! trained in full. Ranks by all objectives.

use super::{
    Decision, Rule, RuleInfo, Standing,
    brackets::{self, Bracket},
};

pub(super) const RULE: RuleInfo = RuleInfo {
    name: "successive_halving",
    doc: "brackets of which one in eta goes on once all have reported",
    paper: "arXiv:1502.07943",
    rule: &SuccessiveHalving,
};

pub(super) struct SuccessiveHalving;

impl Rule for SuccessiveHalving {
    fn decide(&self, standing: &Standing<'_>) -> Decision {
        let ladder = standing.ladder;
        let configurations = (ladder.eta as usize).saturating_pow(ladder.top() as u32);
        brackets::decide(standing, |_| Bracket {
            first: 0,
            configurations,
        })
    }
}

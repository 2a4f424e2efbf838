//! Multi-objective ASHA (Schmucker et al. 2021, arXiv:2106.12639): ASHA that ranks by non-domination, then epsilon-net.

use super::{Decision, Rule, RuleInfo, Standing, asha};

pub(super) const RULE: RuleInfo = RuleInfo {
    name: "mo_asha",
    doc: "asynchronous successive halving by all objectives; right for most studies",
    paper: "arXiv:2106.12639",
    rule: &MoAsha,
};

struct MoAsha;

impl Rule for MoAsha {
    fn decide(&self, standing: &Standing<'_>) -> Decision {
        asha::promote(standing, |rung| rung)
    }
}

//! Hyperband (Li et al. 2018, arXiv:1603.06560): brackets of successive halving from bold to careful, in turn.
//!
//! With `s_max + 1` steps, bracket `s` begins `floor((s_max + 1) / (s + 1)) * eta^s` configurations at the step that
//! leaves `s` promotions to the full training: the sizes of the paper's table. Ranks by all objectives.

use super::{
    Decision, Ladder, Rule, RuleInfo, Standing,
    brackets::{self, Bracket},
    successive_halving::SuccessiveHalving,
};

pub(super) const RULE: RuleInfo = RuleInfo {
    name: "hyperband",
    doc: "brackets of successive halving that begin at every step in turn",
    paper: "arXiv:1603.06560",
    rule: &Hyperband,
};

struct Hyperband;

impl Rule for Hyperband {
    fn decide(&self, standing: &Standing<'_>) -> Decision {
        brackets::decide(standing, |index| bracket(standing.ladder, index))
    }

    fn share(&self, ladder: &Ladder) -> (f64, f64) {
        let (halving, _) = SuccessiveHalving.share(ladder);
        // the bracket that trains everything in full is one of as many as there are steps
        (halving, halving * ladder.steps.len() as f64)
    }
}

fn bracket(ladder: &Ladder, index: usize) -> Bracket {
    let brackets = ladder.steps.len();
    let s = ladder.top() - index % brackets;
    Bracket {
        first: ladder.top() - s,
        configurations: (brackets / (s + 1)) * (ladder.eta as usize).saturating_pow(s as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brackets_are_those_of_the_papers_table() {
        // R = 81, eta = 3
        let ladder = Ladder {
            steps: [1.0, 3.0, 9.0, 27.0, 81.0].map(|r| r / 81.0).to_vec(),
            eta: 3,
        };
        let table: Vec<(usize, usize)> = (0..6)
            .map(|i| bracket(&ladder, i))
            .map(|b| (b.configurations, b.first))
            .collect();
        assert_eq!(table, [(81, 0), (27, 1), (9, 2), (6, 3), (5, 4), (81, 0)]);
    }
}

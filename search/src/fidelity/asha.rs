//! ASHA (Li et al. 2020, arXiv:1810.05934): promotes without waiting for a rung to fill.
//!
//! Of `n` results at a step, `floor(n / eta)` are promoted, never more: a result that turns out better than one promoted
//! before takes the next place. The highest steps are looked at first. Ranks by the first objective.

use std::borrow::Borrow;

use super::{Decision, Rule, RuleInfo, Standing, ranking};
use crate::Rung;

pub(super) const RULE: RuleInfo = RuleInfo {
    name: "asha",
    doc: "asynchronous successive halving by the first objective",
    paper: "arXiv:1810.05934",
    rule: &Asha,
};

struct Asha;

impl Rule for Asha {
    fn decide(&self, standing: &Standing<'_>) -> Decision {
        promote(standing, |rung| Rung {
            values: rung.values[..1].to_vec(),
            limited: Vec::new(),
            curve: Vec::new(),
            ..*rung
        })
    }
}

/// A promotion where a place is free, else a start; `seen` is what is judged of each result.
pub(super) fn promote<'r, R>(standing: &'r Standing<'_>, seen: impl Fn(&'r Rung) -> R) -> Decision
where
    R: Borrow<Rung> + 'r,
{
    for rung in (0..standing.ladder.top()).rev() {
        let (entrants, results): (Vec<_>, Vec<_>) = standing.results(rung).unzip();
        let places = results.len() / standing.ladder.eta as usize;
        let promoted = entrants.iter().filter(|e| e.is_promoted_from(rung)).count();
        if promoted >= places {
            continue;
        }
        let judged: Vec<R> = results.into_iter().map(&seen).collect();
        let is_free = |i: usize| entrants[i].rests_at(rung);
        if let Some(best) = ranking::best_where(&judged, is_free) {
            return Decision::Promote {
                number: entrants[best].number,
                rung: rung + 1,
            };
        }
    }
    standing.start_or_wait(0)
}

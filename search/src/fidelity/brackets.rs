//! Synchronous halving in brackets: a step is judged when all of its trials have reported.
//!
//! Trials belong to brackets in the order of their numbers. While one bracket waits for its last results, the next one
//! begins, so that no worker idles.

use super::{Decision, Entrant, Standing, State, ranking};

/// A bracket's first step and number of configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bracket {
    pub(super) first: usize,
    pub(super) configurations: usize,
}

/// The next promotion of any bracket, or else a start in the bracket that is not yet full.
pub(super) fn decide(standing: &Standing<'_>, shape: impl Fn(usize) -> Bracket) -> Decision {
    let mut rest = &standing.entrants[..];
    for index in 0.. {
        let bracket = shape(index);
        let members = &rest[..bracket.configurations.min(rest.len())];
        let is_full = members.len() == bracket.configurations;
        if (is_full || !standing.room)
            && let Some(promotion) = promotion(standing, members, bracket.first)
        {
            return promotion;
        }
        if !is_full {
            return standing.start_or_wait(bracket.first);
        }
        rest = &rest[bracket.configurations..];
    }
    Decision::Wait
}

/// The next promotion within a bracket whose configurations have all begun.
fn promotion(standing: &Standing<'_>, members: &[Entrant<'_>], first: usize) -> Option<Decision> {
    let ladder = standing.ladder;
    for rung in first..ladder.top() {
        let on_the_way = |e: &Entrant<'_>| e.state == State::Running && e.reached.is_none_or(|r| r < rung);
        if members.iter().any(on_the_way) {
            return None;
        }
        let (entrants, results): (Vec<_>, Vec<_>) = members
            .iter()
            .filter_map(|e| Some((e, e.at(ladder.steps[rung])?)))
            .unzip();
        let places = results.len() / ladder.eta as usize;
        let chosen = ranking::best(&results, places);
        if let Some(next) = chosen
            .into_iter()
            .map(|i| entrants[i])
            .find(|e| e.state == State::Resting && e.reached == Some(rung))
        {
            return Some(Decision::Promote {
                number: next.number,
                rung: rung + 1,
            });
        }
    }
    None
}

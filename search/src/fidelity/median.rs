//! Median stopping (Golovin et al. 2017): stops what is worse than half of the others at the same step.
//!
//! A trial's best value so far is compared with the median of the others' running averages up to the same step. With
//! several objectives it is stopped where it is strictly worse in each of them; limits do not count.

use super::{Decision, Entrant, Ladder, Rule, RuleInfo, Standing};

pub(super) const RULE: RuleInfo = RuleInfo {
    name: "median",
    doc: "stops what is worse than the median in every objective at the same step",
    paper: "Golovin et al., KDD 2017",
    rule: &Median,
};

/// Others that must have reported at a step before any is stopped there.
const LEAST_OTHERS: usize = 4;

struct Median;

impl Rule for Median {
    fn decide(&self, standing: &Standing<'_>) -> Decision {
        standing.stop_or_promote(|entrant, rung| is_behind(standing, entrant, rung))
    }

    fn share(&self, ladder: &Ladder) -> (f64, f64) {
        ladder.first_or_all()
    }
}

fn is_behind(standing: &Standing<'_>, entrant: &Entrant<'_>, rung: usize) -> bool {
    let others: Vec<&Entrant<'_>> = standing
        .results(rung)
        .map(|(other, _)| other)
        .filter(|other| other.number != entrant.number)
        .collect();
    if others.len() < LEAST_OTHERS {
        return false;
    }
    let up_to = standing.ladder.steps[rung];
    (0..standing.problem.objectives.len()).all(|objective| {
        let so_far = |e: &Entrant<'_>| -> Vec<f64> {
            let rungs = e.rungs.iter().filter(|r| r.fidelity <= up_to);
            rungs.map(|r| r.values[objective]).collect()
        };
        let mut averages: Vec<f64> = others
            .iter()
            .map(|other| so_far(other))
            .map(|values| values.iter().sum::<f64>() / values.len() as f64)
            .collect();
        let best = so_far(entrant).into_iter().fold(f64::INFINITY, f64::min);
        best > median(&mut averages)
    })
}

/// The middle value, or the mean of the two in the middle; there is at least one.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        0.5 * (values[middle - 1] + values[middle])
    } else {
        values[middle]
    }
}

//! Learning-curve extrapolation: stops a trial that is unlikely to enter the front.
//!
//! The validation loss is extrapolated to the full training with its uncertainty (after Domhan et al. 2015 and Adriaensen
//! et al. 2023); the other objectives are taken as they are at the step. A trial goes on unless the probability that its
//! final point is dominated by no fully trained one is below 5 %.

use super::{Decision, Entrant, Forecast, Ladder, Rule, RuleInfo, Standing};

pub(super) const RULE: RuleInfo = RuleInfo {
    name: "learning_curve",
    doc: "extrapolates the validation loss, stops what is unlikely to enter the front",
    paper: "Domhan et al., IJCAI 2015; arXiv:2310.20447",
    rule: &LearningCurve,
};

/// A trial less likely than this to enter the front is stopped.
const LEAST_PROBABILITY: f64 = 0.05;
/// The objective that is extrapolated.
const METRIC: &str = "validation_loss";

struct LearningCurve;

impl Rule for LearningCurve {
    fn decide(&self, standing: &Standing<'_>) -> Decision {
        standing.stop_or_promote(|entrant, _| probability_of_front(standing, entrant) < LEAST_PROBABILITY)
    }

    fn share(&self, ladder: &Ladder) -> (f64, f64) {
        ladder.first_or_all()
    }

    fn curve(&self) -> Option<&'static str> {
        Some(METRIC)
    }
}

/// Probability that a trial's final point is dominated by no trial that is fully trained now.
fn probability_of_front(standing: &Standing<'_>, entrant: &Entrant<'_>) -> f64 {
    let objectives = &standing.problem.objectives;
    let (Some(loss), Some(rung)) = (
        objectives.iter().position(|o| o.metric == METRIC),
        entrant.rungs.last(),
    ) else {
        return 1.0;
    };
    let others = (0..objectives.len()).filter(|i| *i != loss);
    // the loss to get below: the least of those that are no worse in everything else
    let to_beat = standing
        .entrants
        .iter()
        .filter_map(|e| e.full)
        .filter(|(values, violation)| {
            *violation == 0.0 && others.clone().all(|i| values[i] <= rung.values[i])
        })
        .map(|(values, _)| values[loss])
        .fold(f64::INFINITY, f64::min);
    if to_beat == f64::INFINITY {
        return 1.0;
    }
    let Some(forecast) = Forecast::new(&rung.curve, 1.0) else {
        return 1.0;
    };
    // the curve is that of the model in training; compression moves the result off it
    let moved = rung.values[loss] - rung.curve.last().map_or(rung.values[loss], |(_, y)| *y);
    forecast.probability_below(to_beat - moved)
}

//! `ParEGO` (Knowles 2006) on a random forest (Hutter et al. 2011).
//!
//! Each proposal weighs the objectives anew, at random, and seeks the greatest expected improvement of the weighted
//! result in its logarithm, times the probability that the trial succeeds and keeps the limits that are measured.
//! Objectives that are known beforehand are not modelled but taken as they are.

mod scalar;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use self::scalar::Scalar;
use super::{Method, Sampler, sobol::Sobol};
use crate::{
    Ask, AskError, Proposal, Trial, Verdict,
    ask::uniform,
    forest::{Forest, Kind},
    front,
    normal::expected_improvement,
    ranking, variation,
};

pub(super) const METHOD: Method = Method {
    name: "parego",
    doc: "a random forest predicts randomly weighted objectives, for mixed spaces and objectives known beforehand",
    paper: "Knowles, IEEE TEVC 2006; Hutter, Hoos and Leyton-Brown, LION 2011",
    build: || Box::new(ParEgo),
};

/// Trials before the forest is asked.
const START: usize = 10;
/// Trees of a forest.
const TREES: usize = 16;
/// Most trials that a forest learns from, a third of them the best, a third the youngest.
const ROWS: usize = 300;
/// Uniform candidates of one proposal.
const UNIFORM: usize = 128;
/// The best trials whose neighbours are candidates, and how many of each.
const NEIGHBOURS: (usize, usize) = (10, 32);

type Row = Vec<Option<f64>>;

/// The sampler; it has no state.
struct ParEgo;

impl Sampler for ParEgo {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        let (problem, history) = (ask.problem, ask.history);
        let space = &problem.space;
        if history.len() < START || history.values().next().is_none() {
            return Sobol.ask(ask);
        }
        let trials = learnt_from(history.trials());
        let rows: Vec<Row> = trials.iter().map(|t| space.encode(&t.candidate)).collect();
        let pending: Vec<Row> = history
            .pending()
            .iter()
            .map(|p| space.encode(&p.proposal.candidate))
            .collect();
        let kinds: Vec<Kind> = space.parameters().iter().map(|p| kind(&p.domain)).collect();
        let values: Vec<&[f64]> = trials.iter().filter_map(|t| t.values.as_deref()).collect();
        // one bad result must not squeeze the front into a corner of the scale
        let values: Vec<&[f64]> = front::front(&values).into_iter().map(|i| values[i]).collect();
        let scalar = Scalar::draw(&problem.objectives, &values, &mut ask.rng);

        let success: Vec<f64> = trials.iter().map(|t| f64::from(u8::from(succeeded(t)))).collect();
        let success = success
            .contains(&0.0)
            .then(|| Forest::fit(&kinds, &rows, &success, TREES, &mut ask.rng));
        let mut measured: Vec<(Row, f64, f64)> = Vec::new();
        let mut best = f64::INFINITY;
        for (trial, row) in trials.iter().zip(rows) {
            let Some(values) = &trial.values else { continue };
            let (modelled, known) = scalar.parts(values);
            if succeeded(trial) {
                best = best.min(modelled.max(known));
            }
            measured.push((row, modelled, modelled.max(known)));
        }
        let forest = fit(&kinds, &measured, pending, &mut ask.rng);

        measured.sort_by(|a, b| a.2.total_cmp(&b.2));
        let parents: Vec<&Row> = measured.iter().take(NEIGHBOURS.0).map(|(row, ..)| row).collect();
        let mut points: Vec<Vec<f64>> = (0..UNIFORM).map(|_| uniform(space.len(), &mut ask.rng)).collect();
        for row in &parents {
            let active = row.iter().flatten().count().max(1);
            for i in 0..NEIGHBOURS.1 {
                // by turns with one parent and with two
                let mate = if i % 2 == 0 {
                    parents[ask.rng.random_range(0..parents.len())]
                } else {
                    row
                };
                let mut unit = variation::crossover(space, row, mate, &mut ask.rng);
                let rate = (i % 4) as f64 / active as f64;
                variation::mutate(space, &mut unit, rate, &mut ask.rng);
                points.push(unit);
            }
        }
        let candidates = points.iter().map(|unit| space.decode(unit)).collect();
        let mut chosen: Option<(f64, f64, Proposal)> = None;
        for verdict in ask.screen(candidates)? {
            let Verdict::Admissible(proposal) = verdict else {
                continue;
            };
            let row = space.encode(&proposal.candidate);
            let known = scalar.known(&proposal.known);
            let (mean, variance) = forest.predict(&row);
            let met = success.as_ref().map_or(1.0, |f| f.predict(&row).0.max(1e-3));
            // what is known is a floor that no luck of the modelled part goes below
            let gain = if best.is_infinite() {
                1.0
            } else if known < best {
                expected_improvement(best, mean, variance) - expected_improvement(known, mean, variance)
            } else {
                0.0
            };
            let (score, least) = (gain.max(0.0) * met, mean.max(known));
            let better = |(most, lowest, _): &(f64, f64, Proposal)| {
                score.total_cmp(most).then(lowest.total_cmp(&least)).is_gt()
            };
            if chosen.as_ref().is_none_or(better) {
                chosen = Some((score, least, proposal));
            }
        }
        match chosen {
            Some((.., proposal)) => Ok(proposal),
            None => ask.first(|rng| uniform(space.len(), rng)),
        }
    }
}

/// The forest of the modelled part; pending points enter with what it predicts of them.
fn fit(kinds: &[Kind], measured: &[(Row, f64, f64)], pending: Vec<Row>, rng: &mut ChaCha8Rng) -> Forest {
    let mut rows: Vec<Row> = measured.iter().map(|m| m.0.clone()).collect();
    let mut targets: Vec<f64> = measured.iter().map(|m| m.1).collect();
    let forest = Forest::fit(kinds, &rows, &targets, TREES, rng);
    if pending.is_empty() {
        return forest;
    }
    targets.extend(pending.iter().map(|row| forest.predict(row).0));
    rows.extend(pending);
    Forest::fit(kinds, &rows, &targets, TREES, rng)
}

fn succeeded(trial: &Trial) -> bool {
    trial.values.is_some() && trial.violation == 0.0
}

fn kind(domain: &spaces::Domain) -> Kind {
    match domain.cardinality() {
        Some(n) if !domain.is_ordered() => Kind::Names(n as usize),
        _ => Kind::Ordered,
    }
}

/// All trials of a short study; of a long one the best, the youngest and an even share of the others.
fn learnt_from(trials: &[Trial]) -> Vec<&Trial> {
    if trials.len() <= ROWS {
        return trials.iter().collect();
    }
    let young = trials.len() - ROWS / 3;
    let best = ranking::parents(&trials[..young], ROWS / 3);
    let mut numbers: Vec<u32> = best.iter().map(|p| p.trial.number).collect();
    numbers.sort_unstable();
    let stride = young.div_ceil(ROWS / 3);
    let taken = |(i, t): &(usize, &Trial)| {
        *i >= young || i.is_multiple_of(stride) || numbers.binary_search(&t.number).is_ok()
    };
    trials.iter().enumerate().filter(taken).map(|(_, t)| t).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;

    #[test]
    fn a_long_study_is_learnt_from_its_best_youngest_and_some_others() {
        let trial = |number: u32| Trial {
            number,
            candidate: Default::default(),
            outcome: Outcome::Failed,
            values: Some(vec![f64::from(number.abs_diff(1234))]),
            violation: 0.0,
            rungs: vec![],
            seconds: None,
        };
        let trials: Vec<Trial> = (0..5000).map(trial).collect();
        let some = learnt_from(&trials);
        assert!((250..=ROWS).contains(&some.len()), "{}", some.len());
        for number in [0, 1234, 4999] {
            assert!(some.iter().any(|t| t.number == number), "{number}");
        }
        assert_eq!(learnt_from(&trials[..300]).len(), 300);
    }
}

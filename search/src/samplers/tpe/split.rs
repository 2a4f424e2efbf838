//! Which trials are good and which are bad.

use std::collections::HashSet;

use crate::{Trial, contributions, front, hypervolume, ranking};

/// Of a rank that does not fit whole, so many are looked at: those with the most room.
const LOOKED_AT: usize = 64;
/// About so many bad trials are looked at, half of them the youngest, half spread over the others.
const BAD: usize = 400;
/// Least weight of a good trial, where the largest is 1.
const LEAST_WEIGHT: f64 = 0.1;

/// The trials in two groups.
pub(super) struct Split<'a> {
    /// The good ones.
    pub(super) good: Vec<&'a Trial>,
    /// Their weights: the more volume a trial alone dominates, the more.
    pub(super) weights: Vec<f64>,
    /// Others, those without a result among them: what failed teaches what to avoid.
    pub(super) bad: Vec<&'a Trial>,
}

/// The best `enough` trials by limits, rank and volume, and the others.
pub(super) fn split(trials: &[Trial], enough: usize) -> Split<'_> {
    let ranks = ranking::ranks(trials, enough);
    let reference = reference(&ranking::values(&ranks.concat()));
    let mut good: Vec<&Trial> = Vec::with_capacity(enough);
    for rank in ranks {
        let room = enough - good.len();
        if rank.len() <= room {
            good.extend(rank);
        } else {
            let chosen = subset(&ranking::values(&rank), room, &reference);
            good.extend(chosen.into_iter().map(|i| rank[i]));
        }
    }
    let alone = contributions(&ranking::values(&good), &reference);
    let most = alone.iter().copied().fold(0.0, f64::max);
    let weight = |volume: f64| {
        // volumes that no number expresses tell nothing
        let share = volume / most;
        if share.is_finite() {
            share.max(LEAST_WEIGHT)
        } else {
            1.0
        }
    };
    let weights = alone.into_iter().map(weight).collect();

    let numbers: HashSet<u32> = good.iter().map(|t| t.number).collect();
    let young = trials.len().saturating_sub(BAD / 2);
    let stride = young.div_ceil(BAD / 2).max(1);
    let looked_at = trials[..young].iter().step_by(stride).chain(&trials[young..]);
    let bad = looked_at.filter(|t| !numbers.contains(&t.number)).collect();
    Split { good, weights, bad }
}

/// The worst of each objective plus a tenth of its range.
fn reference(values: &[&[f64]]) -> Vec<f64> {
    let width = values.first().map_or(0, |v| v.len());
    let beyond = |objective: usize| {
        let column = values.iter().map(|v| v[objective]);
        let least = column.clone().fold(f64::INFINITY, f64::min);
        let most = column.fold(f64::NEG_INFINITY, f64::max);
        let range = most - least;
        most + 0.1 * if range > 0.0 { range } else { most.abs().max(1.0) }
    };
    (0..width).map(beyond).collect()
}

/// `size` of the points, chosen one after another by the volume that each adds to those before.
fn subset(points: &[&[f64]], size: usize, reference: &[f64]) -> Vec<usize> {
    let roomiest = front::roomiest(points, (0..points.len()).collect());
    let looked_at = roomiest.into_iter().take(LOOKED_AT.max(size));
    let mut left: Vec<usize> = looked_at.map(|(i, _)| i).collect();
    // gains only shrink as points are chosen, so an old gain is a bound and few have to be worked out again
    let mut bounds = vec![f64::INFINITY; left.len()];
    let (mut chosen, mut values, mut held) = (Vec::with_capacity(size), Vec::with_capacity(size), 0.0);
    while chosen.len() < size && !left.is_empty() {
        let mut exact = vec![false; left.len()];
        let best = loop {
            let top = (1..left.len()).fold(0, |a, b| if bounds[b] > bounds[a] { b } else { a });
            if exact[top] {
                break top;
            }
            values.push(points[left[top]]);
            let gain = hypervolume(&values, reference) - held;
            values.pop();
            bounds[top] = if gain.is_nan() { 0.0 } else { gain };
            exact[top] = true;
        };
        held += bounds.remove(best);
        let index = left.remove(best);
        values.push(points[index]);
        chosen.push(index);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;

    fn trial(number: u32, values: Option<Vec<f64>>, violation: f64) -> Trial {
        Trial {
            number,
            candidate: Default::default(),
            outcome: Outcome::Failed,
            values,
            violation,
            rungs: vec![],
            seconds: None,
        }
    }

    #[test]
    fn a_subset_spreads_over_the_front() {
        // by hand: the middle adds most, then the ends, and last what stands beside the middle
        let points: [&[f64]; 4] = [&[0.0, 4.0], &[2.0, 2.0], &[2.1, 1.99], &[4.0, 0.0]];
        let mut three = subset(&points, 3, &[5.0, 5.0]);
        assert_eq!(three[0], 1);
        three.sort_unstable();
        assert_eq!(three, [0, 1, 3]);
    }

    #[test]
    fn limits_come_before_ranks_and_failures_are_bad() {
        let trials = [
            trial(0, None, 0.0),
            trial(1, Some(vec![0.0, 0.0]), 1.0),
            trial(2, Some(vec![1.0, 2.0]), 0.0),
            trial(3, Some(vec![2.0, 1.0]), 0.0),
            trial(4, Some(vec![3.0, 3.0]), 0.0),
            trial(5, Some(vec![0.0, 0.0]), 2.0),
        ];
        let numbers = |group: &[&Trial]| group.iter().map(|t| t.number).collect::<Vec<_>>();
        let three = split(&trials, 3);
        assert_eq!(numbers(&three.good), [2, 3, 4]);
        assert_eq!(numbers(&three.bad), [0, 1, 5]);
        assert!(
            three.weights[2] < three.weights[0],
            "what is dominated weighs less"
        );
        assert_eq!(numbers(&split(&trials, 4).good), [2, 3, 4, 1]);
    }

    #[test]
    fn of_a_long_study_the_young_and_some_of_the_old_are_bad() {
        let trials: Vec<Trial> = (0..5000)
            .map(|i| trial(i, Some(vec![f64::from(i), 0.0]), 0.0))
            .collect();
        let split = split(&trials, 25);
        assert!((350..=400).contains(&split.bad.len()), "{}", split.bad.len());
        assert!(split.bad.iter().filter(|t| t.number < 2500).count() > 80);
        assert!(split.bad.iter().any(|t| t.number == 4999));
    }
}

//! Randomly weighted objectives as one number (augmented Tchebycheff, Knowles 2006).

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use spaces::Objective;

use crate::problem::value;

/// Weight of the sum beside the greatest.
const AUGMENTATION: f64 = 0.05;
/// Added before the logarithm is taken: a hundredth of an objective's range.
const LEAST: f64 = 0.01;

/// Weights and ranges of the objectives.
pub(super) struct Scalar<'a> {
    objectives: &'a [Objective],
    weights: Vec<f64>,
    /// Least and greatest value seen.
    ends: Vec<(f64, f64)>,
}

impl<'a> Scalar<'a> {
    /// Weights drawn evenly from the simplex, and the ranges of those values.
    pub(super) fn draw(objectives: &'a [Objective], values: &[&[f64]], rng: &mut ChaCha8Rng) -> Self {
        // exponential numbers over their sum lie evenly on it
        let drawn: Vec<f64> = objectives
            .iter()
            .map(|_| -(1.0 - rng.random::<f64>()).ln())
            .collect();
        let sum: f64 = drawn.iter().sum();
        let ends = (0..objectives.len()).map(|o| {
            let column = values.iter().map(|v| v[o]);
            let least = column.clone().fold(f64::INFINITY, f64::min);
            (least, column.fold(f64::NEG_INFINITY, f64::max))
        });
        Scalar {
            objectives,
            weights: drawn.into_iter().map(|w| w / sum).collect(),
            ends: ends.collect(),
        }
    }

    /// Logarithms of the weighted value of the objectives to be modelled, and of those known beforehand.
    ///
    /// The weighted value of all is the greater one.
    pub(super) fn parts(&self, values: &[f64]) -> (f64, f64) {
        let part = |known: bool| {
            let of = |o: &usize| self.objectives[*o].known_before_training == known;
            self.part((0..values.len()).filter(of).map(|o| (o, values[o])))
        };
        (part(false), part(true))
    }

    /// The part that is known of a candidate.
    pub(super) fn known(&self, metrics: &BTreeMap<String, f64>) -> f64 {
        let known = self
            .objectives
            .iter()
            .enumerate()
            .filter(|(_, o)| o.known_before_training);
        self.part(known.filter_map(|(i, o)| Some((i, value(o, metrics)?))))
    }

    fn part(&self, values: impl Iterator<Item = (usize, f64)>) -> f64 {
        let (mut most, mut sum) = (f64::NEG_INFINITY, 0.0);
        for (o, value) in values {
            let (least, greatest) = self.ends[o];
            // halves, as the range of the largest numbers is none
            let range = greatest / 2.0 - least / 2.0;
            let share = if range > 0.0 {
                (value / 2.0 - least / 2.0) / range
            } else {
                value - least
            };
            let weighted = self.weights[o] * share;
            most = most.max(weighted);
            sum += weighted;
        }
        if most == f64::NEG_INFINITY {
            return most;
        }
        // better than everything seen is less than nothing: the logarithm ends there
        (most + AUGMENTATION * sum + LEAST).max(1e-6).ln()
    }
}

#[cfg(test)]
mod tests {
    use spaces::Direction;

    use super::*;
    use crate::proposal_rng;

    fn objectives() -> Vec<Objective> {
        [("loss", false), ("bytes", true), ("heat", false)]
            .map(|(metric, known_before_training)| Objective {
                metric: metric.into(),
                direction: Direction::Minimize,
                known_before_training,
            })
            .to_vec()
    }

    #[test]
    fn the_value_by_hand() {
        let objectives = objectives();
        let scalar = Scalar {
            objectives: &objectives,
            weights: vec![0.5, 0.2, 0.3],
            ends: vec![(0.0, 10.0), (100.0, 200.0), (0.0, 1.0)],
        };
        let (modelled, known) = scalar.parts(&[5.0, 150.0, 0.5]);
        assert!((modelled.exp() - (0.25 + 0.05 * 0.4 + 0.01)).abs() < 1e-12);
        assert!((known.exp() - (0.1 + 0.05 * 0.1 + 0.01)).abs() < 1e-12);
        assert_eq!(scalar.known(&BTreeMap::from([("bytes".into(), 150.0)])), known);
        assert_eq!(scalar.known(&BTreeMap::new()), f64::NEG_INFINITY);
    }

    #[test]
    fn weights_lie_evenly_on_the_simplex() {
        let (objectives, mut rng) = (objectives(), proposal_rng(0, 0));
        let values: [&[f64]; 2] = [&[0.0, f64::MAX, 1.0], &[1.0, f64::MIN, 1.0]];
        let mut corner = 0;
        for _ in 0..10_000 {
            let scalar = Scalar::draw(&objectives, &values, &mut rng);
            assert!((scalar.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            corner += u32::from(scalar.weights[0] > 0.5);
            let (modelled, known) = scalar.parts(values[0]);
            assert!(modelled.is_finite() && known.is_finite());
        }
        // a quarter of the triangle's area
        assert!((2350..2650).contains(&corner), "{corner}");
    }
}

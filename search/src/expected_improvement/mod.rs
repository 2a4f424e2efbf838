//! Expected hypervolume improvement, exact for independent normal predictions (Emmerich et al. 2006; Yang et al. 2019).
//!
//! Noisy (Daulton et al. 2021): the front is that of the predicted means at the points that were tried, so a lucky
//! measurement does not shut off a region. Compared by its logarithm (Ament et al. 2023), which still tells candidates
//! apart where the improvement itself is too small for a number. An objective that is known enters as itself.

mod boxes;

use self::boxes::Boxes;
use crate::normal;

/// What is known or believed about one objective of a candidate, less being better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Belief {
    /// Expected value.
    pub(crate) mean: f64,
    /// Standard deviation; 0 where the value is known.
    pub(crate) deviation: f64,
}

/// A front to be improved.
#[derive(Clone, Debug)]
pub(crate) struct Improvement {
    boxes: Boxes,
    /// For each objective, expected room below each level: reused.
    below: Vec<Vec<f64>>,
}

impl Improvement {
    pub(crate) fn new(front: &[Vec<f64>], reference: &[f64]) -> Improvement {
        let boxes = Boxes::new(front, reference);
        let below = boxes.levels.iter().map(|l| vec![0.0; l.len()]).collect();
        Improvement { boxes, below }
    }

    /// The logarithm of the expected improvement, or below -700 a sign of how far away any is.
    pub(crate) fn log(&mut self, beliefs: &[Belief]) -> f64 {
        for ((belief, levels), below) in beliefs.iter().zip(&self.boxes.levels).zip(&mut self.below) {
            for (level, room) in levels.iter().zip(below) {
                *room = belief.room_below(*level);
            }
        }
        let expected = self.boxes.sum(&self.below);
        if expected > 1e-300 {
            return expected.ln();
        }
        // how many standard deviations the nearest box is away
        let beyond = |(k, level): (usize, f64)| {
            let belief = beliefs[k];
            ((belief.mean - level) / belief.deviation.max(1e-9)).max(0.0)
        };
        -700.0 - self.boxes.nearest(beyond).ln_1p()
    }
}

impl Belief {
    /// The expectation of `max(level - value, 0)`.
    fn room_below(self, level: f64) -> f64 {
        let room = level - self.mean;
        if level == f64::NEG_INFINITY {
            0.0
        } else if self.deviation <= 0.0 {
            room.max(0.0)
        } else {
            let t = room / self.deviation;
            (room * normal::below(t) + self.deviation * normal::density(t)).max(0.0)
        }
    }

    /// The probability that the value is at most `level`.
    pub(crate) fn probability_below(self, level: f64) -> f64 {
        if self.deviation <= 0.0 {
            return f64::from(u8::from(self.mean <= level));
        }
        normal::below((level - self.mean) / self.deviation)
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use rand::RngExt;

    use super::*;
    use crate::{hypervolume, proposal_rng};

    #[test]
    fn it_is_the_mean_improvement_of_draws() {
        let front = vec![vec![0.2, 0.8, 0.5], vec![0.6, 0.3, 0.4], vec![0.5, 0.5, 0.2]];
        let reference = vec![1.0; 3];
        let beliefs =
            [(0.4, 0.2), (0.4, 0.1), (0.5, 0.0)].map(|(mean, deviation)| Belief { mean, deviation });
        let ours = Improvement::new(&front, &reference).log(&beliefs).exp();
        let before = hypervolume(&front, &reference);
        let mut rng = proposal_rng(0, 0);
        let draws = 200_000;
        let mut total = 0.0;
        for _ in 0..draws {
            let mut normal = || {
                let (u, v): (f64, f64) = (rng.random(), rng.random());
                (-2.0 * (1.0 - u).ln()).sqrt() * (2.0 * PI * v).cos()
            };
            let point: Vec<f64> = beliefs.iter().map(|b| b.mean + b.deviation * normal()).collect();
            let with: Vec<Vec<f64>> = front.iter().cloned().chain([point]).collect();
            total += hypervolume(&with, &reference) - before;
        }
        let drawn = total / f64::from(draws);
        assert!((ours - drawn).abs() < 0.01 * drawn, "{ours} {drawn}");
    }

    #[test]
    fn far_from_any_improvement_the_nearer_is_still_better() {
        let mut improvement = Improvement::new(&[vec![0.0, 0.0]], &[1.0, 1.0]);
        let mut at = |mean| {
            improvement.log(
                &[Belief {
                    mean,
                    deviation: 1e-3,
                }; 2],
            )
        };
        assert!(at(0.5) > at(0.9) && at(2.0) > at(3.0));
    }
}

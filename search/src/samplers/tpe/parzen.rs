//! A Parzen mixture over points of which each has only some of the coordinates.

use rand::{RngExt, distr::weighted::WeightedIndex};
use rand_chacha::ChaCha8Rng;

use super::axis::{Axis, log_height};

/// A point of the unit cube; inactive coordinates are `None`.
pub(super) type Point = Vec<Option<f64>>;

/// Kernels around points, products over the coordinates that the point has, and the uniform prior as one more.
pub(super) struct Parzen<'a> {
    axes: &'a [Axis],
    points: Vec<Point>,
    /// Weight of each point, and of the prior last; they sum up to 1.
    weights: Vec<f64>,
    /// Their logarithms.
    log_weights: Vec<f64>,
    /// Draws one of the weights' numbers.
    any: WeightedIndex<f64>,
    /// Width of the kernels of each axis.
    widths: Vec<f64>,
    /// For each axis of finite many values the logarithm of the probability of value `to` around value `at`.
    tables: Vec<Vec<f64>>,
    /// For each point and axis the logarithm of the kernel's height in a continuum, else the value's number.
    shapes: Vec<f64>,
}

/// One coordinate of the point that is looked at.
struct Coordinate {
    axis: usize,
    unit: f64,
    slot: usize,
}

impl<'a> Parzen<'a> {
    /// A mixture over points with weights above 0; the prior weighs as much as their mean.
    pub(super) fn new(axes: &'a [Axis], points: Vec<Point>, mut weights: Vec<f64>) -> Self {
        let sum: f64 = weights.iter().sum();
        let prior = if points.is_empty() {
            1.0
        } else {
            sum / points.len() as f64
        };
        weights.push(prior);
        weights.iter_mut().for_each(|w| *w /= sum + prior);
        let width = |(d, axis): (usize, &Axis)| axis.width(points.iter().filter_map(|p| p[d]), axes.len());
        let widths: Vec<f64> = axes.iter().enumerate().map(width).collect();
        let mut shapes = Vec::with_capacity(points.len() * axes.len());
        for point in &points {
            let coordinates = axes.iter().zip(point).zip(&widths);
            shapes.extend(coordinates.map(|((axis, unit), width)| match (axis, unit) {
                (_, None) => 0.0,
                (Axis::Real, Some(unit)) => log_height(*unit, *width),
                (_, Some(unit)) => axis.slot(*unit) as f64,
            }));
        }
        Parzen {
            tables: axes.iter().zip(&widths).map(|(a, w)| a.table(*w)).collect(),
            log_weights: weights.iter().map(|w| w.ln()).collect(),
            any: WeightedIndex::new(&weights).expect("the prior weighs something"),
            axes,
            points,
            weights,
            widths,
            shapes,
        }
    }

    /// Logarithm of the joint density at a point times the product of the marginal densities.
    ///
    /// Where a kernel lacks a coordinate of the point, the prior stands in; a marginal is taken over the kernels that
    /// have the coordinate.
    pub(super) fn log_score(&self, point: &Point) -> f64 {
        let prior_at = self.points.len();
        let mut joint = self.log_weights.clone();
        let mut marginals = 0.0;
        for (axis, unit) in point.iter().enumerate() {
            let Some(unit) = *unit else { continue };
            let slot = self.axes[axis].slot(unit);
            let prior = self.axes[axis].log_prior(slot);
            let coordinate = Coordinate { axis, unit, slot };
            let mut weight = self.weights[prior_at];
            let mut density = weight * prior.exp();
            for (k, joint) in joint[..prior_at].iter_mut().enumerate() {
                let Some(kernel) = self.log_kernel(k, &coordinate) else {
                    *joint += prior;
                    continue;
                };
                *joint += kernel;
                weight += self.weights[k];
                density += self.weights[k] * kernel.exp();
            }
            joint[prior_at] += prior;
            marginals += (density / weight).ln();
        }
        log_sum(&joint) + marginals
    }

    /// A point drawn from the mixture, with a value for every coordinate.
    ///
    /// `together`: one kernel gives all of them; what it lacks, and else each, comes from one that has it.
    pub(super) fn draw(&self, together: bool, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let one = rng.sample(&self.any);
        let coordinate = |d: usize| self.points.get(one).map(|p| p[d]);
        let mut unit = Vec::with_capacity(self.axes.len());
        for d in 0..self.axes.len() {
            let at = match coordinate(d) {
                Some(Some(at)) if together => Some(at),
                None if together => None,
                _ => self.pick(d, rng),
            };
            unit.push(match at {
                Some(at) => self.axes[d].draw(at, self.widths[d], rng),
                None => rng.random(),
            });
        }
        unit
    }

    /// A coordinate of one of the points that have it; `None` for the prior.
    fn pick(&self, axis: usize, rng: &mut ChaCha8Rng) -> Option<f64> {
        let having = || {
            self.points
                .iter()
                .zip(&self.weights)
                .filter_map(|(p, w)| Some((p[axis]?, w)))
        };
        let all: f64 = having().map(|(_, w)| w).sum::<f64>() + self.weights[self.points.len()];
        let mut left = rng.random::<f64>() * all;
        for (at, weight) in having() {
            left -= weight;
            if left < 0.0 {
                return Some(at);
            }
        }
        None
    }

    fn log_kernel(&self, k: usize, to: &Coordinate) -> Option<f64> {
        let at = self.points[k][to.axis]?;
        let shape = self.shapes[k * self.axes.len() + to.axis];
        Some(match &self.axes[to.axis] {
            Axis::Real => {
                let z = (to.unit - at) / self.widths[to.axis];
                shape - 0.5 * z * z
            }
            axis => self.tables[to.axis][shape as usize * axis.values() + to.slot],
        })
    }
}

fn log_sum(logs: &[f64]) -> f64 {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + logs.iter().map(|l| (l - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use spaces::{Domain, Value};

    use super::*;
    use crate::proposal_rng;

    fn axes() -> Vec<Axis> {
        let names = Domain::categorical(["a", "b"].map(Value::from).to_vec()).unwrap();
        [names, Domain::float(0.0, 1.0, false, None).unwrap()]
            .iter()
            .map(Axis::new)
            .collect()
    }

    #[test]
    fn without_points_everything_is_as_likely() {
        let axes = axes();
        let empty = Parzen::new(&axes, vec![], vec![]);
        let one = empty.log_score(&vec![Some(0.25), Some(0.1)]);
        assert!(
            (one - 2.0 * 0.5f64.ln()).abs() < 1e-12,
            "joint and marginal: {one}"
        );
        assert_eq!(one, empty.log_score(&vec![Some(0.75), Some(0.9)]));
    }

    #[test]
    fn where_points_lie_is_more_likely_and_what_they_lack_is_not_judged() {
        let axes = axes();
        let points = vec![
            vec![Some(0.75), Some(0.2)],
            vec![Some(0.75), Some(0.3)],
            vec![Some(0.25), None],
        ];
        let mixture = Parzen::new(&axes, points, vec![1.0; 3]);
        let near = mixture.log_score(&vec![Some(0.75), Some(0.25)]);
        assert!(near > mixture.log_score(&vec![Some(0.75), Some(0.9)]) + 1.0);
        assert!(near > mixture.log_score(&vec![Some(0.25), Some(0.25)]));
        assert!(mixture.log_score(&vec![Some(0.25), None]).is_finite());
    }

    #[test]
    fn a_coordinate_that_a_kernel_lacks_is_drawn_where_others_have_it() {
        let axes = axes();
        let mut points = vec![vec![Some(0.25), None]; 30];
        points.extend(vec![vec![Some(0.75), Some(0.1)]; 30]);
        let mixture = Parzen::new(&axes, points, vec![1.0; 60]);
        let mut rng = proposal_rng(0, 0);
        let low = (0..1000)
            .filter(|_| mixture.draw(true, &mut rng)[1] < 0.3)
            .count();
        assert!(low > 900, "{low}");
    }
}

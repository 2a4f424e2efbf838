//! The knee of a front: where a little more of one objective starts to cost much of another.
//!
//! Objectives are scaled to 0 at the best and 1 at the worst value on the front. The knee is the point farthest below
//! the plane on which these sum to 1; with two objectives that is the line through the two extremes (Das 1999).

use std::cmp::Ordering;

use crate::front::order;

/// The knee of a front.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knee {
    /// Its place in the list given.
    pub index: usize,
    /// How far it lies below the plane through the extremes, in scaled units; 0 or less where the front does not bulge.
    pub depth: f64,
}

/// The knee of points that do not dominate each other, all minimised and finite; `None` without points.
///
/// Where no point lies below the plane, as on a hollow front or one of only extremes, it is the point whose worst
/// scaled objective is best. Objectives that do not vary are left out. Of equally good points the one that is better
/// in the earlier objectives is taken, then the earlier point.
pub fn knee<P: AsRef<[f64]>>(front: &[P]) -> Option<Knee> {
    let scaled = scaled(front);
    let varying = scaled.first()?.len();
    let depth = |point: &[f64]| match varying {
        0 => 0.0,
        n => (1.0 - point.iter().sum::<f64>()) / (n as f64).sqrt(),
    };
    let depths: Vec<f64> = scaled.iter().map(|p| depth(p)).collect();
    // what rounding leaves of an exact 0 is no bulge
    let bulges = depths.iter().any(|d| *d > 1e-9);
    let merit = |i: usize| {
        if bulges {
            -depths[i]
        } else {
            scaled[i].iter().copied().fold(0.0, f64::max)
        }
    };
    let better = |a: &usize, b: &usize| {
        order(merit(*a), merit(*b)).then_with(|| lexicographic(front[*a].as_ref(), front[*b].as_ref()))
    };
    let index = (0..front.len()).min_by(better)?;
    let depth = depths[index];
    Some(Knee { index, depth })
}

/// The points between 0 and 1 in each objective that varies.
fn scaled<P: AsRef<[f64]>>(front: &[P]) -> Vec<Vec<f64>> {
    let width = front.first().map_or(0, |p| p.as_ref().len());
    let mut scaled = vec![Vec::with_capacity(width); front.len()];
    for objective in 0..width {
        let column = || front.iter().map(|p| p.as_ref()[objective]);
        let best = column().fold(f64::INFINITY, f64::min);
        let range = column().fold(f64::NEG_INFINITY, f64::max) - best;
        if range > 0.0 {
            for (point, value) in scaled.iter_mut().zip(column()) {
                point.push((value - best) / range);
            }
        }
    }
    scaled
}

fn lexicographic(a: &[f64], b: &[f64]) -> Ordering {
    let first_difference = a.iter().zip(b).map(|(x, y)| order(*x, *y)).find(|o| o.is_ne());
    first_difference.unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index<const N: usize>(front: &[[f64; N]]) -> usize {
        knee(front).unwrap().index
    }

    #[test]
    fn the_bend_is_found_whatever_the_units() {
        let front = [[0.0, 10.0], [1.0, 4.0], [2.0, 1.0], [5.0, 0.5], [10.0, 0.0]];
        let found = knee(&front).unwrap();
        assert_eq!(found.index, 2);
        assert!((found.depth - (1.0 - 0.2 - 0.1) / 2f64.sqrt()).abs() < 1e-12);
        let scaled = front.map(|[a, b]| [a * 1e9 - 7.0, b * 1e-6]);
        assert_eq!(index(&scaled), 2);
        assert_eq!(
            index(&[[0.0, 1.0, 0.9], [0.2, 0.2, 0.2], [1.0, 0.0, 1.0], [0.9, 1.0, 0.0]]),
            1
        );
    }

    #[test]
    fn degenerate_fronts_have_a_knee_too() {
        assert_eq!(knee(&[[0.0; 2]; 0]), None);
        assert_eq!(knee(&[[3.0, 4.0]]).unwrap(), Knee { index: 0, depth: 0.0 });
        // two extremes, both equally far: the first objective decides
        assert_eq!(index(&[[2.0, 1.0], [1.0, 2.0]]), 1);
        // a hollow front: the even one, not an extreme
        assert_eq!(index(&[[0.0, 1.0], [0.8, 0.75], [1.0, 0.0]]), 1);
        // an objective without range is left out
        assert_eq!(index(&[[0.0, 7.0, 1.0], [0.1, 7.0, 0.1], [1.0, 7.0, 0.0]]), 1);
    }
}

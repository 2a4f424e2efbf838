//! The volume that a set of points dominates, up to a reference point.
//!
//! Exact for any number of objectives: a sweep for two, a sweep over a growing outline for three (Fonseca et al.
//! 2006), and above that the exclusive volumes of WFG (While et al. 2012), each one objective flatter than the last.
//!
//! Every value is to be minimised. A point counts where it is better than the reference in every objective; a point
//! with NaN never does. If a counted point or the reference is infinitely good or bad, the volume is infinite.

use crate::front::{self, Staircase, order};

/// How many finished trials [`reference_point`] looks at.
pub const REFERENCE_TRIALS: usize = 16;

/// The reference point of a study: the worst value of each objective among the first trials, plus a tenth of the range.
///
/// `values` are minimised, in finish order; only the first [`REFERENCE_TRIALS`] are looked at, so the point stands
/// still once so many have finished. A study fixes it then, or when it ends, and stores it: a volume can be compared
/// only under one and the same reference. Where an objective does not vary, a tenth of its size is added, or 1 if it
/// is 0. `None` without values.
pub fn reference_point<P: AsRef<[f64]>>(values: impl IntoIterator<Item = P>) -> Option<Vec<f64>> {
    let mut ends: Option<Vec<(f64, f64)>> = None;
    for point in values.into_iter().take(REFERENCE_TRIALS) {
        let point = point.as_ref();
        let ends = ends.get_or_insert_with(|| point.iter().map(|v| (*v, *v)).collect());
        for ((best, worst), v) in ends.iter_mut().zip(point) {
            (*best, *worst) = (best.min(*v), worst.max(*v));
        }
    }
    let beyond = |(best, worst): (f64, f64)| {
        let margin = match (worst - best, worst.abs()) {
            (range, _) if range > 0.0 => 0.1 * range,
            (_, size) if size > 0.0 => 0.1 * size,
            _ => 1.0,
        };
        worst + margin
    };
    Some(ends?.into_iter().map(beyond).collect())
}

/// The volume that the points dominate and the reference point bounds.
///
/// # Panics
/// If a point has another number of objectives than the reference.
pub fn hypervolume<P: AsRef<[f64]>>(points: &[P], reference: &[f64]) -> f64 {
    let counted: Vec<&[f64]> = points
        .iter()
        .map(AsRef::as_ref)
        .filter(|p| counts(p, reference))
        .collect();
    if counted.iter().any(|p| is_endless(p, reference)) {
        return f64::INFINITY;
    }
    volume(&counted, reference)
}

/// For each point the volume that it alone dominates, and that would be lost without it.
///
/// 0 for points that are dominated, repeated or not counted.
///
/// # Panics
/// If a point has another number of objectives than the reference.
pub fn contributions<P: AsRef<[f64]>>(points: &[P], reference: &[f64]) -> Vec<f64> {
    let mut alone = vec![0.0; points.len()];
    let values: Vec<&[f64]> = points.iter().map(AsRef::as_ref).collect();
    let counted: Vec<usize> = (0..values.len())
        .filter(|i| counts(values[*i], reference))
        .collect();
    let front = front::front(&values);
    for i in front.into_iter().filter(|i| counts(values[*i], reference)) {
        let others: Vec<&[f64]> = counted.iter().filter(|j| **j != i).map(|j| values[*j]).collect();
        alone[i] = if is_endless(values[i], reference) {
            f64::INFINITY
        } else {
            // rounding may leave a little less than nothing of a repeated point
            exclusive(values[i], &others, reference).max(0.0)
        };
    }
    alone
}

fn counts(point: &[f64], reference: &[f64]) -> bool {
    assert_eq!(
        point.len(),
        reference.len(),
        "points and reference have the same objectives"
    );
    point.iter().zip(reference).all(|(p, r)| p < r)
}

fn is_endless(point: &[f64], reference: &[f64]) -> bool {
    point.iter().zip(reference).any(|(p, r)| !(r - p).is_finite())
}

/// The volume of points that are finite and better than the reference in every objective.
fn volume(points: &[&[f64]], reference: &[f64]) -> f64 {
    let mut sorted = points.to_vec();
    sorted.sort_unstable_by(|a, b| order(a[0], b[0]));
    let depth = |p: &[f64]| reference[0] - p[0];
    match reference.len() {
        0 => 0.0,
        1 => sorted.first().map_or(0.0, |p| depth(p)),
        2 => {
            let mut least = reference[1];
            let strips = sorted.iter().map(|p| {
                let gain = (least - p[1]).max(0.0);
                least = least.min(p[1]);
                gain * depth(p)
            });
            strips.sum()
        }
        3 => {
            let mut outline = Staircase::default();
            let mut total = 0.0;
            for p in sorted {
                if !outline.covers(p[1], p[2]) {
                    total += outline.gain(p[1], p[2], (reference[1], reference[2])) * depth(p);
                    outline.insert(p[1], p[2]);
                }
            }
            total
        }
        _ => {
            // what a point adds to those before it is a cylinder along the first objective, in which they lead;
            // its base is what the point adds to their shadows in the other objectives
            let mut shadows: Vec<&[f64]> = Vec::new();
            let mut total = 0.0;
            for p in sorted {
                let shadow = &p[1..];
                if shadows.iter().any(|s| no_worse(s, shadow)) {
                    continue;
                }
                total += exclusive(shadow, &shadows, &reference[1..]) * depth(p);
                shadows.retain(|s| !no_worse(shadow, s));
                // kept in order, so that sorting them one level deeper has nothing to do
                let at = shadows.partition_point(|s| s[0] <= shadow[0]);
                shadows.insert(at, shadow);
            }
            total
        }
    }
}

/// The volume that a point dominates and none of the others does.
fn exclusive(point: &[f64], others: &[&[f64]], reference: &[f64]) -> f64 {
    let whole: f64 = point.iter().zip(reference).map(|(p, r)| r - p).product();
    let limited: Vec<f64> = others
        .iter()
        .flat_map(|o| o.iter().zip(point).map(|(o, p)| o.max(*p)))
        .collect();
    let rows: Vec<&[f64]> = limited.chunks_exact(point.len()).collect();
    if point.len() < 4 {
        return whole - volume(&rows, reference);
    }
    // a level more of recursion costs more than dropping the rows that add nothing to it
    let best: Vec<&[f64]> = front::front(&rows).into_iter().map(|i| rows[i]).collect();
    whole - volume(&best, reference)
}

fn no_worse(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b)
}

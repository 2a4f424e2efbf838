//! The volume that a set of points dominates, up to a reference point.
//!
//! Exact for any number of objectives, by a sweep along the first: over an outline for two and three, over boxes of
//! free space for four and five, and above that over the exclusive volumes of WFG (While et al. 2012), each one
//! objective flatter than the last.
//!
//! Every value is to be minimised. A point counts where it is better than the reference in every objective; a point
//! with NaN never does. If a counted point or the reference is infinitely good or bad, the volume is infinite.

mod boxes;
mod exclusive;
mod ranks;
mod sweeps;

use crate::front;

/// How many finished trials [`reference_point`] looks at.
pub const REFERENCE_TRIALS: usize = 16;

/// Up to so many points, to look for dominated ones takes longer than to sweep over them as well.
const FEW: usize = 200;

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
    let mut counted = Vec::with_capacity(points.len() * reference.len());
    for point in points.iter().map(AsRef::as_ref).filter(|p| counts(p, reference)) {
        if is_endless(point, reference) {
            return f64::INFINITY;
        }
        counted.extend_from_slice(point);
    }
    if reference.len() > 3 && points.len() > FEW {
        counted = contending(&counted, reference);
    }
    volume(&counted, reference)
}

/// For each point the volume that it alone dominates, and that would be lost without it.
///
/// 0 for points that are dominated, repeated or not counted. `O(n log n)` for two and three objectives.
///
/// # Panics
/// If a point has another number of objectives than the reference.
pub fn contributions<P: AsRef<[f64]>>(points: &[P], reference: &[f64]) -> Vec<f64> {
    let mut alone = vec![0.0; points.len()];
    let width = reference.len();
    let counted: Vec<usize> = (0..points.len())
        .filter(|i| counts(points[*i].as_ref(), reference))
        .collect();
    let mut values: Vec<f64> = Vec::with_capacity(counted.len() * width);
    counted
        .iter()
        .for_each(|i| values.extend_from_slice(points[*i].as_ref()));
    let endless: Vec<usize> = (0..counted.len())
        .filter(|at| is_endless(&values[at * width..][..width], reference))
        .collect();
    if !endless.is_empty() {
        let best = front::front_of(width, &values);
        for at in endless.iter().filter(|at| best.binary_search(at).is_ok()) {
            alone[counted[*at]] = f64::INFINITY;
        }
        bound(&mut values, &endless, reference);
    }
    let parts = match width {
        2 => sweeps::areas_alone(&values, reference),
        3 => sweeps::volumes_alone(&values, reference),
        _ => exclusive::volumes_alone(&values, reference),
    };
    for (i, part) in counted.iter().zip(parts).filter(|(_, part)| *part > 0.0) {
        // what is endless stays so
        alone[*i] = part.max(alone[*i]);
    }
    alone
}

/// Makes endless points as good as the best of the others: those lose as much by them as before.
fn bound(values: &mut [f64], endless: &[usize], reference: &[f64]) {
    let width = reference.len();
    let mut best = reference.to_vec();
    let rows = values.chunks_exact(width).enumerate();
    for (_, row) in rows.filter(|(at, _)| endless.binary_search(at).is_err()) {
        best.iter_mut().zip(row).for_each(|(b, v)| *b = b.min(*v));
    }
    for at in endless {
        let row = &mut values[at * width..][..width];
        row.iter_mut().zip(&best).for_each(|(v, b)| *v = v.max(*b));
    }
}

fn counts(point: &[f64], reference: &[f64]) -> bool {
    assert_eq!(
        point.len(),
        reference.len(),
        "points and reference have the same objectives"
    );
    // every value is looked at: faster than to stop in between
    point
        .iter()
        .zip(reference)
        .fold(true, |inside, (p, r)| inside & (p < r))
}

fn is_endless(point: &[f64], reference: &[f64]) -> bool {
    let ends = point.iter().zip(reference).map(|(p, r)| (r - p).is_finite());
    !ends.fold(true, |all, finite| all & finite)
}

/// The points without most of those that are dominated, which would cost as much as the others.
fn contending(points: &[f64], reference: &[f64]) -> Vec<f64> {
    let width = reference.len();
    let mut values = Vec::with_capacity(points.len());
    for i in front::contenders(width, points) {
        values.extend_from_slice(&points[i * width..][..width]);
    }
    values
}

/// The volume of points that are finite and better than the reference in every objective.
fn volume(points: &[f64], reference: &[f64]) -> f64 {
    match reference.len() {
        0 => 0.0,
        1 => points.iter().fold(0.0, |most, p| (reference[0] - p).max(most)),
        2 => sweeps::area(points, reference),
        3 => sweeps::volume(points, reference),
        4 => boxes::volume::<3>(points, reference),
        5 => boxes::volume::<4>(points, reference),
        _ => exclusive::volume(points, reference),
    }
}

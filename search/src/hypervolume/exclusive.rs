//! The volume that a point adds to others, for any number of objectives.

use crate::front::{self, no_worse, sorted_column};

/// The volume of points that are finite and better than the reference in every objective, at least two.
pub(super) fn volume(points: &[f64], reference: &[f64]) -> f64 {
    let width = reference.len();
    // what a point adds to those before it is a cylinder along the first objective, in which they lead;
    // its base is what the point adds to their shadows in the other objectives
    let mut shadows: Vec<f64> = Vec::with_capacity(points.len());
    let mut total = 0.0;
    for i in sorted_column(points.iter().step_by(width).copied()) {
        let (depth, shadow) = (
            reference[0] - points[i * width],
            &points[i * width + 1..][..width - 1],
        );
        if shadows.chunks_exact(width - 1).any(|s| no_worse(s, shadow)) {
            continue;
        }
        total += exclusive(shadow, shadows.chunks_exact(width - 1), &reference[1..]) * depth;
        shadows.extend_from_slice(shadow);
    }
    total
}

/// What each point alone dominates, of points that are finite and better than the reference in every objective.
pub(super) fn volumes_alone(points: &[f64], reference: &[f64]) -> Vec<f64> {
    let width = reference.len();
    let mut alone = vec![0.0; points.len().checked_div(width).unwrap_or(0)];
    if alone.is_empty() {
        return alone;
    }
    let rows: Vec<&[f64]> = points.chunks_exact(width).collect();
    let mut ranks = front::sort_best(&rows, 1);
    let best = ranks.pop().unwrap_or_default();
    let mut behind = vec![true; rows.len()];
    best.iter().for_each(|i| behind[*i] = false);
    let rest: Vec<&[f64]> = (0..rows.len()).filter(|i| behind[*i]).map(|i| rows[i]).collect();
    // whom a point of the second rank dominates, that one covers
    let second: Vec<&[f64]> = front::front(&rest).into_iter().map(|i| rest[i]).collect();
    for i in &best {
        let others = best.iter().filter(|j| *j != i).map(|j| rows[*j]);
        // rounding may leave a little less than nothing of a repeated point
        alone[*i] = exclusive(rows[*i], others.chain(second.iter().copied()), reference).max(0.0);
    }
    alone
}

/// The volume that a point dominates and none of the others does.
fn exclusive<'a>(point: &[f64], others: impl Iterator<Item = &'a [f64]>, reference: &[f64]) -> f64 {
    let whole: f64 = point.iter().zip(reference).map(|(p, r)| r - p).product();
    let limited: Vec<f64> = others
        .flat_map(|o| o.iter().zip(point).map(|(o, p)| o.max(*p)))
        .collect();
    if reference.len() < 4 {
        return whole - super::volume(&limited, reference);
    }
    // most of them add nothing to a few
    whole - super::volume(&super::contending(&limited, reference), reference)
}

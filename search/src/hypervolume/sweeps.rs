//! Sweeps along the first objective for two and three objectives, in `n log n`.
//!
//! For three, the points' rank in the second objective names their place in an outline; of equal values, one or the
//! other comes first, and what lies between them has no area.

use super::ranks::Ranks;
use crate::front::{sorted_column, sorted_pairs};

/// The area that points dominate which are better than the reference.
pub(super) fn area(points: &[f64], reference: &[f64]) -> f64 {
    let mut least = reference[1];
    let strips = sorted_pairs(points.chunks_exact(2).map(|p| (p[0], p[1]))).map(|(x, y)| {
        let gain = if y < least { least - y } else { 0.0 };
        least = if y < least { y } else { least };
        gain * (reference[0] - x)
    });
    strips.sum()
}

/// The volume that points dominate which are better than the reference.
pub(super) fn volume(points: &[f64], reference: &[f64]) -> f64 {
    let Sweep {
        order,
        ranks,
        ys,
        mut zs,
    } = Sweep::new(points);
    // the outline of the points so far: as y ascends, z descends
    let mut outline = Ranks::new(order.len());
    let mut total = 0.0;
    for (i, rank) in order.iter().zip(ranks) {
        let [x, y, z] = [points[i * 3], points[i * 3 + 1], points[i * 3 + 2]];
        let above = outline.last_up_to(rank).map_or(reference[2], |step| zs[step]);
        if above <= z {
            continue;
        }
        let (mut left, mut height, mut gain) = (y, above - z, 0.0);
        let mut next = outline.first_from(rank);
        while let Some(step) = next.filter(|step| zs[*step] >= z) {
            gain += (ys[step] - left) * height;
            (left, height) = (ys[step], zs[step] - z);
            outline.remove(step);
            next = outline.first_from(step);
        }
        let right = next.map_or(reference[1], |step| ys[step]);
        gain += (right - left) * height;
        zs[rank] = z;
        outline.insert(rank);
        total += gain * (reference[0] - x);
    }
    total
}

/// What each point alone dominates, for two objectives: between the least and the second least value so far.
pub(super) fn areas_alone(points: &[f64], reference: &[f64]) -> Vec<f64> {
    let mut alone = vec![0.0; points.len() / 2];
    let mut owner = None;
    let (mut least, mut second, mut since) = (reference[1], reference[1], 0.0);
    for i in sorted_column(points.iter().step_by(2).copied()) {
        let [x, y] = [points[i * 2], points[i * 2 + 1]];
        if y >= second {
            continue;
        }
        if let Some(owner) = owner {
            let area: &mut f64 = &mut alone[owner];
            *area += (x - since) * (second - least);
        }
        since = x;
        if y < least {
            (second, least, owner) = (least, y, Some(i));
        } else {
            second = y;
        }
    }
    if let Some(owner) = owner {
        alone[owner] += (reference[0] - since) * (second - least);
    }
    alone
}

/// What each point alone dominates, for three objectives (after Emmerich and Fonseca 2011).
///
/// As y ascends, the least z of the points so far descends in steps, and so does the second least; what lies between
/// belongs to one point alone. Strips divide it: each spans y from its rank to the next strip.
pub(super) fn volumes_alone(points: &[f64], reference: &[f64]) -> Vec<f64> {
    let Sweep { order, ranks, ys, .. } = Sweep::new(points);
    let mut alone = vec![0.0; order.len()];
    let mut strips: Vec<Strip> = vec![Strip::default(); order.len() + 1];
    let mut edges = Ranks::new(order.len() + 1);
    let free = Strip {
        owner: None,
        low: reference[2],
        high: reference[2],
        since: 0.0,
    };
    // rank 0 is the wall at which y begins, so that every point has a strip below it
    strips[0] = free;
    edges.insert(0);
    let mut close = |strip: &Strip, width: f64, x: f64| {
        if let Some(owner) = strip.owner {
            alone[owner] += (x - strip.since) * width * (strip.high - strip.low);
        }
    };
    for (i, rank) in order.iter().zip(ranks) {
        let [x, y, z] = [points[i * 3], points[i * 3 + 1], points[i * 3 + 2]];
        let rank = rank + 1;
        let Some(below) = edges.last_up_to(rank).filter(|below| strips[*below].high > z) else {
            continue;
        };
        // divided at y, its upper part is met first
        let (mut at, mut left, mut strip) = (rank, y, strips[below]);
        let mut last: Option<Strip> = None;
        loop {
            edges.remove(at);
            let next = edges.first_from(at);
            let right = next.map_or(reference[1], |next| ys[next - 1]);
            close(&strip, right - left, x);
            let (owner, low, high) = if strip.low > z {
                (Some(*i), z, strip.low)
            } else {
                (strip.owner, strip.low, z)
            };
            let now = Strip {
                owner,
                low,
                high,
                since: x,
            };
            if last != Some(now) {
                edges.insert(at);
                strips[at] = now;
                last = Some(now);
            }
            let Some(next) = next.filter(|next| strips[*next].high > z) else {
                break;
            };
            (at, left, strip) = (next, right, strips[next]);
        }
    }
    let mut at = edges.first_from(1);
    while let Some(edge) = at {
        at = edges.first_from(edge + 1);
        let right = at.map_or(reference[1], |next| ys[next - 1]);
        close(&strips[edge], right - ys[edge - 1], reference[0]);
    }
    alone
}

/// A stretch of y in which one point has the least z, `low`, and `high` is the second least.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Strip {
    owner: Option<usize>,
    low: f64,
    high: f64,
    /// The x from which on this is so.
    since: f64,
}

/// Points of three objectives in the order of the first, with their ranks in the second.
struct Sweep {
    order: Vec<usize>,
    ranks: Vec<usize>,
    /// The second value of each rank.
    ys: Vec<f64>,
    /// Room for the third of each rank.
    zs: Vec<f64>,
}

impl Sweep {
    fn new(points: &[f64]) -> Sweep {
        let order = sorted_column(points.iter().step_by(3).copied());
        let by_rank = sorted_column(order.iter().map(|i| points[i * 3 + 1]));
        let mut ranks = vec![0; order.len()];
        by_rank
            .iter()
            .enumerate()
            .for_each(|(rank, at)| ranks[*at] = rank);
        let ys = by_rank.iter().map(|at| points[order[*at] * 3 + 1]).collect();
        let zs = vec![0.0; order.len()];
        Sweep { order, ranks, ys, zs }
    }
}

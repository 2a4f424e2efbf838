//! Dominance, non-dominated sorting, crowding, the Pareto front.
//!
//! Every value is to be minimised. NaN counts as infinity. Equal points do not dominate each other.
//! Sorting goes by efficient non-dominated sort (Zhang et al. 2015): points in lexicographic order find their front by
//! bisection, because a point that a front dominates is dominated by every earlier front as well.

mod keys;
mod layer;
mod rows;
mod tree;

use std::cmp::Ordering;

pub(crate) use self::{
    keys::{sorted_column, sorted_pairs},
    rows::{contenders, no_worse, order},
};
use self::{
    layer::Layer,
    rows::{Rows, flatten},
};

/// Whether `a` is nowhere worse than `b` and somewhere better.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    let mut better = false;
    for (x, y) in a.iter().zip(b) {
        match order(*x, *y) {
            Ordering::Greater => return false,
            Ordering::Less => better = true,
            Ordering::Equal => {}
        }
    }
    better
}

/// Indices of the points that no other dominates, ascending; of equal points, all.
///
/// `O(n log n)` for two and three objectives, `O(n f)` for a front of `f` points otherwise.
pub fn front<P: AsRef<[f64]>>(points: &[P]) -> Vec<usize> {
    let (width, flat) = flatten(points);
    if width == 0 {
        return (0..points.len()).collect();
    }
    front_of(width, &flat)
}

/// [`front`] of points of at least one objective that lie one after another, without NaN.
pub(crate) fn front_of(width: usize, flat: &[f64]) -> Vec<usize> {
    let rows = Rows::new(width, flat, &contenders(width, flat));
    let mut best = Layer::new(width);
    let mut members: Vec<usize> = Vec::new();
    for (values, group) in rows.groups() {
        if !best.covers(values) {
            best.insert(values);
            members.extend(group);
        }
    }
    members.sort_unstable();
    members
}

/// The points' indices by rank: the front, the front of the rest, and so on; ascending within a rank.
///
/// `O(n log n)` for two objectives, `O(n log^2 n)` for three.
pub fn sort<P: AsRef<[f64]>>(points: &[P]) -> Vec<Vec<usize>> {
    let (width, flat) = flatten(points);
    let every: Vec<usize> = (0..points.len()).collect();
    let rows = Rows::new(width, &flat, &every);
    let mut rank_of = vec![0; points.len()];
    let count = if width == 2 {
        // a front of pairs is told by its least second value: bare numbers are the fastest to bisect
        let mut least: Vec<f64> = Vec::new();
        rows.assign(&mut rank_of, |values| {
            let rank = least.partition_point(|l| *l <= values[1]);
            match least.get_mut(rank) {
                Some(l) => *l = values[1],
                None => least.push(values[1]),
            }
            rank
        });
        least.len()
    } else {
        let mut layers: Vec<Layer> = Vec::new();
        rows.assign(&mut rank_of, |values| {
            let rank = layers.partition_point(|layer| layer.covers(values));
            if rank == layers.len() {
                layers.push(Layer::new(width));
            }
            layers[rank].insert(values);
            rank
        });
        layers.len()
    };
    let mut sizes = vec![0; count];
    rank_of.iter().for_each(|rank| sizes[*rank] += 1);
    let mut ranks: Vec<Vec<usize>> = sizes.into_iter().map(Vec::with_capacity).collect();
    (0..points.len()).for_each(|i| ranks[rank_of[i]].push(i));
    ranks
}

/// The ranks of [`sort`] until they hold `enough` points together: cheaper where only the best are of interest.
pub fn sort_best<P: AsRef<[f64]>>(points: &[P], enough: usize) -> Vec<Vec<usize>> {
    let mut ranks = peel(points);
    let mut best: Vec<Vec<usize>> = Vec::new();
    let mut held = 0;
    while held < enough
        && let Some(rank) = ranks.next()
    {
        held += rank.len();
        best.push(rank);
    }
    best
}

/// The ranks of [`sort`], each found when it is asked for.
pub(crate) fn peel<P: AsRef<[f64]>>(points: &[P]) -> impl Iterator<Item = Vec<usize>> {
    let mut left: Vec<usize> = (0..points.len()).collect();
    std::iter::from_fn(move || {
        if left.is_empty() {
            return None;
        }
        let rest: Vec<&[f64]> = left.iter().map(|i| points[*i].as_ref()).collect();
        let best = front(&rest);
        let rank: Vec<usize> = best.iter().map(|i| left[*i]).collect();
        let mut on_front = vec![false; left.len()];
        best.iter().for_each(|i| on_front[*i] = true);
        let mut flags = on_front.into_iter();
        left.retain(|_| !flags.next().unwrap_or(false));
        Some(rank)
    })
}

/// Crowding distance of each member (Deb et al. 2002): how much room its neighbours leave it; the ends have infinite.
///
/// Objectives that do not vary among the members add nothing.
pub fn crowding<P: AsRef<[f64]>>(points: &[P], members: &[usize]) -> Vec<f64> {
    let mut distance = vec![0.0; members.len()];
    let width = members.first().map_or(0, |i| points[*i].as_ref().len());
    for objective in 0..width {
        let value = |at: usize| points[members[at]].as_ref()[objective];
        let mut by_value: Vec<usize> = (0..members.len()).collect();
        by_value.sort_by(|a, b| order(value(*a), value(*b)));
        let (first, last) = (by_value[0], by_value[members.len() - 1]);
        let range = value(last) - value(first);
        if !(range > 0.0 && range.is_finite()) {
            continue;
        }
        distance[first] = f64::INFINITY;
        distance[last] = f64::INFINITY;
        for three in by_value.windows(3) {
            distance[three[1]] += (value(three[2]) - value(three[0])) / range;
        }
    }
    distance
}

/// The members with their crowding distances, those with the most room first.
pub(crate) fn roomiest<P: AsRef<[f64]>>(points: &[P], members: Vec<usize>) -> Vec<(usize, f64)> {
    let room = crowding(points, &members);
    let mut ordered: Vec<(usize, f64)> = members.into_iter().zip(room).collect();
    ordered.sort_by(|a, b| b.1.total_cmp(&a.1));
    ordered
}

/// A Pareto front that grows: holds the points that no other one seen so far dominates.
#[derive(Clone, Debug)]
pub struct Front<T> {
    members: Vec<(Vec<f64>, T)>,
}

impl<T> Default for Front<T> {
    fn default() -> Self {
        Front { members: Vec::new() }
    }
}

impl<T> Front<T> {
    /// Adds a point and drops those that it dominates; whether it is on the front. A point with NaN never is.
    pub fn insert(&mut self, values: Vec<f64>, item: T) -> bool {
        if values.iter().any(|v| v.is_nan()) || self.members.iter().any(|(m, _)| dominates(m, &values)) {
            return false;
        }
        self.members.retain(|(m, _)| !dominates(&values, m));
        self.members.push((values, item));
        true
    }

    /// The members with their values, in the order in which they came.
    pub fn members(&self) -> &[(Vec<f64>, T)] {
        &self.members
    }
}

//! Points in lexicographic order, equal ones together.

use std::cmp::Ordering;

use super::keys::sorted_column;

/// Compares two values of which less is better; NaN counts as infinity.
pub(crate) fn order(a: f64, b: f64) -> Ordering {
    number(a).partial_cmp(&number(b)).expect("neither is NaN")
}

pub(super) fn number(v: f64) -> f64 {
    if v.is_nan() { f64::INFINITY } else { v }
}

/// The points in one block, sorted, with NaN made infinite.
pub(super) struct Rows {
    /// Number of objectives.
    pub(super) width: usize,
    values: Vec<f64>,
    /// Which point each row is.
    sorted: Vec<usize>,
}

impl Rows {
    /// Of the points at `chosen`, ascending, in the block that holds all of them one after another.
    pub(super) fn new(width: usize, flat: &[f64], chosen: &[usize]) -> Rows {
        let row = |i: usize| &flat[i * width..][..width];
        let first = |i: &usize| row(*i).first().copied().unwrap_or(0.0);
        let mut sorted = sorted_column(chosen.iter().map(first));
        sorted.iter_mut().for_each(|at| *at = chosen[*at]);
        let same = |a: &usize, b: &usize| first(a) == first(b);
        for ties in sorted.chunk_by_mut(same).filter(|ties| ties.len() > 1) {
            ties.sort_unstable_by(|a, b| compare(row(*a), row(*b)).then(a.cmp(b)));
        }
        let mut values = Vec::with_capacity(sorted.len() * width);
        sorted.iter().for_each(|i| values.extend_from_slice(row(*i)));
        Rows {
            width,
            values,
            sorted,
        }
    }

    /// The points in lexicographic order, equal ones together: their values, and their indices ascending.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&[f64], &[usize])> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let values = self.row(start)?;
            let from = start;
            start += 1;
            while self.row(start) == Some(values) {
                start += 1;
            }
            Some((values, &self.sorted[from..start]))
        })
    }

    /// Gives each point the rank that is found for its values, in lexicographic order, once for equal ones.
    pub(super) fn assign(&self, rank_of: &mut [usize], mut rank: impl FnMut(&[f64]) -> usize) {
        for (values, group) in self.groups() {
            let rank = rank(values);
            group.iter().for_each(|i| rank_of[*i] = rank);
        }
    }

    fn row(&self, at: usize) -> Option<&[f64]> {
        (at < self.sorted.len()).then(|| &self.values[at * self.width..][..self.width])
    }
}

/// The points' values one after another, NaN made infinite, and how many each has.
///
/// Panics if the points differ in their number of objectives.
pub(super) fn flatten<P: AsRef<[f64]>>(points: &[P]) -> (usize, Vec<f64>) {
    let width = points.first().map_or(0, |p| p.as_ref().len());
    let mut flat = Vec::with_capacity(points.len() * width);
    for point in points {
        assert_eq!(point.as_ref().len(), width, "every point has the same objectives");
        flat.extend(point.as_ref().iter().map(|v| number(*v)));
    }
    (width, flat)
}

/// The indices of the points that a few good ones among them do not dominate: often far fewer, and soon found.
///
/// Good ones have the least sums of values, each as a share of its objective's range.
pub(crate) fn contenders(width: usize, flat: &[f64]) -> Vec<usize> {
    let row = |i: usize| &flat[i * width..][..width];
    let Some(first) = flat.get(..width).filter(|_| width > 0) else {
        return Vec::new();
    };
    let (mut low, mut high) = (first.to_vec(), first.to_vec());
    for row in flat.chunks_exact(width) {
        for ((l, h), v) in low.iter_mut().zip(&mut high).zip(row) {
            *l = if v < l { *v } else { *l };
            *h = if v > h { *v } else { *h };
        }
    }
    // an objective of one value or of endless range says nothing here
    let share = |(l, h): (&f64, &f64)| Some((h - l).recip()).filter(|w| w.is_finite()).unwrap_or(0.0);
    let weight: Vec<f64> = low.iter().zip(&high).map(share).collect();
    let sum = |i: usize| row(i).iter().zip(&weight).map(|(v, w)| v * w).sum::<f64>();
    let mut left: Vec<(f64, usize)> = (0..flat.len() / width).map(|i| (sum(i), i)).collect();
    let mut above = f64::NEG_INFINITY;
    loop {
        let (mut least, mut good) = (f64::INFINITY, None);
        for (sum, i) in &left {
            if *sum < least && *sum > above {
                (least, good) = (*sum, Some(*i));
            }
        }
        let Some(good) = good.map(row) else { break };
        let before = left.len();
        left.retain(|(_, i)| !no_worse(good, row(*i)) || good == row(*i));
        above = least;
        // the next one would have to earn its pass as well
        if before - left.len() < before / 8 + 1 {
            break;
        }
    }
    left.into_iter().map(|(_, i)| i).collect()
}

/// Whether `a` is nowhere worse than `b`, neither with NaN.
pub(crate) fn no_worse(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b)
}

fn compare(a: &[f64], b: &[f64]) -> Ordering {
    let pairs = a.iter().zip(b);
    pairs
        .map(|(x, y)| order(*x, *y))
        .find(|o| o.is_ne())
        .unwrap_or(Ordering::Equal)
}

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

/// The indices of the points that a good one among them does not dominate: often far fewer, and found in one pass.
///
/// The good one has the least sum of values, each as a share of its objective's range.
pub(super) fn contenders(width: usize, flat: &[f64]) -> Vec<usize> {
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
    let weight: Vec<f64> = low.iter().zip(&high).map(|(l, h)| (h - l).recip()).collect();
    let weight: Vec<f64> = weight
        .into_iter()
        .map(|w| if w.is_finite() { w } else { 0.0 })
        .collect();
    let (mut good, mut least) = (first, f64::INFINITY);
    for row in flat.chunks_exact(width) {
        let sum: f64 = row.iter().zip(&weight).map(|(v, w)| v * w).sum();
        if sum < least {
            (good, least) = (row, sum);
        }
    }
    let rows = flat.chunks_exact(width).enumerate();
    rows.filter(|(_, row)| !no_worse(good, row) || good == *row)
        .map(|(i, _)| i)
        .collect()
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

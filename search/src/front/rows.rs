//! Points in lexicographic order, equal ones together.

use std::cmp::Ordering;

/// Compares two values of which less is better; NaN counts as infinity.
pub(crate) fn order(a: f64, b: f64) -> Ordering {
    number(a).partial_cmp(&number(b)).expect("neither is NaN")
}

fn number(v: f64) -> f64 {
    if v.is_nan() { f64::INFINITY } else { v }
}

/// The points in one block, with NaN made infinite, and their lexicographic order.
pub(super) struct Rows {
    /// Number of objectives.
    pub(super) width: usize,
    values: Vec<f64>,
    sorted: Vec<usize>,
}

impl Rows {
    /// Panics if the points differ in their number of objectives.
    pub(super) fn new<P: AsRef<[f64]>>(points: &[P]) -> Rows {
        let width = points.first().map_or(0, |p| p.as_ref().len());
        let mut values = Vec::with_capacity(points.len() * width);
        for point in points {
            assert_eq!(point.as_ref().len(), width, "every point has the same objectives");
            values.extend(point.as_ref().iter().map(|v| number(*v)));
        }
        let mut rows = Rows {
            width,
            values,
            sorted: Vec::new(),
        };
        let mut sorted: Vec<usize> = (0..points.len()).collect();
        sorted.sort_unstable_by(|a, b| rows.compare(*a, *b).then(a.cmp(b)));
        rows.sorted = sorted;
        rows
    }

    /// One point's values.
    pub(super) fn values(&self, index: usize) -> &[f64] {
        &self.values[index * self.width..][..self.width]
    }

    /// The indices of the points in lexicographic order, equal points in one group.
    pub(super) fn groups(&self) -> impl Iterator<Item = &[usize]> {
        self.sorted
            .chunk_by(|a, b| self.compare(*a, *b) == Ordering::Equal)
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        let pairs = self.values(a).iter().zip(self.values(b));
        pairs
            .map(|(x, y)| order(*x, *y))
            .find(|o| o.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

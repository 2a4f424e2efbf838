//! Points in nested boxes: who is no worse than a given point, without asking each.

use std::cell::Cell;

use super::rows::no_worse;

/// Most points of a box before it is divided.
const LEAF: usize = 16;

/// A growing set of points, each box divided at the median of its widest side.
pub(super) struct Tree {
    width: usize,
    /// The root is the first.
    cells: Vec<Content>,
    /// The least of each coordinate inside, box after box: a point that is better than this somewhere has no
    /// dominator in there.
    lows: Vec<f64>,
    /// Room for the boxes that are still to be looked into.
    open: Cell<Vec<usize>>,
}

enum Content {
    /// Point after point.
    Points(Vec<f64>),
    /// Points below `at` in coordinate `axis` are in `left`, the others in `right`.
    Divided {
        axis: usize,
        at: f64,
        left: usize,
        right: usize,
    },
}

impl Tree {
    pub(super) fn new(width: usize) -> Tree {
        Tree {
            width,
            cells: vec![Content::Points(Vec::new())],
            lows: vec![f64::INFINITY; width],
            open: Cell::default(),
        }
    }

    /// Whether a point of the set is no worse than `point` in any coordinate.
    pub(super) fn covers(&self, point: &[f64]) -> bool {
        let mut open = self.open.take();
        open.clear();
        open.push(0);
        let mut covered = false;
        while let Some(index) = open.pop().filter(|_| !covered) {
            if !no_worse(&self.lows[index * self.width..][..self.width], point) {
                continue;
            }
            match &self.cells[index] {
                Content::Points(points) => {
                    covered = points.chunks_exact(self.width).any(|p| no_worse(p, point));
                }
                Content::Divided { left, right, .. } => open.extend([*right, *left]),
            }
        }
        self.open.set(open);
        covered
    }

    pub(super) fn insert(&mut self, point: &[f64]) {
        let mut index = 0;
        loop {
            let low = &mut self.lows[index * self.width..][..self.width];
            low.iter_mut()
                .zip(point)
                .for_each(|(l, p)| *l = if p < l { *p } else { *l });
            match &mut self.cells[index] {
                Content::Divided {
                    axis,
                    at,
                    left,
                    right,
                } => {
                    index = if point[*axis] < *at { *left } else { *right };
                }
                Content::Points(points) => {
                    points.extend(point);
                    if points.len() > LEAF * self.width {
                        self.divide(index);
                    }
                    return;
                }
            }
        }
    }

    /// Divides a box of points, unless they are all equal.
    fn divide(&mut self, index: usize) {
        let Content::Points(points) = &self.cells[index] else {
            return;
        };
        let column = |axis: usize| points.iter().skip(axis).step_by(self.width).copied();
        let side = |axis: usize| {
            let least = column(axis).fold(f64::INFINITY, f64::min);
            let most = column(axis).fold(f64::NEG_INFINITY, f64::max);
            // equal infinities have no distance
            if least == most { 0.0 } else { most - least }
        };
        let Some(axis) = (0..self.width).max_by(|a, b| side(*a).total_cmp(&side(*b))) else {
            return;
        };
        let mut values: Vec<f64> = column(axis).collect();
        values.sort_unstable_by(f64::total_cmp);
        let middle = values[values.len() / 2];
        // where the lower half is all equal, the median would leave nothing below it
        let Some(at) = values.iter().copied().find(|v| *v > values[0] && *v >= middle) else {
            return;
        };
        let (mut below, mut above) = (Vec::new(), Vec::new());
        for point in points.chunks_exact(self.width) {
            if point[axis] < at { &mut below } else { &mut above }.extend(point);
        }
        let left = self.cells.len();
        for points in [below, above] {
            let least = |axis: usize| {
                let column = points.iter().skip(axis).step_by(self.width);
                column.copied().fold(f64::INFINITY, f64::min)
            };
            self.lows.extend((0..self.width).map(least));
            self.cells.push(Content::Points(points));
        }
        self.cells[index] = Content::Divided {
            axis,
            at,
            left,
            right: left + 1,
        };
    }
}

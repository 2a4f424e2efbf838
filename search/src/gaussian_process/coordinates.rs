//! Where candidates lie, such that distances mean something for names and for parameters that are not active.
//!
//! A number is its unit coordinate. A number with a condition has a second coordinate, so that "not active" is a point
//! of its own, half a unit away from the middle of the range (cf. the arc kernel of Swersky et al. 2013). Names are
//! corners of a simplex: all equally far apart, and not being active is one more name. All of these are distances in a
//! Euclidean space, so a Matérn kernel over them is positive definite.

use spaces::{Domain, Space};

/// How far a number that is not active lies from the middle of its range.
const ASIDE: f64 = 0.5;

/// Domains with at most so many values are worth remembering by value.
const FEW: u64 = 1024;

/// What one parameter contributes to a distance.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Axis {
    /// A number that is always active: one column.
    Number,
    /// A number that may be inactive: two columns.
    Conditional,
    /// A name, or none, by its place in the list: one column.
    Name { choices: usize },
}

/// How candidates of a space become points.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    axes: Vec<Axis>,
    finite: Vec<bool>,
}

/// Points, column by column.
#[derive(Clone, Debug)]
pub(crate) struct Points {
    pub(crate) n: usize,
    columns: Vec<Vec<f64>>,
}

impl Points {
    /// The first of them.
    pub(crate) fn first(&self, n: usize) -> Points {
        Points {
            n,
            columns: self.columns.iter().map(|c| c[..n].to_vec()).collect(),
        }
    }

    /// The columns of one of them.
    pub(crate) fn row(&self, i: usize) -> Vec<f64> {
        self.columns.iter().map(|c| c[i]).collect()
    }
}

impl Layout {
    /// Of candidates with so many further numbers after the space's own.
    pub(crate) fn new(space: &Space, further: usize) -> Layout {
        let axis = |p: &spaces::Parameter| match &p.domain {
            Domain::Categorical { choices } if !p.domain.is_ordered() => Axis::Name {
                choices: choices.len(),
            },
            _ if p.condition.is_always() => Axis::Number,
            _ => Axis::Conditional,
        };
        let finite = |p: &spaces::Parameter| p.domain.cardinality().is_some_and(|n| n <= FEW);
        Layout {
            axes: space
                .parameters()
                .iter()
                .map(axis)
                .chain(std::iter::repeat_n(Axis::Number, further))
                .collect(),
            finite: space
                .parameters()
                .iter()
                .map(finite)
                .chain(std::iter::repeat_n(false, further))
                .collect(),
        }
    }

    /// Number of distances between two points.
    pub(crate) fn len(&self) -> usize {
        self.axes.len()
    }

    /// The columns of a point whose unit coordinates are given, `None` where inactive.
    pub(crate) fn place(&self, unit: &[Option<f64>], point: &mut Vec<f64>) {
        point.clear();
        for (axis, u) in self.axes.iter().zip(unit) {
            match (axis, u) {
                (Axis::Number, u) => point.push(u.unwrap_or(0.5)),
                (Axis::Conditional, Some(u)) => point.extend([*u, 0.0]),
                (Axis::Conditional, None) => point.extend([0.5, ASIDE]),
                (Axis::Name { choices }, Some(u)) => {
                    point.push(((u * *choices as f64) as usize).min(choices - 1) as f64);
                }
                (Axis::Name { .. }, None) => point.push(-1.0),
            }
        }
    }

    /// Points given by their unit coordinates.
    pub(crate) fn points<'u>(&self, units: impl IntoIterator<Item = &'u [Option<f64>]>) -> Points {
        let mut points = Points {
            n: 0,
            columns: Vec::new(),
        };
        let mut row = Vec::new();
        for unit in units {
            self.place(unit, &mut row);
            points.columns.resize(row.len(), Vec::new());
            points
                .columns
                .iter_mut()
                .zip(&row)
                .for_each(|(column, v)| column.push(*v));
            points.n += 1;
        }
        points
    }

    /// Number of columns of an axis.
    pub(crate) fn columns(&self, axis: usize) -> usize {
        if self.axes[axis] == Axis::Conditional {
            2
        } else {
            1
        }
    }

    /// Whether an axis has few distinct coordinates.
    pub(crate) fn is_finite(&self, axis: usize) -> bool {
        self.finite[axis]
    }

    /// Tells the coordinates of one finite axis apart.
    pub(crate) fn key(&self, coordinates: &[f64]) -> u64 {
        match coordinates {
            [_, aside] if *aside > 0.0 => u64::MAX,
            [u, ..] => u.to_bits(),
            [] => 0,
        }
    }

    /// The distances along one axis, whose columns begin at `at`, of `point` to the first points, as many as `out` holds.
    pub(crate) fn distances(&self, point: &[f64], points: &Points, axis: usize, at: usize, out: &mut [f64]) {
        let near = &points.columns[at][..out.len()];
        match self.axes[axis] {
            Axis::Number => {
                let x = point[at];
                out.iter_mut().zip(near).for_each(|(d, y)| *d = (x - y).abs());
            }
            Axis::Conditional => {
                let (x, aside) = (point[at], point[at + 1]);
                let second = &points.columns[at + 1][..out.len()];
                for ((d, y), z) in out.iter_mut().zip(near).zip(second) {
                    *d = ((x - y) * (x - y) + (aside - z) * (aside - z)).sqrt();
                }
            }
            Axis::Name { .. } => {
                let x = point[at];
                out.iter_mut()
                    .zip(near)
                    .for_each(|(d, y)| *d = if x == *y { 0.0 } else { 1.0 });
            }
        }
    }

    /// For each axis, the distances of all pairs of points: of the second to the first, of the third to both, and on.
    pub(crate) fn pairs(&self, points: &Points) -> Vec<Vec<f64>> {
        let mut pairs = vec![vec![0.0; points.n * points.n.saturating_sub(1) / 2]; self.len()];
        let mut row = Vec::new();
        for i in 1..points.n {
            row.clear();
            row.extend(points.columns.iter().map(|c| c[i]));
            let (start, mut column) = (i * (i - 1) / 2, 0);
            for (axis, all) in pairs.iter_mut().enumerate() {
                self.distances(&row, points, axis, column, &mut all[start..start + i]);
                column += self.columns(axis);
            }
        }
        pairs
    }
}

//! One front, fed in lexicographic order.

use super::tree::Tree;

/// The points of one front. They come in lexicographic order and are distinct, so the first objective is never
/// compared: who came earlier is no worse in it, and is better in some other one or in this.
pub(super) enum Layer {
    /// At most one objective: the first point covers every later one.
    Single(bool),
    /// Two objectives: the least second value so far.
    Least(f64),
    /// Three: the outline in the other two.
    Outline(Staircase),
    /// More: the other objectives.
    Boxes(Tree),
}

impl Layer {
    pub(super) fn new(width: usize) -> Layer {
        match width {
            0 | 1 => Layer::Single(false),
            2 => Layer::Least(f64::NAN),
            3 => Layer::Outline(Staircase::default()),
            _ => Layer::Boxes(Tree::new(width - 1)),
        }
    }

    /// Whether a point of this front dominates `values`, which comes after all of them.
    pub(super) fn covers(&self, values: &[f64]) -> bool {
        match self {
            Layer::Single(met) => *met,
            Layer::Least(least) => *least <= values[1],
            Layer::Outline(outline) => outline.covers(values[1], values[2]),
            Layer::Boxes(tree) => tree.covers(&values[1..]),
        }
    }

    /// Adds a point that this front does not cover.
    pub(super) fn insert(&mut self, values: &[f64]) {
        match self {
            Layer::Single(met) => *met = true,
            Layer::Least(least) => *least = values[1],
            Layer::Outline(outline) => {
                outline.insert(values[1], values[2]);
            }
            Layer::Boxes(tree) => tree.insert(&values[1..]),
        }
    }
}

/// Non-dominated pairs: the first value ascends and the second descends.
#[derive(Clone, Debug, Default)]
pub(super) struct Staircase {
    steps: Vec<(f64, f64)>,
}

impl Staircase {
    /// Whether a step is no worse than the pair in both values.
    pub(super) fn covers(&self, y: f64, z: f64) -> bool {
        let after = self.steps.partition_point(|step| step.0 <= y);
        after > 0 && self.steps[after - 1].1 <= z
    }

    /// Adds a pair that is not covered and drops the steps that it covers.
    pub(super) fn insert(&mut self, y: f64, z: f64) {
        let (first, end) = self.covered_by(y, z);
        self.steps.splice(first..end, [(y, z)]);
    }

    /// The range of the steps that are no better than the pair in either value.
    fn covered_by(&self, y: f64, z: f64) -> (usize, usize) {
        let first = self.steps.partition_point(|step| step.0 < y);
        let end = first + self.steps[first..].partition_point(|step| step.1 >= z);
        (first, end)
    }
}

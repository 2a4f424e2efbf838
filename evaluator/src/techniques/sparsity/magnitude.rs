//! Magnitude (1510.00149): the smallest weights of a matrix go, whichever rows they are in; of a pattern's groups the smallest of each.

use super::{About, form::Pattern, select::highest, sparse::SparseShape};

pub(super) const ABOUT: About = About {
    name: "magnitude",
    doc: "the smallest weights of each matrix go",
    paper: "1510.00149",
};

/// Which weights `[rows, columns]` stay.
pub(super) fn kept(weights: &[f32], shape: SparseShape, pattern: Pattern) -> Vec<bool> {
    let scores: Vec<f64> = weights.iter().map(|w| f64::from(w.abs())).collect();
    highest(&scores, weights.len(), shape, pattern)
}

//! Magnitude (1510.00149): the smallest weights of a matrix go, whichever rows they are in; of a pattern's groups the smallest of each.

use super::About;

pub(super) const ABOUT: About = About {
    name: "magnitude",
    doc: "the smallest weights of each matrix go",
    paper: "1510.00149",
};

/// What each weight is judged by.
pub(super) fn scores(weights: &[f32]) -> Vec<f64> {
    weights.iter().map(|w| f64::from(w.abs())).collect()
}

//! Wanda (2306.11695): of each row the weights with the smallest `|w_ij| · ‖x_j‖₂` go.

use super::About;
use crate::techniques::calibration::InputStatistics;

pub(super) const ABOUT: About = About {
    name: "wanda",
    doc: "of each row the weights go that are smallest when multiplied with the size of their inputs",
    paper: "2306.11695",
};

/// What each weight of rows of `columns` is judged by, for inputs like these.
pub(super) fn scores(weights: &[f32], columns: usize, inputs: Option<&InputStatistics>) -> Vec<f64> {
    let norm = |j: usize| inputs.map_or(1.0, |inputs| inputs.second_moment[j * columns + j].sqrt());
    let norms: Vec<f64> = (0..columns).map(norm).collect();
    let row = |weights: &[f32]| -> Vec<f64> {
        let scores = weights.iter().zip(&norms);
        scores.map(|(w, norm)| f64::from(w.abs()) * norm).collect()
    };
    weights.chunks_exact(columns).flat_map(row).collect()
}

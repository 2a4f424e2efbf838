//! Which of some weights stay.

use super::{form::Pattern, sparse::SparseShape};

/// Marks the weights with the highest scores: of each group of a pattern, else of each `of` weights that follow one another, which are rows or
/// a whole matrix. Of equal ones the earlier stay.
pub(super) fn highest(scores: &[f64], of: usize, shape: SparseShape, pattern: Pattern) -> Vec<bool> {
    let (size, stay) = match pattern.group() {
        Some(group) => (group, group / 2),
        None => (of, of / shape.columns * shape.kept),
    };
    let mut kept = vec![false; scores.len()];
    for (scores, kept) in scores.chunks_exact(size).zip(kept.chunks_exact_mut(size)) {
        mark_highest(scores, stay, kept);
    }
    kept
}

/// Marks the `stay` highest scores, of equal ones the earlier.
pub(super) fn mark_highest(scores: &[f64], stay: usize, kept: &mut [bool]) {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    if stay < order.len() {
        order.select_nth_unstable_by(stay, |a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    }
    for i in &order[..stay] {
        kept[*i] = true;
    }
}

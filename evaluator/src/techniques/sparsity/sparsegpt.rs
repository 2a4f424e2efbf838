//! `SparseGPT` (2301.00774): weights go column by column, and those to the right of one that goes make up for it.
//!
//! With `H = X Xᵀ + λ I`, `λ` a hundredth of its mean diagonal, and `H⁻¹ = Uᵀ U`, the weight `w` of column `j` costs `(w / U_jj)²`, and when it
//! goes `w / U_jj · U_j` is taken from the columns after it. The paper's factor 2 of `H` changes neither. As in the authors' program, what goes
//! is chosen for 128 columns at once, and columns after these are changed once for all of them.

use rayon::prelude::*;

use super::{About, form::Pattern, select::mark_highest, sparse::SparseShape};
use crate::{
    counter,
    techniques::{
        calibration::InputStatistics,
        inverse_factor::{damped, upper_of_inverse},
    },
};

pub(super) const ABOUT: About = About {
    name: "sparsegpt",
    doc: "of each row the weights go that the others can best make up for, and these do",
    paper: "2301.00774",
};

/// Columns in which weights are chosen at once.
const BLOCK: usize = 128;

/// Changes the weights `[rows, columns]` that stay, for inputs like these, and tells which these are.
pub(super) fn prune(
    weights: &mut [f32],
    shape: SparseShape,
    pattern: Pattern,
    inputs: Option<&InputStatistics>,
) -> Vec<bool> {
    let n = shape.columns;
    // inputs that are all zero tell nothing, and neither do those that nobody has seen
    let moment = inputs.and_then(|inputs| damped(&inputs.second_moment, n));
    let identity = || (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect();
    let upper = upper_of_inverse(moment.unwrap_or_else(identity), n);
    counter::add_macs(shape.rows * n * (n - 1) / 2);
    let mut kept = vec![false; weights.len()];
    weights
        .par_chunks_exact_mut(n)
        .zip(kept.par_chunks_exact_mut(n))
        .for_each(|(row, kept)| prune_row(row, kept, &upper, shape.kept, pattern));
    kept
}

fn prune_row(row: &mut [f32], kept: &mut [bool], upper: &[f64], stay: usize, pattern: Pattern) {
    let n = row.len();
    let mut weights: Vec<f64> = row.iter().map(|w| f64::from(*w)).collect();
    let cost = |weights: &[f64], j: usize| (weights[j] / upper[j * n + j]).powi(2);
    // how many stay before a column: the row's share, rounded
    let before = |column: usize| (stay * column + n / 2) / n;
    for begin in (0..n).step_by(BLOCK) {
        let end = (begin + BLOCK).min(n);
        let mut errors = [0.0; BLOCK];
        for j in begin..end {
            // groups are chosen where they begin, so that the weights before have been made up for
            let chosen = match pattern.group() {
                Some(group) => j.is_multiple_of(group).then(|| (j + group, group / 2)),
                None => (j == begin).then(|| (end, before(end) - before(begin))),
            };
            if let Some((to, stay)) = chosen {
                let costs: Vec<f64> = (j..to).map(|j| cost(&weights, j)).collect();
                mark_highest(&costs, stay, &mut kept[j..to]);
            }
            let line = &upper[j * n..(j + 1) * n];
            let error = if kept[j] { 0.0 } else { weights[j] / line[j] };
            subtract(&mut weights[j + 1..end], error, &line[j + 1..end]);
            errors[j - begin] = error;
        }
        for j in begin..end {
            subtract(
                &mut weights[end..],
                errors[j - begin],
                &upper[j * n + end..(j + 1) * n],
            );
        }
    }
    for ((w, new), kept) in row.iter_mut().zip(&weights).zip(kept.iter()) {
        *w = if *kept { *new as f32 } else { 0.0 };
    }
}

fn subtract(from: &mut [f64], factor: f64, line: &[f64]) {
    for (x, y) in from.iter_mut().zip(line) {
        *x -= factor * y;
    }
}

//! Packing of what is left of a matrix from which single weights were removed (techniques in this order: 2301.00774, 3.5).
//!
//! Levels are those of the nonzeros of a group of columns, and codes are theirs alone: what is removed has none and stays zero.

use burn::tensor::backend::Backend;
use rayon::prelude::*;

use super::{Method, QuantizationPlan, gptq, levels::EvenLevels, note_unjudged};
use crate::{
    counter,
    techniques::{
        calibration::Statistics,
        sparsity::{
            coded::NonzeroCodes,
            sparse::{HostNonzeros, Sparse, SparseWeights},
        },
    },
};

/// The counter of nonzeros that were packed.
pub(crate) const ACTIVITY: &str = "packed_nonzeros";

/// Packs the nonzeros of the matrix of this path, where they are floats.
pub(super) fn pack<B: Backend>(
    sparse: &mut Sparse<B>,
    path: &str,
    plan: QuantizationPlan,
    inputs: &Statistics,
) {
    let (weights, device) = (sparse.to_host(), sparse.device());
    let HostNonzeros::Floats(floats) = &weights.values else {
        return;
    };
    let shape = weights.shape();
    for name in [super::PACKED, ACTIVITY] {
        counter::add_activity(name, shape.nonzeros());
    }
    let judged = match plan.method {
        Method::Gptq => {
            let factor = inputs
                .get(path)
                .and_then(|inputs| gptq::factor(inputs, shape.columns));
            if factor.is_none() {
                note_unjudged(path, plan.shape(shape.rows, shape.columns));
            }
            factor
        }
        _ => None,
    };
    let codes = match judged {
        Some(factor) => by_gptq(&weights, floats, plan, &factor),
        None => nearest(&weights, floats, plan),
    };
    *sparse = weights.with_codes(codes).into_module(&device);
}

/// Codes of the levels nearest to nonzeros `floats`.
fn nearest(weights: &SparseWeights, floats: &[f32], plan: QuantizationPlan) -> NonzeroCodes {
    let shape = weights.shape();
    let mut codes = NonzeroCodes::new(shape, plan.of_nonzeros());
    let mut number = 0;
    for row in 0..shape.rows {
        let columns = weights.columns_of(row);
        for (g, first) in (0..shape.columns).step_by(plan.group).enumerate() {
            let before = |column: usize| columns.partition_point(|c| *c < column);
            let n = before(first + plan.group) - before(first);
            let group = &floats[number..number + n];
            let levels = EvenLevels::of(group, plan.bits);
            codes.set_levels(row, g, levels.scale, levels.zero);
            for (number, w) in (number..).zip(group) {
                codes.set_code(number, levels.code(*w));
            }
            number += n;
        }
    }
    codes
}

/// Codes of nonzeros `floats`, of which later columns make up for earlier ones, as `factor [columns, columns]` says.
fn by_gptq(weights: &SparseWeights, floats: &[f32], plan: QuantizationPlan, factor: &[f32]) -> NonzeroCodes {
    let shape = weights.shape();
    let dense = plan.shape(shape.rows, shape.columns);
    let mut codes = NonzeroCodes::new(shape, plan.of_nonzeros());
    let (mut tasks, mut number) = (vec![], 0);
    for first in (0..shape.rows).step_by(gptq::ROWS_PER_TASK) {
        let rows = first..(first + gptq::ROWS_PER_TASK).min(shape.rows);
        let columns: Vec<Vec<usize>> = rows.map(|row| weights.columns_of(row)).collect();
        let begin = number;
        number += columns.iter().map(Vec::len).sum::<usize>();
        tasks.push((first, columns, &floats[begin..number]));
    }
    let rounded: Vec<_> = tasks
        .par_iter()
        .map(|(_, columns, floats)| {
            let mut w = vec![0.0; columns.len() * shape.columns];
            let mut kept = vec![false; w.len()];
            let places = places(columns, shape.columns);
            for (place, float) in places.zip(*floats) {
                (w[place], kept[place]) = (*float, true);
            }
            gptq::round(w, Some(&kept), factor, dense)
        })
        .collect();
    let mut number = 0;
    for ((first, columns, _), (levels, of_weights)) in tasks.iter().zip(rounded) {
        for (i, levels) in levels.iter().enumerate() {
            let (row, group) = (first + i / dense.groups(), i % dense.groups());
            codes.set_levels(row, group, levels.scale, levels.zero);
        }
        for place in places(columns, shape.columns) {
            codes.set_code(number, of_weights[place].into());
            number += 1;
        }
    }
    counter::add_activity(gptq::ACTIVITY, shape.nonzeros());
    codes
}

/// Where the nonzeros of some rows stand in these rows, `[rows, columns]`.
fn places(columns_of_rows: &[Vec<usize>], columns: usize) -> impl Iterator<Item = usize> + '_ {
    let rows = columns_of_rows.iter().enumerate();
    rows.flat_map(move |(row, kept)| kept.iter().map(move |c| row * columns + c))
}

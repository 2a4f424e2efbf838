//! One round of a training in which single weights are removed.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::{
    SparsityPlan,
    judge::{Judge, Seen, kept},
};
use crate::{
    model::{Matrix, Part, Parts, is_block_matrix, join},
    techniques::calibration::Statistics,
};

/// What is known of single weights, by the names of their tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    /// The numbers of those that are left, rising; all, of a tensor that is not named.
    pub(crate) left: BTreeMap<String, Vec<i32>>,
    /// What movement says of each.
    pub(crate) scores: BTreeMap<String, Vec<f32>>,
}

/// Sets what a round of a training removes to zero, by what matrices are given, and gives the numbers of what is left of each tensor,
/// which is among what was left before.
pub(crate) fn remove<A: Backend>(
    model: &mut impl Parts<A>,
    plan: &SparsityPlan,
    round: u64,
    statistics: &Statistics,
    known: &Known,
) -> BTreeMap<String, Vec<i32>> {
    let form = plan.after_round(round);
    let mut left = BTreeMap::new();
    model.each_part("", &mut |path, part| {
        if let Part::Matrix(matrix) = part
            && is_block_matrix(path)
            && let Some(form) = form.at(path)
            && let Some(weight) = matrix.as_dense()
        {
            let (name, [rows, columns], device) = (join(path, "weight"), weight.dims(), weight.device());
            let mut weights: Vec<f32> = weight.into_data().iter::<f32>().collect();
            let alive = known.left.get(&name).map(|left| marks(left, weights.len()));
            let seen = Seen {
                inputs: statistics.get(path),
                alive: alive.as_deref(),
                scores: known.scores.get(&name).map(Vec::as_slice),
            };
            let shape = form.shape(rows, columns);
            let kept = kept(
                &mut weights,
                shape,
                form.pattern,
                Judge::Method(plan.method),
                seen,
            );
            for (w, kept) in weights.iter_mut().zip(&kept) {
                *w = if *kept { *w } else { 0.0 };
            }
            *matrix = Matrix::dense(Tensor::from_data(
                TensorData::new(weights, [rows, columns]),
                &device,
            ));
            let numbers = (0..).zip(kept).filter_map(|(i, kept)| kept.then_some(i));
            left.insert(name, numbers.collect());
        }
    });
    left
}

fn marks(numbers: &[i32], of: usize) -> Vec<bool> {
    let mut marks = vec![false; of];
    for number in numbers {
        marks[*number as usize] = true;
    }
    marks
}

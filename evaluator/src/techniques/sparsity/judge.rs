//! Which weights of one matrix stay.

use burn::tensor::{Tensor, backend::Backend};

use super::{
    Method, Pattern, SparseForm, magnitude,
    select::highest,
    sparse::{Sparse, SparseShape, SparseWeights},
    sparsegpt, wanda,
};
use crate::techniques::calibration::InputStatistics;

/// How the weights that stay are told.
#[derive(Clone, Copy)]
pub(super) enum Judge {
    /// By a method.
    Method(Method),
    /// They are those that the method has left: all but zeros, and as many of these as are wanted.
    Left(Method),
}

/// What is known of a matrix beside its weights.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen<'a> {
    /// Its inputs.
    pub(super) inputs: Option<&'a InputStatistics>,
    /// Which weights are left, where some are removed.
    pub(super) alive: Option<&'a [bool]>,
    /// What movement says of each weight.
    pub(super) scores: Option<&'a [f32]>,
}

/// A matrix `[rows, columns]` without the weights that are removed.
pub(super) fn pruned<B: Backend>(
    weight: Tensor<B, 2>,
    form: SparseForm,
    judge: Judge,
    seen: Seen,
) -> Sparse<B> {
    let ([rows, columns], device) = (weight.dims(), weight.device());
    let weights: Vec<f32> = weight.into_data().iter::<f32>().collect();
    prune(weights, form.shape(rows, columns), form.pattern, judge, seen).into_module(&device)
}

pub(super) fn prune(
    mut weights: Vec<f32>,
    shape: SparseShape,
    pattern: Pattern,
    judge: Judge,
    seen: Seen,
) -> SparseWeights {
    let kept = kept(&mut weights, shape, pattern, judge, seen);
    SparseWeights::new(shape, &weights, &kept)
}

/// Which weights `[rows, columns]` stay; `SparseGPT` changes them.
pub(super) fn kept(
    weights: &mut [f32],
    shape: SparseShape,
    pattern: Pattern,
    judge: Judge,
    seen: Seen,
) -> Vec<bool> {
    let (Judge::Method(method) | Judge::Left(method)) = judge;
    // magnitude and movement choose among all weights of a matrix, the others in each row
    let of = match method {
        Method::Magnitude | Method::Movement => weights.len(),
        Method::Wanda | Method::Sparsegpt => shape.columns,
    };
    let mut scores = match judge {
        Judge::Left(_) | Judge::Method(Method::Magnitude) => magnitude::scores(weights),
        Judge::Method(Method::Wanda) => wanda::scores(weights, shape.columns, seen.inputs),
        Judge::Method(Method::Movement) => match seen.scores {
            Some(scores) => scores.iter().copied().map(f64::from).collect(),
            // a matrix that no gradient has reached was moved nowhere
            None => vec![0.0; weights.len()],
        },
        Judge::Method(Method::Sparsegpt) => return sparsegpt::prune(weights, shape, pattern, seen.inputs),
    };
    if let Some(alive) = seen.alive {
        for (score, alive) in scores.iter_mut().zip(alive) {
            *score = if *alive { *score } else { f64::NEG_INFINITY };
        }
    }
    highest(&scores, of, shape, pattern)
}

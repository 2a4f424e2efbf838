//! AWQ (2306.00978): before rounding, channels whose inputs are large are multiplied up, so that they lose less, and what
//! makes the inputs is multiplied down by as much: `s = mean|x|^a`, with the `a` of 21 that loses least on calibration text.
//!
//! All matrices are judged by the inputs of the unrounded model, in one calibration.

#[cfg(test)]
mod tests;

use burn::tensor::{Tensor, TensorData, backend::Backend};
use rayon::prelude::*;

use super::{
    About, QuantizationPlan,
    folds::{self, Fold, Matrices, Reader, folds},
    packed::PackedShape,
    rtn,
};
use crate::{
    counter,
    model::{Model, ModelPlan, Pass},
    ops::{Ops, matmul},
    techniques::calibration::{InputStatistics, Statistics},
};

pub(super) const ABOUT: About = About {
    name: "awq",
    doc: "channels that are large on calibration text are scaled up before rounding, and what feeds them down",
    paper: "2306.00978",
};

/// The counter that is above zero once it has looked for scales; that the best ones are none is a result too.
pub(super) const ACTIVITY: &str = "awq_channels_judged";

/// Values of `a` from 0 to 1.
const GRID: usize = 21;

/// The least mean of a channel that counts, over the largest: scales of silent channels would grow without bound.
const LEAST: f32 = 1e-4;

/// Multiply-adds to scale a model, beside those of the calibration.
pub(super) fn macs(model: &ModelPlan, plan: QuantizationPlan) -> u64 {
    let readers = folds(model).into_iter().flat_map(|fold| fold.readers);
    let rounded = readers.filter(|reader| plan.at(&reader.path).is_some());
    rounded.map(|reader| reader.macs()).sum()
}

impl Reader {
    /// Multiply-adds to try all scales.
    fn macs(&self) -> u64 {
        (GRID * self.out * self.input * self.input) as u64
    }
}

/// Scales the model so that it is what it was before rounding, and loses less by rounding.
pub(super) fn scale<B: Ops>(
    model: &mut Model<B>,
    served: &ModelPlan,
    plan: QuantizationPlan,
    inputs: &Statistics,
) {
    folds::scale(model, served, |fold, matrices| {
        let scales = best_scales(fold, matrices, plan, inputs)?;
        counter::add_activity("awq_channels_scaled", scales.len());
        Some(scales)
    });
}

/// The scales of the shared input; `None` where the best are none, or no token reached any of the matrices.
fn best_scales<B: Ops>(
    fold: &Fold,
    matrices: &Matrices<B>,
    plan: QuantizationPlan,
    inputs: &Statistics,
) -> Option<Vec<f32>> {
    let mut judged = vec![];
    for reader in &fold.readers {
        // what is not rounded loses nothing, whatever the scales
        let Some(plan) = plan.at(&reader.path) else {
            continue;
        };
        match (inputs.get(&reader.path), matrices.get(&reader.path)) {
            (Some(seen), Some(weight)) => {
                judged.push(Judged::new(weight, seen, plan.shape(reader.out, reader.input)));
            }
            // an expert that no token reached has no say, and its work is left out
            _ => counter::add_skipped(Pass {
                forward: reader.macs(),
                backward: 0,
            }),
        }
    }
    let seen = fold.readers.iter().filter_map(|reader| inputs.get(&reader.path));
    let mean = mean(seen)?;
    counter::add_activity(ACTIVITY, mean.len());
    let (scales, power) = search(&mean, |scales| {
        judged.iter().map(|reader| reader.lost(scales)).sum()
    });
    (power > 0.0).then_some(scales)
}

/// The mean absolute input of each channel over all that was seen, the smallest ones raised; `None` of nothing.
fn mean<'a>(seen: impl Iterator<Item = &'a InputStatistics>) -> Option<Vec<f32>> {
    let (mut rows, mut sums) = (0, vec![]);
    for inputs in seen {
        rows += inputs.rows;
        sums.resize(inputs.absolute.len(), 0.0);
        for (sum, x) in sums.iter_mut().zip(&inputs.absolute) {
            *sum += x;
        }
    }
    let mean: Vec<f32> = sums.iter().map(|sum| (sum / rows as f64) as f32).collect();
    let largest = mean.iter().copied().fold(0.0, f32::max);
    (largest > 0.0).then(|| mean.iter().map(|x| x.max(LEAST * largest)).collect())
}

/// The scales that lose least, with their `a`; the smaller `a` where two lose the same.
fn search(mean: &[f32], lost: impl Fn(&[f32]) -> f64) -> (Vec<f32>, f32) {
    let (mut best, mut least) = ((vec![1.0; mean.len()], 0.0), f64::INFINITY);
    for step in 0..GRID {
        let a = step as f32 / (GRID - 1) as f32;
        let scales: Vec<f32> = mean.iter().map(|x| x.powf(a)).collect();
        let max = scales.iter().copied().fold(0.0, f32::max);
        let min = scales.iter().copied().fold(f32::INFINITY, f32::min);
        let middle = (max * min).sqrt();
        let scales: Vec<f32> = scales.iter().map(|s| s / middle).collect();
        let now = lost(&scales);
        if now < least {
            (best, least) = ((scales, a), now);
        }
    }
    best
}

/// A matrix whose loss is judged.
struct Judged<B: Backend> {
    weights: Vec<f32>,
    shape: PackedShape,
    second_moment: Tensor<B, 2>,
    device: B::Device,
}

impl<B: Ops> Judged<B> {
    fn new(weight: &Tensor<B, 2>, seen: &InputStatistics, shape: PackedShape) -> Self {
        let (n, device) = (shape.columns, weight.device());
        let moments: Vec<f32> = seen.second_moment.iter().map(|x| *x as f32).collect();
        Judged {
            weights: weight.clone().into_data().iter::<f32>().collect(),
            shape,
            second_moment: Tensor::from_data(TensorData::new(moments, [n, n]), &device),
            device,
        }
    }

    /// `‖X (W - Ŵ)ᵀ‖²`, with `Ŵ` rounded under these scales.
    fn lost(&self, scales: &[f32]) -> f64 {
        let PackedShape { rows, columns, .. } = self.shape;
        let lost = self.weights.par_chunks(columns).flat_map_iter(|row| {
            let mut rounded: Vec<f32> = row.iter().zip(scales).map(|(w, s)| w * s).collect();
            rtn::round(&mut rounded, self.shape);
            let back = rounded.into_iter().zip(scales).map(|(w, s)| w / s);
            row.iter().zip(back).map(|(w, back)| w - back).collect::<Vec<_>>()
        });
        let lost = TensorData::new(lost.collect::<Vec<f32>>(), [rows, columns]);
        let lost = Tensor::<B, 2>::from_data(lost, &self.device);
        let squares = matmul(lost.clone(), self.second_moment.clone()) * lost;
        squares.sum().into_data().iter::<f64>().sum()
    }
}

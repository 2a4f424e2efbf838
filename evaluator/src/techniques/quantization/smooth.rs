//! `SmoothQuant` (2211.10438): before inputs are rounded to whole numbers, channels that are large are divided, and their
//! weights multiplied, by `s = max|x|^α / max|w|^(1 - α)`. What makes the inputs is divided, so that it costs nothing, and before
//! rounding nothing changes.

use burn::tensor::backend::Backend;
use spaces::{Domain, ParameterInfo};

use super::{
    About, QuantizationPlan,
    folds::{self, Fold, Matrices},
};
use crate::{
    counter,
    model::{Model, ModelPlan},
    ops::Ops,
    parameter::{Declared, float},
    techniques::calibration::Statistics,
};

pub(super) const ABOUT: About = About {
    name: "smooth",
    doc: "channels of inputs that are large on calibration text are scaled down before inputs are rounded to 8 bits, and their weights up",
    paper: "2211.10438",
};

/// The counter of channels that were scaled.
pub(super) const ACTIVITY: &str = "smoothed_channels";

/// The parameter `α`.
pub(super) const ALPHA: &str = "smooth_alpha";

/// Scales the model so that it is what it was before rounding, and its inputs lose less by rounding.
pub(super) fn scale<B: Ops>(
    model: &mut Model<B>,
    served: &ModelPlan,
    (plan, alpha): (QuantizationPlan, f64),
    inputs: &Statistics,
) {
    folds::scale(model, served, |fold, matrices| {
        let scales = scales_of(fold, matrices, (plan, alpha), inputs)?;
        counter::add_activity(ACTIVITY, scales.len());
        Some(scales)
    });
}

/// The scales of the shared input; `None` where none of what reads it is packed, or no token reached it.
fn scales_of<B: Backend>(
    fold: &Fold,
    matrices: &Matrices<B>,
    (plan, alpha): (QuantizationPlan, f64),
    inputs: &Statistics,
) -> Option<Vec<f32>> {
    let (mut of_inputs, mut of_weights) = (vec![], vec![]);
    let packed = fold
        .readers
        .iter()
        .filter(|reader| plan.at(&reader.path).is_some());
    for reader in packed {
        if let Some(seen) = inputs.get(&reader.path) {
            raise(&mut of_inputs, &seen.largest);
        }
        if let Some(weight) = matrices.get(&reader.path) {
            let largest = weight.clone().abs().max_dim(0).into_data();
            raise(&mut of_weights, &largest.iter::<f32>().collect::<Vec<_>>());
        }
    }
    (!of_inputs.is_empty()).then(|| scales(&of_inputs, &of_weights, alpha as f32))
}

/// Raises each number to another one where that is larger.
fn raise(all: &mut Vec<f32>, others: &[f32]) {
    all.resize(others.len(), 0.0);
    for (most, other) in all.iter_mut().zip(others) {
        *most = most.max(*other);
    }
}

/// `max|x|^α / max|w|^(1 - α)` for each channel; 1 where inputs or weights are all 0, which no scale makes larger.
fn scales(of_inputs: &[f32], of_weights: &[f32], alpha: f32) -> Vec<f32> {
    let both = of_inputs.iter().zip(of_weights);
    both.map(|(x, w)| {
        let scale = x.powf(alpha) / w.powf(1.0 - alpha);
        if *x > 0.0 && *w > 0.0 { scale } else { 1.0 }
    })
    .collect()
}

/// The parameter.
pub(super) fn parameter() -> ParameterInfo {
    float(
        ALPHA,
        "how much of their size large channels of inputs hand over to weights",
        0.0,
        1.0,
        0.5,
    )
    .when("bits < 32 and quant_method == 'smooth'")
    .search(Domain::float(0.3, 0.9, false, None).expect("not empty"))
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::Flex,
        tensor::{Tensor, TensorData},
    };

    use super::*;
    use crate::techniques::quantization::{
        fixture::{Fixture, INPUT},
        packed::PackedShape,
        rtn,
    };

    /// The error of products in whole numbers, with inputs divided and weights multiplied by scales.
    fn error(fixture: &Fixture, group: usize, scales: &[f32]) -> f64 {
        let shape = PackedShape {
            integer: true,
            group,
            ..fixture.shape(8)
        };
        let each = |values: &[f32], by: fn(f32, f32) -> f32| -> Vec<f32> {
            let scaled = values.iter().zip(scales.iter().cycle());
            scaled.map(|(x, s)| by(*x, *s)).collect()
        };
        let weights = each(&fixture.weights, |w, s| w * s);
        let x = each(&fixture.x, |x, s| x / s);
        let packed = rtn::pack(&weights, shape).into_module::<Flex>(&Default::default());
        let x = TensorData::new(x, [fixture.x.len() / INPUT, INPUT]);
        let y = packed.apply(Tensor::<Flex, 2>::from_data(x, &Default::default()));
        fixture.error_of_products(&y.into_data().to_vec::<f32>().unwrap())
    }

    #[test]
    fn products_in_whole_numbers_lose_less_of_smooth_inputs() {
        let fixture = Fixture::new();
        let mut of_weights = vec![];
        for row in fixture.weights.chunks(INPUT) {
            raise(&mut of_weights, &row.iter().map(|w| w.abs()).collect::<Vec<_>>());
        }
        for group in [64, 128] {
            let plain = error(&fixture, group, &[1.0; INPUT]);
            let smooth = error(
                &fixture,
                group,
                &scales(&fixture.inputs.largest, &of_weights, 0.5),
            );
            println!("groups of {group}: {plain} plain, {smooth} smooth");
            assert!(smooth < 0.5 * plain, "{group}: {plain} {smooth}");
        }
    }

    #[test]
    fn scales_are_those_of_the_formula_and_of_silent_channels_one() {
        let scales = scales(&[4.0, 9.0, 0.0, 1.0], &[0.25, 1.0, 2.0, 0.0], 0.5);
        assert_eq!(scales, [4.0, 3.0, 1.0, 1.0]);
    }
}

//! Packing a whole model: what its matrices are given is seen, and each is packed by its method.

use super::{
    Method, QuantizationPlan, awq, gptq, int8_outlier, integer_only, nf4, nonzeros,
    packed::{PackedShape, PackedWeights},
    rtn, smooth,
};
use crate::{
    counter,
    model::{Integer, Matrix, Model, ModelPlan, Part, Parts, Pass, is_block_matrix},
    ops::Ops,
    techniques::calibration::{Statistics, calibrate, calibrate_sizes},
    training::{Batches, Beside},
};

/// The counter of weights that were packed.
pub(super) const PACKED: &str = "packed_weights";

/// What the matrices of blocks are given on batches of training data; empty where the method does not ask.
pub fn observe<B: Ops>(model: &mut Model<B>, plan: QuantizationPlan, batches: &Batches) -> Statistics {
    match plan.method {
        Method::Rtn | Method::Nf4 => Statistics::new(),
        Method::Gptq | Method::Awq => calibrate(model, batches, plan.calibration_batches, is_block_matrix),
        Method::Smooth { .. } | Method::Int8Outlier { .. } => {
            calibrate_sizes(model, batches, plan.calibration_batches, is_block_matrix)
        }
        Method::IntegerOnly => {
            let read = batches.beside(Beside::Calibration, plan.calibration_batches);
            integer_only::observe(model, read)
        }
    }
}

/// Packs every matrix of the model but the routers, by what [`observe`] has seen: of sparse ones their nonzeros. A matrix that nothing is
/// known of is rounded to nearest.
pub fn quantize<B: Ops>(
    model: &mut Model<B>,
    served: &ModelPlan,
    plan: QuantizationPlan,
    inputs: &Statistics,
) {
    match plan.method {
        Method::Awq => awq::scale(model, served, plan, inputs),
        Method::Smooth { alpha } => smooth::scale(model, served, (plan, alpha), inputs),
        Method::Rtn | Method::Gptq | Method::Nf4 | Method::Int8Outlier { .. } | Method::IntegerOnly => {}
    }
    pack(model, plan, inputs);
    if plan.is_integer_only() {
        let steps = integer_only::steps(model, inputs);
        model.serve_in_integers(served, steps);
    }
}

/// Packs every matrix but the routers by a method that asks for no calibration.
pub fn quantize_unseen<B: Ops>(model: &mut impl Parts<B>, plan: QuantizationPlan) {
    pack(model, plan, &Statistics::new());
}

fn pack<B: Ops>(model: &mut impl Parts<B>, plan: QuantizationPlan, inputs: &Statistics) {
    model.each_part("", &mut |path, part| {
        let (Part::Matrix(matrix), Some(plan)) = (part, plan.at(path)) else {
            return;
        };
        if let Matrix::Sparse(sparse) = matrix {
            nonzeros::pack(sparse, path, plan, inputs);
        } else if let Some(weight) = matrix.as_dense() {
            let [rows, columns] = weight.dims();
            let device = weight.device();
            let values: Vec<f32> = weight.into_data().iter::<f32>().collect();
            let shape = plan.shape(rows, columns);
            counter::add_activity(PACKED, values.len());
            if let Method::Int8Outlier { threshold } = plan.method
                && let Some(inputs) = inputs.get(path)
                && let Some(mixed) = int8_outlier::pack(&values, [rows, columns], (plan, threshold), inputs)
            {
                *matrix = Matrix::Mixed(mixed.into_module(&device));
                return;
            }
            let packed = match plan.method {
                Method::Rtn | Method::Awq | Method::Smooth { .. } | Method::Int8Outlier { .. } => {
                    rtn::pack(&values, shape)
                }
                Method::Nf4 => nf4::pack(&values, shape),
                Method::Gptq => judged(path, &values, shape, inputs),
                Method::IntegerOnly => {
                    let packed = integer_only::pack(&values, [rows, columns]);
                    *matrix = Matrix::Integer(Integer::of(&packed));
                    return;
                }
            };
            *matrix = Matrix::Packed(packed.into_module(&device));
        }
    });
}

/// Packs by GPTQ what something is known of.
fn judged(path: &str, weights: &[f32], shape: PackedShape, inputs: &Statistics) -> PackedWeights {
    let packed = inputs
        .get(path)
        .and_then(|inputs| gptq::pack(weights, shape, inputs));
    packed.unwrap_or_else(|| {
        note_unjudged(path, shape);
        rtn::pack(weights, shape)
    })
}

/// Notes that a matrix was rounded to nearest where GPTQ was to choose.
pub(super) fn note_unjudged(path: &str, shape: PackedShape) {
    if is_block_matrix(path) {
        // an expert that no token reached
        counter::add_skipped(Pass {
            forward: gptq::macs(shape.rows as u64, shape.columns as u64),
            backward: 0,
        });
    }
}

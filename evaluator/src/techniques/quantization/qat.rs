//! Training with weights as they will be packed (2305.17888): a step's loss and gradients are those of the rounded weights,
//! and its change goes to the unrounded ones, as if rounding had a slope of 1; of weights beyond the lowest or highest level
//! of their group it is 0.
//!
//! Rounding is that of round to nearest, with the bits and groups of serving. What matrices are given stays in floats, also
//! where serving multiplies whole numbers.

use std::collections::BTreeMap;

use burn::{
    module::Param,
    tensor::{
        DType, IndexingUpdateOp, Int, Tensor, TensorData,
        backend::{AutodiffBackend, Backend},
    },
};
use rayon::prelude::*;
use spaces::{Domain, ParameterInfo};

use super::{About, QuantizationPlan, levels::EvenLevels, packed::PackedShape};
use crate::{
    counter,
    model::{Matrix, Part, Parts, join},
    parameter::{Declared, Values, float},
    training::Rule,
};

pub(super) const ABOUT: About = About {
    name: "qat",
    doc: "after the training, training goes on with weights rounded in the forward pass as they will be packed",
    paper: "2305.17888",
};

/// The counter of weights that were rounded for a step.
pub(crate) const ACTIVITY: &str = "weights_rounded_in_training";

/// Reads the parameter: this training as a share of the one before, 0 for none.
///
/// # Errors
/// A sentence where there is no training before, or none that goes by gradients of all weights.
pub(crate) fn read(values: Values, rule: Rule, trains: bool) -> Result<f64, String> {
    let share = values.float(ABOUT.name);
    if share == 0.0 {
        return Ok(share);
    }
    let sparsity = values.float("sparsity");
    if sparsity > 0.0 {
        return Err(format!(
            "qat = {share} trains all weights, and sparsity = {sparsity} removes some of them; use qat = 0 or sparsity = 0"
        ));
    }
    if !trains {
        return Err(format!(
            "qat = {share} is a share of the steps of the training before, and fine_tune = 'none' has none; use qat = 0 or another fine_tune"
        ));
    }
    match rule {
        Rule::AdamW | Rule::Badam { .. } | Rule::Sgd => Ok(share),
        Rule::Lomo | Rule::Mezo { .. } => Err(format!(
            "qat = {share} needs the gradients of all weights at once, and optimizer = '{}' has none; use qat = 0, or optimizer = 'adamw' or 'sgd'",
            values.text("optimizer")
        )),
    }
}

/// The weights of one matrix that a step has rounded.
struct Kept<B: Backend> {
    weights: Tensor<B, 2>,
    /// Numbers of those beyond the levels of their group.
    beyond: Vec<i32>,
}

/// The weights of a model that a step has rounded, by path.
pub(crate) struct Unrounded<B: Backend>(BTreeMap<String, Kept<B>>);

/// Rounds, for one step, every weight that will be packed, and gives what these were.
pub(crate) fn round_for_step<A: AutodiffBackend>(
    model: &mut impl Parts<A>,
    plan: QuantizationPlan,
) -> Unrounded<A::InnerBackend> {
    let mut all = BTreeMap::new();
    each_packed(model, plan, &mut |path, weight, shape| {
        let weights = weight.val().inner();
        let (rounded, beyond) = rounded(weights.clone(), shape);
        counter::add_activity(ACTIVITY, shape.rows * shape.columns);
        put(weight, Tensor::from_inner(rounded));
        all.insert(path.to_owned(), Kept { weights, beyond });
    });
    Unrounded(all)
}

/// Rounds every weight that will be packed to what is packed of it.
pub fn round<B: Backend>(model: &mut impl Parts<B>, plan: QuantizationPlan) {
    each_packed(model, plan, &mut |_, weight, shape| {
        let tensor = rounded(weight.val(), shape).0;
        put(weight, tensor);
    });
}

impl<B: Backend> Unrounded<B> {
    /// Puts the unrounded weights back, and takes from the gradients of the rounded ones, flat and by tensor, what does not
    /// pass through rounding.
    pub(crate) fn put_back<A: AutodiffBackend<InnerBackend = B>>(
        mut self,
        model: &mut impl Parts<A>,
        gradients: &mut BTreeMap<String, Tensor<B, 1>>,
    ) {
        model.each_part("", &mut |path, part| {
            if let Part::Matrix(Matrix::Dense(dense)) = part
                && let Some(Kept { weights, beyond }) = self.0.remove(path)
            {
                let (device, n) = (weights.device(), beyond.len());
                put(&mut dense.weight, Tensor::from_inner(weights));
                let name = join(path, "weight");
                if n > 0
                    && let Some(gradient) = gradients.remove(&name)
                {
                    let numbers = TensorData::new(beyond, [n]);
                    let numbers = Tensor::<B, 1, Int>::from_data(numbers, (&device, DType::I32));
                    let theirs = gradient.clone().select(0, numbers.clone());
                    let rest = gradient.select_assign(0, numbers, -theirs, IndexingUpdateOp::Add);
                    gradients.insert(name, rest);
                }
            }
        });
    }
}

/// The weights of a matrix `[rows, columns]`.
type Weight<B> = Param<Tensor<B, 2>>;

/// Visits the weights of every matrix that will be packed.
fn each_packed<B: Backend>(
    model: &mut impl Parts<B>,
    plan: QuantizationPlan,
    visitor: &mut dyn FnMut(&str, &mut Weight<B>, PackedShape),
) {
    model.each_part("", &mut |path, part| {
        if let Part::Matrix(Matrix::Dense(dense)) = part
            && let Some(plan) = plan.at(path)
        {
            let [rows, columns] = dense.weight.dims();
            visitor(path, &mut dense.weight, plan.shape(rows, columns));
        }
    });
}

/// Replaces a tensor, which stays the parameter that it was, trained or not.
fn put<B: Backend>(param: &mut Weight<B>, tensor: Tensor<B, 2>) {
    let is_trained = param.val().is_require_grad();
    *param = Param::initialized(param.id, tensor.set_require_grad(is_trained));
}

/// Weights `[rows, columns]` rounded, and the numbers of those beyond the levels of their group.
fn rounded<B: Backend>(weights: Tensor<B, 2>, shape: PackedShape) -> (Tensor<B, 2>, Vec<i32>) {
    let device = weights.device();
    let mut values: Vec<f32> = weights.into_data().iter().collect();
    let rows = values.par_chunks_mut(shape.columns).enumerate();
    let beyond = rows.flat_map_iter(|(r, row)| {
        let of_row = round_row(row, shape);
        of_row
            .into_iter()
            .map(move |column| (r * shape.columns + column) as i32)
    });
    let beyond = beyond.collect();
    let data = TensorData::new(values, [shape.rows, shape.columns]);
    (Tensor::from_data(data, &device), beyond)
}

/// Rounds a row in its place and gives the columns of weights beyond the levels of their group.
fn round_row(row: &mut [f32], shape: PackedShape) -> Vec<usize> {
    let mut beyond = vec![];
    for (g, group) in row.chunks_mut(shape.group).enumerate() {
        let levels = EvenLevels::of(group, shape.bits);
        for (i, w) in group.iter_mut().enumerate() {
            if levels.is_beyond(*w) {
                beyond.push(g * shape.group + i);
            }
            *w = levels.value(levels.code(*w));
        }
    }
    beyond
}

/// The parameter.
pub(super) fn parameter() -> ParameterInfo {
    float(
        ABOUT.name,
        "training with weights rounded as they will be packed, as a share of the training before",
        0.0,
        4.0,
        0.0,
    )
    .when("bits < 32 and quant_method == 'rtn'")
    .search(Domain::float(0.0, 0.5, false, None).expect("not empty"))
}

#[cfg(test)]
mod tests {
    use burn::backend::{Autodiff, Flex};

    use super::*;
    use crate::techniques::quantization::{Method, fixture::normal, quantize_unseen};

    type A = Autodiff<Flex>;

    /// One matrix.
    struct One(Matrix<A>);

    impl Parts<A> for One {
        fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, A>)) {
            visitor(path, Part::Matrix(&mut self.0));
        }
    }

    fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
        tensor.into_data().iter().collect()
    }

    #[test]
    fn a_step_meets_what_is_packed_and_changes_what_is_not_rounded() {
        let device = Default::default();
        let (rows, columns) = (7, 100);
        let weights = normal(rows * columns, 3);
        for bits in [2, 3, 4, 8] {
            let plan = QuantizationPlan {
                bits,
                group: 32,
                method: Method::Rtn,
                calibration_batches: 0,
                activation_bits: 32,
                layers: Default::default(),
            };
            let dense = TensorData::new(weights.clone(), [rows, columns]);
            let mut one = One(Matrix::dense(Tensor::from_data(dense, &device)));
            let unrounded = round_for_step(&mut one, plan);
            let now = one.0.as_dense().unwrap();
            let mut packed = One(Matrix::dense(Tensor::<A, 2>::from_data(
                TensorData::new(weights.clone(), [rows, columns]),
                &device,
            )));
            quantize_unseen(&mut packed, plan);
            let Matrix::Packed(packed) = &packed.0 else {
                panic!("it is packed")
            };
            assert_eq!(values(now.clone()), values(packed.all_rows()), "{bits} bits");

            // the gradient of a sum is 1 everywhere
            let mut backward = now.clone().sum().backward();
            let gradient = now.grad_remove(&mut backward).unwrap().reshape([rows * columns]);
            let mut gradients = BTreeMap::from([("weight".to_owned(), gradient)]);
            unrounded.put_back(&mut one, &mut gradients);
            let weight = one.0.as_dense().unwrap();
            assert!(weight.is_require_grad());
            assert_eq!(values(weight), weights, "{bits} bits");
            let gradient = values(gradients.remove("weight").unwrap());
            let mut stopped = 0;
            for (g, group) in gradient
                .chunks(columns)
                .flat_map(|row| row.chunks(32))
                .enumerate()
            {
                let (row, at) = (g / columns.div_ceil(32), g % columns.div_ceil(32) * 32);
                let of_group = &weights[row * columns + at..][..group.len()];
                let levels = EvenLevels::of(of_group, bits);
                let (low, high) = (levels.value(0), levels.value((1 << bits) - 1));
                let half = 0.5 * (levels.value(1) - levels.value(0));
                for (w, slope) in of_group.iter().zip(group) {
                    let inside = (low - half..=high + half).contains(w);
                    let at_the_edge = (w - low + half).abs().min((w - high - half).abs()) < 1e-5 * half;
                    assert!(
                        at_the_edge || *slope == f32::from(u8::from(inside)),
                        "{bits}: {w}"
                    );
                    stopped += usize::from(*slope == 0.0);
                }
            }
            assert!(stopped < weights.len() / 20, "{bits} bits: {stopped}");
        }
    }

    #[test]
    fn a_group_beyond_its_levels_has_no_slope_there() {
        // of a symmetric group both ends are half a step beside a level, and one of them loses its own to the rounded zero
        let shape = PackedShape {
            group: 4,
            ..crate::techniques::quantization::fixture::shape(1, 4, 2, 4)
        };
        let mut row = [-1.0f32, 1.0, 0.2, 0.5];
        let levels = EvenLevels::of(&row, 2);
        let beyond = round_row(&mut row, shape);
        for (i, w) in [-1.0f32, 1.0, 0.2, 0.5].iter().enumerate() {
            assert_eq!(beyond.contains(&i), levels.is_beyond(*w));
        }
        assert_eq!(beyond, [1]);
    }
}

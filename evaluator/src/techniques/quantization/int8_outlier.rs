//! `LLM.int8()` (2208.07339): where matrices are multiplied in whole numbers, the few columns whose inputs are large are
//! multiplied in floats, so that no other input is rounded by their scale.
//!
//! Which columns these are is found on calibration text and stays so: their weights are stored in 32 bits beside the packed
//! rest, and neither product has the other's columns.

use burn::{
    module::Module,
    tensor::{DType, Int, Tensor, TensorData, backend::Backend},
};
use spaces::{Domain, ParameterInfo};

use super::{
    About, QuantizationPlan,
    packed::{Packed, PackedWeights},
    rtn,
};
use crate::{
    counter,
    ops::{Ops, linear},
    parameter::{Declared, float},
    techniques::calibration::InputStatistics,
};

pub(super) const ABOUT: About = About {
    name: "int8_outlier",
    doc: "columns whose inputs are large on calibration text stay in 32 bits and are multiplied so, the rest in whole numbers",
    paper: "2208.07339",
};

/// The counter of columns that were judged; that none is large is a result too.
pub(super) const ACTIVITY: &str = "int8_columns_judged";

/// The parameter of the size from which on inputs are large.
pub(super) const THRESHOLD: &str = "int8_threshold";

/// Of so many columns one at most stays in floats: the form is for few.
const COLUMNS_OF_ONE: usize = 8;

/// The columns of inputs above a threshold, ascending: at most an eighth of all, and then the largest.
fn large(inputs: &[f32], threshold: f32) -> Vec<i32> {
    let mut columns: Vec<usize> = (0..inputs.len()).filter(|c| inputs[*c] > threshold).collect();
    columns.sort_by(|a, b| inputs[*b].total_cmp(&inputs[*a]));
    columns.truncate(inputs.len() / COLUMNS_OF_ONE);
    columns.sort_unstable();
    columns.into_iter().map(|column| column as i32).collect()
}

/// A matrix on the host, of which a few columns are floats.
#[derive(Clone, Debug, PartialEq)]
pub struct MixedWeights {
    /// The other columns, in their order.
    pub packed: PackedWeights,
    /// Numbers of the columns that are floats, ascending.
    pub columns: Vec<i32>,
    /// Their weights, `[rows, columns]`.
    pub weights: Vec<f32>,
}

impl MixedWeights {
    /// What a file says.
    ///
    /// # Errors
    /// A reason where the numbers of columns are none of this matrix.
    pub(crate) fn read(packed: PackedWeights, columns: Vec<i32>, weights: Vec<f32>) -> Result<Self, String> {
        let all = packed.shape.columns + columns.len();
        let ascends = columns.windows(2).all(|pair| pair[0] < pair[1]);
        let first_and_last = columns.first().zip(columns.last());
        match first_and_last {
            Some((first, last)) if ascends && *first >= 0 && (*last as usize) < all => Ok(MixedWeights {
                packed,
                columns,
                weights,
            }),
            _ => Err(format!("the columns in floats are not some of {all}, ascending")),
        }
    }

    /// Bytes of the packed columns, of the others and of their numbers; in memory there are the numbers of the packed ones, too.
    pub fn bytes(&self) -> usize {
        self.packed.shape.bytes() + 4 * (self.weights.len() + self.columns.len())
    }

    /// Moves the weights to a device.
    pub fn into_module<B: Backend>(self, device: &B::Device) -> Mixed<B> {
        let (rows, n) = (self.packed.shape.rows, self.columns.len());
        let all = (self.packed.shape.columns + n) as i32;
        let rest: Vec<i32> = (0..all)
            .filter(|column| self.columns.binary_search(column).is_err())
            .collect();
        let numbers = |list: Vec<i32>| {
            let n = list.len();
            Tensor::<B, 1, Int>::from_data(TensorData::new(list, [n]), (device, DType::I32))
        };
        Mixed {
            packed: self.packed.into_module(device),
            rest: numbers(rest),
            columns: numbers(self.columns),
            weights: Tensor::from_data(TensorData::new(self.weights, [rows, n]), (device, DType::F32)),
        }
    }
}

/// Packs weights `[rows, columns]` that are multiplied with such inputs; `None` where no column stays in floats.
pub(super) fn pack(
    weights: &[f32],
    [rows, columns]: [usize; 2],
    (plan, threshold): (QuantizationPlan, f64),
    inputs: &InputStatistics,
) -> Option<MixedWeights> {
    counter::add_activity(ACTIVITY, columns);
    let large = large(&inputs.largest, threshold as f32);
    if large.is_empty() {
        return None;
    }
    counter::add_activity("int8_outlier_columns", large.len());
    let (mut floats, mut rest) = (vec![], vec![]);
    for row in weights.chunks_exact(columns) {
        for (column, w) in row.iter().enumerate() {
            match large.binary_search(&(column as i32)) {
                Ok(_) => floats.push(*w),
                Err(_) => rest.push(*w),
            }
        }
    }
    Some(MixedWeights {
        packed: rtn::pack(&rest, plan.shape(rows, columns - large.len())),
        columns: large,
        weights: floats,
    })
}

/// A matrix `[out, in]` of which a few columns are floats and the others packed.
#[derive(Module, Debug)]
pub struct Mixed<B: Backend> {
    packed: Packed<B>,
    /// Numbers of the columns that are packed.
    rest: Tensor<B, 1, Int>,
    /// Numbers of those that are floats.
    columns: Tensor<B, 1, Int>,
    /// Their weights, `[out, n]`.
    weights: Tensor<B, 2>,
}

impl<B: Backend> Mixed<B> {
    /// Rows and columns of the matrix.
    pub fn dims(&self) -> [usize; 2] {
        let [rows, packed] = self.packed.dims();
        [rows, packed + self.columns.dims()[0]]
    }

    /// The weights back on the host.
    pub fn to_host(&self) -> MixedWeights {
        MixedWeights {
            packed: self.packed.to_host(),
            columns: self.columns.to_data().iter().collect(),
            weights: self.weights.to_data().iter().collect(),
        }
    }
}

impl<B: Ops> Mixed<B> {
    /// `x wᵀ` for `x: [.., in]`.
    pub(crate) fn apply<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let large = x.clone().select(D - 1, self.columns.clone());
        let rest = x.select(D - 1, self.rest.clone());
        self.packed.apply(rest) + linear(large, self.weights.clone())
    }
}

/// The parameter.
pub(super) fn parameter() -> ParameterInfo {
    float(
        THRESHOLD,
        "size of an input from which on its column stays in floats, an eighth of all columns at most",
        1e-3,
        1e6,
        6.0,
    )
    .when("bits < 32 and quant_method == 'int8_outlier'")
    .search(Domain::float(3.0, 12.0, true, None).expect("not empty"))
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::techniques::quantization::{
        Method,
        fixture::{Fixture, INPUT, normal},
    };

    fn plan(bits: usize, group: usize) -> QuantizationPlan {
        QuantizationPlan {
            bits,
            group,
            method: Method::Int8Outlier { threshold: 6.0 },
            calibration_batches: 1,
            activation_bits: 8,
            layers: Default::default(),
        }
    }

    fn product(apply: impl Fn(Tensor<Flex, 2>) -> Tensor<Flex, 2>, x: &[f32], columns: usize) -> Vec<f32> {
        let data = TensorData::new(x.to_vec(), [x.len() / columns, columns]);
        let y = apply(Tensor::from_data(data, &Default::default()));
        y.into_data().to_vec().unwrap()
    }

    #[test]
    fn large_inputs_in_floats_leave_the_others_their_own_scale() {
        let fixture = Fixture::new();
        let shape = [fixture.weights.len() / INPUT, INPUT];
        for group in [64, 128] {
            let plan = plan(8, group);
            let plain = rtn::pack(&fixture.weights, plan.shape(shape[0], INPUT));
            let plain = plain.into_module::<Flex>(&Default::default());
            let plain = fixture.error_of_products(&product(|x| plain.apply(x), &fixture.x, INPUT));
            let mixed = pack(&fixture.weights, shape, (plan, 6.0), &fixture.inputs).unwrap();
            assert_eq!(mixed.columns, [17, 90, 131, 222]);
            let mixed = mixed.into_module::<Flex>(&Default::default());
            assert_eq!(mixed.dims(), shape);
            let mixed = fixture.error_of_products(&product(|x| mixed.apply(x), &fixture.x, INPUT));
            println!("groups of {group}: {plain} plain, {mixed} with large columns in floats");
            assert!(mixed < 0.25 * plain, "{group}: {plain} {mixed}");
        }
    }

    /// Against sums in wide integers, and no column is multiplied twice.
    #[test]
    fn the_packed_part_is_exact_and_the_work_that_of_the_matrix() {
        let (rows, columns, group) = (5, 100, 32);
        let weights = normal(rows * columns, 8);
        let mut x = normal(columns, 9);
        (x[3], x[40], x[99]) = (50.0, -70.0, 31.0);
        let inputs = InputStatistics {
            largest: x.iter().map(|x| x.abs()).collect(),
            ..InputStatistics::default()
        };
        for bits in [8, 4] {
            let host = pack(&weights, [rows, columns], (plan(bits, group), 6.0), &inputs).unwrap();
            assert_eq!(host.columns, [3, 40, 99]);
            let module = host.clone().into_module::<Flex>(&Default::default());
            assert_eq!(module.to_host(), host, "to the device and back");
            let (y, macs) = counter::count_macs(|| product(|x| module.apply(x), &x, columns));
            assert_eq!(macs, (rows * columns) as u64);

            let is_large = |c: &usize| host.columns.contains(&(*c as i32));
            let rest: Vec<f32> = (0..columns).filter(|c| !is_large(c)).map(|c| x[c]).collect();
            let codes = host.packed.clone();
            let shape = codes.shape;
            for (r, y) in y.iter().enumerate() {
                let (mut exact, mut size) = (0.0f64, 0.0f64);
                for (g, x) in rest.chunks(group).enumerate() {
                    let of_x = f64::from(x.iter().fold(0.0f32, |most, x| most.max(x.abs()))) / 127.0;
                    let scale = f64::from(codes.scales[r * shape.groups() + g].to_f32());
                    let zero = (codes.zeros[r * shape.zero_words_per_row() + g / 4] >> (8 * (g % 4))) & 255;
                    let sum: i64 = (0..x.len())
                        .map(|i| {
                            let at = (g * group + i) * bits;
                            let word = codes.words[r * shape.words_per_row() + at / 32] as u32;
                            let code = i64::from(word >> (at % 32)) & ((1 << bits) - 1);
                            let whole = (f64::from(x[i]) / of_x).round_ties_even() as i64;
                            (code - i64::from(zero)) * whole
                        })
                        .sum();
                    exact += scale * of_x * sum as f64;
                    size += scale * of_x * 255.0 * 127.0;
                }
                for c in (0..columns).filter(is_large) {
                    exact += f64::from(weights[r * columns + c] * x[c]);
                    size += f64::from((weights[r * columns + c] * x[c]).abs());
                }
                assert!(
                    (f64::from(*y) - exact).abs() < 1e-5 * size,
                    "{bits} bits: {y} {exact}"
                );
            }
        }
    }

    #[test]
    fn bytes_are_those_of_both_parts() {
        let (rows, columns) = (100, 256);
        let mut inputs = InputStatistics {
            largest: vec![1.0; columns],
            ..InputStatistics::default()
        };
        inputs.largest[7] = 9.0;
        inputs.largest[200] = 6.5;
        let weights = normal(rows * columns, 4);
        let host = pack(&weights, [rows, columns], (plan(8, 64), 6.0), &inputs).unwrap();
        // 254 codes of a byte fill 64 words; four scales of 2 bytes and zeros of 1; two columns in 4 bytes, and their numbers
        assert_eq!(host.bytes(), 100 * (256 + 8 + 4 + 2 * 4) + 2 * 4);
        let module = host.clone().into_module::<Flex>(&Default::default());
        let held = |data: TensorData| data.bytes.len();
        let beside = held(module.weights.to_data()) + held(module.columns.to_data());
        assert_eq!(host.packed.shape.bytes() + beside, host.bytes());
        assert_eq!(held(module.rest.to_data()), 4 * 254);
        assert!(pack(&weights, [rows, columns], (plan(8, 64), 10.0), &inputs).is_none());
    }

    #[test]
    fn at_most_an_eighth_of_the_columns_stays_in_floats() {
        let inputs: Vec<f32> = (0..32)
            .map(|c| if c % 2 == 0 { 10.0 + c as f32 } else { 1.0 })
            .collect();
        assert_eq!(large(&inputs, 6.0), [24, 26, 28, 30]);
        assert_eq!(large(&inputs, 39.0), [30]);
    }
}

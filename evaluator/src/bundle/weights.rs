//! `model.safetensors`: written from a model, and read back one tensor at a time.

use std::path::Path;

use burn::{
    module::Param,
    tensor::{DType, Tensor, TensorData},
};
use half::f16;
use safetensors::Dtype;

use super::{
    BundleError, Served,
    tensors::{Incoming, Outgoing, write},
};
use crate::{
    model::{Integer, Matrix, Model, Part, Parts, Steps},
    ops::Ops,
    techniques::{
        quantization::{
            QuantizationPlan,
            int8_outlier::MixedWeights,
            packed::{PackedShape, PackedWeights},
        },
        sparsity::{
            coded::{CodeForm, NonzeroCodes},
            sparse::{HostNonzeros, SparseShape, SparseWeights},
        },
    },
};

/// The tensor of what one is worth in each tensor of a model in whole numbers.
pub(super) const INTEGER_STEPS: &str = "model.integer_steps";

/// Writes the weights; the file appears whole or not at all.
///
/// # Errors
/// [`BundleError::File`].
pub fn save<B: Ops>(model: &mut Model<B>, path: &Path) -> Result<(), BundleError> {
    let mut tensors: Vec<(String, Outgoing)> = vec![];
    model.each_part("", &mut |name, part| {
        let mut add = |suffix: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>| {
            tensors.push((
                format!("{name}.{suffix}"),
                Outgoing {
                    dtype,
                    shape: shape.to_vec(),
                    bytes,
                },
            ));
        };
        match part {
            Part::Matrix(Matrix::Packed(packed)) | Part::Small(Matrix::Packed(packed)) => {
                add_packed(&packed.to_host(), &mut add);
            }
            Part::Matrix(Matrix::Mixed(mixed)) | Part::Small(Matrix::Mixed(mixed)) => {
                let host = mixed.to_host();
                add_packed(&host.packed, &mut add);
                let (rows, n) = (host.packed.shape.rows, host.columns.len());
                let columns = bytes_of(&host.columns, |c| c.to_le_bytes());
                add("outlier_columns", Dtype::I32, &[n], columns);
                let weights = bytes_of(&host.weights, |w| w.to_le_bytes());
                add("outliers", Dtype::F32, &[rows, n], weights);
            }
            Part::Matrix(Matrix::Integer(integer)) | Part::Small(Matrix::Integer(integer)) => {
                add_packed(&integer.to_host(), &mut add);
            }
            Part::Matrix(Matrix::Sparse(sparse)) | Part::Small(Matrix::Sparse(sparse)) => {
                add_sparse(&sparse.to_host(), &mut add);
            }
            Part::Matrix(matrix) | Part::Small(matrix) => {
                let weight = matrix
                    .as_dense()
                    .expect("additions are merged before a model is exported");
                add("weight", Dtype::F32, &weight.dims(), floats(weight.into_data()));
            }
            Part::Vector(scale) => {
                let values = scale.val();
                let outgoing = Outgoing {
                    dtype: Dtype::F32,
                    shape: values.dims().to_vec(),
                    bytes: floats(values.into_data()),
                };
                tensors.push((format!("{name}.weight"), outgoing));
            }
        }
    });
    if let Some(steps) = model.integer_steps() {
        let values = steps.to_values();
        let outgoing = Outgoing {
            dtype: Dtype::F32,
            shape: vec![values.len()],
            bytes: bytes_of(&values, |v| v.to_le_bytes()),
        };
        tensors.push((INTEGER_STEPS.into(), outgoing));
    }
    write(path, &tensors, None)
}

/// Adds the tensors of packed weights.
fn add_packed(host: &PackedWeights, add: &mut impl FnMut(&str, Dtype, &[usize], Vec<u8>)) {
    let (rows, shape) = (host.shape.rows, host.shape);
    let words = bytes_of(&host.words, |w| w.to_le_bytes());
    add("codes", Dtype::I32, &[rows, shape.words_per_row()], words);
    let scales = bytes_of(&host.scales, |s| s.to_le_bytes());
    add("scales", Dtype::F16, &[rows, shape.groups()], scales);
    if !host.zeros.is_empty() {
        let zeros = bytes_of(&host.zeros, |z| z.to_le_bytes());
        add("zeros", Dtype::I32, &[rows, shape.zero_words_per_row()], zeros);
    }
}

/// Adds the tensors of weights that are stored as their nonzeros.
fn add_sparse(host: &SparseWeights, add: &mut impl FnMut(&str, Dtype, &[usize], Vec<u8>)) {
    let shape = host.shape();
    let places = bytes_of(&host.places, |w| w.to_le_bytes());
    add("places", Dtype::I32, &[shape.rows, shape.words_per_row()], places);
    match &host.values {
        HostNonzeros::Floats(floats) => {
            let values = bytes_of(floats, |v| v.to_le_bytes());
            add("values", Dtype::F32, &[floats.len()], values);
        }
        HostNonzeros::Codes(codes) => {
            let words = bytes_of(&codes.words, |w| w.to_le_bytes());
            add("codes", Dtype::I32, &[codes.words.len()], words);
            let (scales, rows) = (bytes_of(&codes.scales, |s| s.to_le_bytes()), shape.rows);
            add("scales", Dtype::F16, &[rows, codes.scales.len() / rows], scales);
            let zeros = bytes_of(&codes.zeros, |z| z.to_le_bytes());
            add("zeros", Dtype::I32, &[rows, codes.zeros.len() / rows], zeros);
        }
    }
}

fn floats(data: TensorData) -> Vec<u8> {
    let values: Vec<f32> = data.iter::<f32>().collect();
    bytes_of(&values, |v| v.to_le_bytes())
}

fn bytes_of<T, const N: usize>(values: &[T], convert: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(convert).collect()
}

/// Reads the weights onto a device.
///
/// # Errors
/// [`BundleError`] where a tensor is missing or has another size.
pub fn load<B: Ops>(served: &Served, path: &Path, device: &B::Device) -> Result<Model<B>, BundleError> {
    let mut file = Incoming::open(path)?;
    let mut model = Model::<B>::empty(&served.model, device);
    let mut failure = None;
    model.each_part("", &mut |name, part| {
        if failure.is_some() {
            return;
        }
        let result = match part {
            Part::Matrix(matrix) => {
                let [rows, columns] = matrix.dims();
                if let Some(shape) = served.sparse_shape(name, rows, columns) {
                    let weights = file.sparse(name, shape);
                    failure = weights
                        .map(|w| *matrix = Matrix::Sparse(w.into_module(device)))
                        .err();
                    return;
                }
                match served.quantization.and_then(|plan| plan.at(name)) {
                    Some(plan) => file
                        .few_bits(name, plan, [rows, columns], device)
                        .map(|w| *matrix = w),
                    None => file.matrix(name, rows, columns, device).map(|w| *matrix = w),
                }
            }
            Part::Small(matrix) => {
                let [rows, columns] = matrix.dims();
                file.matrix(name, rows, columns, device).map(|w| *matrix = w)
            }
            Part::Vector(scale) => {
                let n = scale.dims()[0];
                file.floats(&format!("{name}.weight"), &[n]).map(|values| {
                    *scale = Param::from_tensor(Tensor::from_data(
                        TensorData::new(values, [n]),
                        (device, DType::F32),
                    ));
                })
            }
        };
        failure = result.err();
    });
    if let Some(e) = failure {
        return Err(e);
    }
    if served.quantization.is_some_and(|plan| plan.is_integer_only()) {
        let values = file.floats(INTEGER_STEPS, &[Steps::count(served.model.layers.len())])?;
        let steps = Steps::from_values(&values)
            .map_err(|reason| BundleError::content(path, format!("of '{INTEGER_STEPS}' {reason}")))?;
        model.serve_in_integers(&served.model, steps);
    }
    Ok(model)
}

impl Incoming {
    fn matrix<B: Ops>(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
        device: &B::Device,
    ) -> Result<Matrix<B>, BundleError> {
        let values = self.floats(&format!("{name}.weight"), &[rows, columns])?;
        Ok(Matrix::dense(Tensor::from_data(
            TensorData::new(values, [rows, columns]),
            (device, DType::F32),
        )))
    }

    /// A packed matrix, with the columns that stay floats where it has some.
    fn few_bits<B: Ops>(
        &mut self,
        name: &str,
        plan: QuantizationPlan,
        [rows, columns]: [usize; 2],
        device: &B::Device,
    ) -> Result<Matrix<B>, BundleError> {
        if plan.is_integer_only() {
            let packed = self.packed(name, plan.shape(rows, columns))?;
            return Ok(Matrix::Integer(Integer::of(&packed)));
        }
        let [numbers, weights] = ["outlier_columns", "outliers"].map(|suffix| format!("{name}.{suffix}"));
        let n = self
            .tensors
            .get(&numbers)
            .map_or(0, |info| info.shape.iter().product());
        if n >= columns {
            let found = format!("of '{name}' {n} of {columns} columns are floats");
            return Err(BundleError::content(&self.path, found));
        }
        let packed = self.packed(name, plan.shape(rows, columns - n))?;
        if n == 0 {
            return Ok(Matrix::Packed(packed.into_module(device)));
        }
        let numbers = words(self.bytes(&numbers, &[Dtype::I32], &[n])?.1);
        let weights = self.floats(&weights, &[rows, n])?;
        MixedWeights::read(packed, numbers, weights)
            .map(|mixed| Matrix::Mixed(mixed.into_module(device)))
            .map_err(|reason| BundleError::content(&self.path, format!("of '{name}' {reason}")))
    }

    fn packed(&mut self, name: &str, shape: PackedShape) -> Result<PackedWeights, BundleError> {
        let codes = self
            .bytes(
                &format!("{name}.codes"),
                &[Dtype::I32],
                &[shape.rows, shape.words_per_row()],
            )?
            .1;
        let scales = self
            .bytes(
                &format!("{name}.scales"),
                &[Dtype::F16],
                &[shape.rows, shape.groups()],
            )?
            .1;
        let zeros = match shape.zero_words_per_row() {
            0 => vec![],
            words => {
                let zeros = format!("{name}.zeros");
                self.bytes(&zeros, &[Dtype::I32], &[shape.rows, words])?.1
            }
        };
        Ok(PackedWeights {
            shape,
            words: words(codes),
            scales: halves(scales),
            zeros: words(zeros),
        })
    }

    fn sparse(&mut self, name: &str, shape: SparseShape) -> Result<SparseWeights, BundleError> {
        let [places, values] = ["places", "values"].map(|suffix| format!("{name}.{suffix}"));
        let words_of_rows = [shape.rows, shape.words_per_row()];
        let places = words(self.bytes(&places, &[Dtype::I32], &words_of_rows)?.1);
        let values = match shape.codes {
            None => HostNonzeros::Floats(self.floats(&values, &[shape.nonzeros()])?),
            Some(form) => HostNonzeros::Codes(self.codes(name, shape, form)?),
        };
        SparseWeights::read(shape, places, values)
            .map_err(|reason| BundleError::content(&self.path, format!("of '{name}' {reason}")))
    }

    /// The nonzeros of a sparse matrix that is packed, too.
    fn codes(&mut self, name: &str, shape: SparseShape, form: CodeForm) -> Result<NonzeroCodes, BundleError> {
        let mut codes = NonzeroCodes::new(shape, form);
        let rows = shape.rows;
        let mut read = |suffix: &str, dtype, shape: &[usize]| {
            let tensor = self.bytes(&format!("{name}.{suffix}"), &[dtype], shape)?;
            Ok::<_, BundleError>(tensor.1)
        };
        codes.words = words(read("codes", Dtype::I32, &[codes.words.len()])?);
        codes.scales = halves(read("scales", Dtype::F16, &[rows, codes.scales.len() / rows])?);
        codes.zeros = words(read("zeros", Dtype::I32, &[rows, codes.zeros.len() / rows])?);
        Ok(codes)
    }
}

fn halves(bytes: Vec<u8>) -> Vec<f16> {
    let halves = bytes.as_chunks::<2>().0.iter();
    halves.map(|b| f16::from_le_bytes(*b)).collect()
}

fn words(bytes: Vec<u8>) -> Vec<i32> {
    let words = bytes.as_chunks::<4>().0.iter();
    words.map(|b| i32::from_le_bytes(*b)).collect()
}

//! `model.safetensors`: written from a model, and read back one tensor at a time.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use burn::{
    module::Param,
    tensor::{DType, Tensor, TensorData},
};
use half::f16;
use safetensors::{Dtype, View, tensor::TensorInfo};

use super::{BundleError, Served};
use crate::{
    model::{Matrix, Model, Part, Parts},
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

/// One tensor on its way to a file.
struct Outgoing {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Outgoing {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

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
    let views = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    safetensors::serialize_to_file(views, None, path).map_err(|e| {
        let source = match e {
            safetensors::SafeTensorError::IoError(source) => source,
            other => std::io::Error::other(other.to_string()),
        };
        BundleError::File {
            path: path.display().to_string(),
            source,
        }
    })?;
    // the format's writer makes files that only their owner can read
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
            .map_err(BundleError::file(path))?;
    }
    Ok(())
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
    match failure {
        Some(e) => Err(e),
        None => Ok(model),
    }
}

/// A weight file that is read tensor by tensor, so that no second copy of it is ever in memory.
struct Incoming {
    file: File,
    path: std::path::PathBuf,
    data_start: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Incoming {
    fn open(path: &Path) -> Result<Self, BundleError> {
        let mut file = File::open(path).map_err(BundleError::file(path))?;
        let size = file.metadata().map_err(BundleError::file(path))?.len();
        let mut length = [0u8; 8];
        file.read_exact(&mut length).map_err(BundleError::file(path))?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > size {
            return Err(BundleError::content(path, "its header is longer than the file"));
        }
        let mut header = vec![0u8; 8 + header_bytes as usize];
        header[..8].copy_from_slice(&length);
        file.read_exact(&mut header[8..])
            .map_err(BundleError::file(path))?;
        let metadata: safetensors::tensor::Metadata =
            serde_json::from_slice(&header[8..]).map_err(|e| BundleError::content(path, e))?;
        let tensors: BTreeMap<String, TensorInfo> = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| (name, info.clone()))
            .collect();
        let data_start = 8 + header_bytes;
        if data_start + metadata.data_len() as u64 != size {
            return Err(BundleError::content(path, "it is cut short or too long"));
        }
        Ok(Incoming {
            file,
            path: path.to_owned(),
            data_start,
            tensors,
        })
    }

    fn bytes(
        &mut self,
        name: &str,
        dtypes: &[Dtype],
        shape: &[usize],
    ) -> Result<(Dtype, Vec<u8>), BundleError> {
        let path = self.path.clone();
        let info = self
            .tensors
            .get(name)
            .ok_or_else(|| BundleError::content(&path, format!("tensor '{name}' is missing")))?;
        if !dtypes.contains(&info.dtype) || info.shape != shape {
            let found = format!(
                "tensor '{name}' is {:?} {:?}, expected {:?} {shape:?}",
                info.dtype, info.shape, dtypes[0]
            );
            return Err(BundleError::content(&path, found));
        }
        let (begin, end) = info.data_offsets;
        let mut bytes = vec![0u8; end - begin];
        self.file
            .seek(SeekFrom::Start(self.data_start + begin as u64))
            .map_err(BundleError::file(&path))?;
        self.file
            .read_exact(&mut bytes)
            .map_err(BundleError::file(&path))?;
        Ok((info.dtype, bytes))
    }

    fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, BundleError> {
        let (dtype, bytes) = self.bytes(name, &[Dtype::F32, Dtype::F16, Dtype::BF16], shape)?;
        Ok(match dtype {
            Dtype::F32 => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
            Dtype::F16 => bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| f16::from_le_bytes(*b).to_f32())
                .collect(),
            _ => bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| half::bf16::from_le_bytes(*b).to_f32())
                .collect(),
        })
    }

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

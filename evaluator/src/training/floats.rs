//! Files of 32-bit tensors: what checkpoints and results of stages are made of.

use std::{borrow::Cow, collections::BTreeMap, collections::HashMap, fs, io, path::Path};

use burn::{
    module::Param,
    tensor::{Tensor, TensorData, backend::Backend},
};
use safetensors::{Dtype, SafeTensors, View};

use crate::model::{Model, TensorMut, each_tensor};

/// Values and their shape.
pub(crate) struct Floats(pub(crate) Vec<f32>, pub(crate) Vec<usize>);

impl View for &Floats {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.1
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.0.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        4 * self.0.len()
    }
}

/// The model's weights, each under `w.` and its name.
pub(crate) fn weights_of<B: Backend>(model: &mut Model<B>) -> Vec<(String, Floats)> {
    let mut tensors = vec![];
    each_tensor(model, &mut |name, tensor| {
        let (data, shape) = match tensor {
            TensorMut::Matrix(param) => (param.val().into_data(), param.dims().to_vec()),
            TensorMut::Vector(param) => (param.val().into_data(), param.dims().to_vec()),
        };
        tensors.push((format!("w.{name}"), Floats(data.iter().collect(), shape)));
    });
    tensors
}

/// Puts weights into a model of their shape, and leaves out of `tensors` what it took.
pub(crate) fn put_weights<B: Backend>(model: &mut Model<B>, tensors: &mut BTreeMap<String, Vec<f32>>) {
    each_tensor(model, &mut |name, tensor| {
        if let Some(values) = tensors.remove(&format!("w.{name}")) {
            match tensor {
                TensorMut::Matrix(param) => *param = with_values(param, values),
                TensorMut::Vector(param) => *param = with_values(param, values),
            }
        }
    });
}

fn with_values<B: Backend, const D: usize>(
    param: &Param<Tensor<B, D>>,
    values: Vec<f32>,
) -> Param<Tensor<B, D>> {
    let old = param.val();
    let trained = old.is_require_grad();
    let tensor = Tensor::from_data(TensorData::new(values, old.dims().to_vec()), &old.device());
    Param::from_tensor(tensor).set_require_grad(trained)
}

/// Writes a file of tensors, and what is said of them.
pub(crate) fn write_floats(
    path: &Path,
    tensors: &[(String, Floats)],
    about: Option<HashMap<String, String>>,
) -> io::Result<()> {
    let views = tensors.iter().map(|(name, floats)| (name.as_str(), floats));
    safetensors::serialize_to_file(views, about, path).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(source) => source,
        other => io::Error::other(other.to_string()),
    })
}

/// Values by the names of their tensors.
pub(crate) type Named = BTreeMap<String, Vec<f32>>;

/// The tensors of a file and what is said of them; `None` where there is none that is whole.
pub(crate) fn read_floats(path: &Path) -> Option<(Named, HashMap<String, String>)> {
    let bytes = fs::read(path).ok()?;
    let (_, header) = SafeTensors::read_metadata(&bytes).ok()?;
    let about = header.metadata().clone().unwrap_or_default();
    let file = SafeTensors::deserialize(&bytes).ok()?;
    let floats = |view: safetensors::tensor::TensorView| {
        let words = view.data().as_chunks::<4>().0.iter();
        words.map(|b| f32::from_le_bytes(*b)).collect()
    };
    let tensors = file.tensors().into_iter();
    Some((tensors.map(|(name, view)| (name, floats(view))).collect(), about))
}

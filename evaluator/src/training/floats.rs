//! Files of 32-bit floats, and of whole numbers beside them: what checkpoints and results of stages are made of.

use std::{borrow::Cow, collections::BTreeMap, collections::HashMap, fs, io, path::Path};

use burn::{
    module::Param,
    tensor::{Tensor, TensorData, backend::Backend},
};
use safetensors::{Dtype, SafeTensors, View};

use crate::model::{Model, TensorMut, each_tensor};

/// Values of four bytes each, and their shape.
pub(crate) struct Words(pub(crate) Values, pub(crate) Vec<usize>);

/// What a tensor holds.
pub(crate) enum Values {
    /// Weights, or what an optimizer remembers.
    Floats(Vec<f32>),
    /// Numbers of weights.
    Numbers(Vec<i32>),
}

impl View for &Words {
    fn dtype(&self) -> Dtype {
        match self.0 {
            Values::Floats(_) => Dtype::F32,
            Values::Numbers(_) => Dtype::I32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.1
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(match &self.0 {
            Values::Floats(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Values::Numbers(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        })
    }

    fn data_len(&self) -> usize {
        4 * match &self.0 {
            Values::Floats(values) => values.len(),
            Values::Numbers(values) => values.len(),
        }
    }
}

/// The model's weights, each under `w.` and its name.
pub(crate) fn weights_of<B: Backend>(model: &mut Model<B>) -> Vec<(String, Words)> {
    let mut tensors = vec![];
    each_tensor(model, &mut |name, tensor| {
        let (data, shape) = match tensor {
            TensorMut::Matrix(param) => (param.val().into_data(), param.dims().to_vec()),
            TensorMut::Vector(param) => (param.val().into_data(), param.dims().to_vec()),
        };
        tensors.push((
            format!("w.{name}"),
            Words(Values::Floats(data.iter().collect()), shape),
        ));
    });
    tensors
}

/// Puts weights into a model of their shape, and leaves out of `tensors` what it took.
pub(crate) fn put_weights<B: Backend>(model: &mut Model<B>, tensors: &mut Named<f32>) {
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
pub(crate) fn write_tensors(
    path: &Path,
    tensors: &[(String, Words)],
    about: Option<HashMap<String, String>>,
) -> io::Result<()> {
    let views = tensors.iter().map(|(name, words)| (name.as_str(), words));
    safetensors::serialize_to_file(views, about, path).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(source) => source,
        other => io::Error::other(other.to_string()),
    })
}

/// Values by the names of their tensors.
pub(crate) type Named<T> = BTreeMap<String, Vec<T>>;

/// What a file holds.
pub(crate) struct Found {
    pub(crate) floats: Named<f32>,
    pub(crate) numbers: Named<i32>,
    /// What is said of them.
    pub(crate) about: HashMap<String, String>,
}

/// The tensors of a file; `None` where there is none that is whole.
pub(crate) fn read_tensors(path: &Path) -> Option<Found> {
    let bytes = fs::read(path).ok()?;
    let (_, header) = SafeTensors::read_metadata(&bytes).ok()?;
    let mut found = Found {
        floats: Named::new(),
        numbers: Named::new(),
        about: header.metadata().clone().unwrap_or_default(),
    };
    for (name, view) in SafeTensors::deserialize(&bytes).ok()?.tensors() {
        let words = view.data().as_chunks::<4>().0.iter();
        if view.dtype() == Dtype::I32 {
            let numbers = words.map(|b| i32::from_le_bytes(*b)).collect();
            found.numbers.insert(name, numbers);
        } else {
            let floats = words.map(|b| f32::from_le_bytes(*b)).collect();
            found.floats.insert(name, floats);
        }
    }
    Some(found)
}

//! Checkpoints: weights, optimizer memory and position, from which a training goes on to the same bits.
//!
//! Two files in one folder that is renamed into place when whole: `state.safetensors` and `state.json`.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use burn::{
    module::Param,
    tensor::{
        Tensor, TensorData,
        backend::{AutodiffBackend, Backend},
    },
};
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use super::{Optimizer, Record, Stretch};
use crate::{
    EvaluationError, counter,
    model::{Model, TensorMut, each_tensor},
    ops::Ops,
};

/// The files of a checkpoint.
pub const CHECKPOINT_FILES: [&str; 2] = ["state.safetensors", "state.json"];

#[derive(Serialize, Deserialize)]
struct Position {
    phase: String,
    total_steps: u64,
    record: Record,
    earlier: Record,
    activity: BTreeMap<String, u64>,
    optimizer_steps: u32,
}

/// A training's state as read from disk.
pub struct Checkpoint<B: Backend> {
    /// The stretch it belongs to.
    pub phase: String,
    /// Steps of the stretch, as decided when it began.
    pub total_steps: u64,
    /// What was done of the stretch.
    pub record: Record,
    /// What was done before the stretch.
    pub earlier: Record,
    /// What techniques had done.
    activity: BTreeMap<String, u64>,
    optimizer_steps: u32,
    tensors: BTreeMap<String, Vec<f32>>,
    /// Numbers of the single weights that are trained.
    kept: BTreeMap<String, Vec<i32>>,
    device: B::Device,
}

/// Values of four bytes each, and their shape.
struct Words(Values, Vec<usize>);

enum Values {
    Floats(Vec<f32>),
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

impl<B: Ops> Checkpoint<B> {
    /// Writes a checkpoint over the earlier one in `dir`.
    ///
    /// # Errors
    /// [`EvaluationError::Disk`]; the earlier checkpoint then still stands.
    pub(super) fn save<A>(
        dir: &Path,
        stretch: &Stretch,
        total_steps: u64,
        record: Record,
        model: &mut Model<A>,
        optimizer: &Optimizer<B>,
    ) -> Result<(), EvaluationError>
    where
        A: AutodiffBackend<InnerBackend = B> + Ops,
    {
        let mut tensors: Vec<(String, Words)> = vec![];
        each_tensor(model, &mut |name, tensor| {
            let (data, shape) = match tensor {
                TensorMut::Matrix(param) => (param.val().into_data(), param.dims().to_vec()),
                TensorMut::Vector(param) => (param.val().into_data(), param.dims().to_vec()),
            };
            let values = Values::Floats(data.iter().collect());
            tensors.push((format!("w.{name}"), Words(values, shape)));
        });
        for (name, moments) in &optimizer.moments {
            for (kind, moment) in ["m", "v"].iter().zip(moments) {
                let values: Vec<f32> = moment.to_data().iter().collect();
                let shape = vec![values.len()];
                tensors.push((format!("{kind}.{name}"), Words(Values::Floats(values), shape)));
            }
        }
        for (name, kept) in &optimizer.kept {
            let values: Vec<i32> = kept.to_data().iter().collect();
            let shape = vec![values.len()];
            tensors.push((format!("i.{name}"), Words(Values::Numbers(values), shape)));
        }
        let position = Position {
            phase: stretch.phase.into(),
            total_steps,
            record,
            earlier: stretch.earlier,
            activity: counter::activity(),
            optimizer_steps: optimizer.steps,
        };
        let failed = |source: io::Error| EvaluationError::Disk {
            path: dir.display().to_string(),
            source,
        };
        let (part, old) = (sibling(dir, "part"), sibling(dir, "old"));
        for leftover in [&part, &old] {
            if leftover.exists() {
                fs::remove_dir_all(leftover).map_err(failed)?;
            }
        }
        fs::create_dir_all(&part).map_err(failed)?;
        let views = tensors.iter().map(|(name, words)| (name.as_str(), words));
        safetensors::serialize_to_file(views, None, &part.join(CHECKPOINT_FILES[0])).map_err(
            |e| match e {
                safetensors::SafeTensorError::IoError(source) => failed(source),
                other => failed(io::Error::other(other.to_string())),
            },
        )?;
        let json = serde_json::to_vec(&position).expect("plain data serialises");
        fs::write(part.join(CHECKPOINT_FILES[1]), json).map_err(failed)?;
        if dir.exists() {
            fs::rename(dir, &old).map_err(failed)?;
        }
        fs::rename(&part, dir).map_err(failed)?;
        if old.exists() {
            fs::remove_dir_all(&old).map_err(failed)?;
        }
        Ok(())
    }

    /// The checkpoint in `dir`; `None` where there is none that is whole.
    pub fn find(dir: &Path, device: &B::Device) -> Option<Self> {
        // a crash between the two renames leaves the earlier one under its old name
        let dir = if dir.exists() {
            dir.to_owned()
        } else {
            sibling(dir, "old")
        };
        let position: Position =
            serde_json::from_slice(&fs::read(dir.join(CHECKPOINT_FILES[1])).ok()?).ok()?;
        let bytes = fs::read(dir.join(CHECKPOINT_FILES[0])).ok()?;
        let file = SafeTensors::deserialize(&bytes).ok()?;
        let (mut tensors, mut kept) = (BTreeMap::new(), BTreeMap::new());
        for (name, view) in file.tensors() {
            let words = view.data().as_chunks::<4>().0.iter();
            if let (Dtype::I32, Some(name)) = (view.dtype(), name.strip_prefix("i.")) {
                kept.insert(name.to_owned(), words.map(|b| i32::from_le_bytes(*b)).collect());
            } else {
                tensors.insert(name, words.map(|b| f32::from_le_bytes(*b)).collect());
            }
        }
        Some(Checkpoint {
            phase: position.phase,
            total_steps: position.total_steps,
            record: position.record,
            earlier: position.earlier,
            activity: position.activity,
            optimizer_steps: position.optimizer_steps,
            tensors,
            kept,
            device: device.clone(),
        })
    }

    /// Puts the weights into the model and gives the optimizer as it was.
    pub(super) fn restore<A>(mut self, model: &mut Model<A>) -> Optimizer<B>
    where
        A: AutodiffBackend<InnerBackend = B> + Ops,
    {
        for (name, n) in &self.activity {
            counter::add_activity(name, *n as usize);
        }
        let mut optimizer = Optimizer {
            steps: self.optimizer_steps,
            ..Optimizer::new(self.kept, &self.device)
        };
        each_tensor(model, &mut |name, tensor| {
            if let Some(values) = self.tensors.remove(&format!("w.{name}")) {
                match tensor {
                    TensorMut::Matrix(param) => *param = with_values(param, values),
                    TensorMut::Vector(param) => *param = with_values(param, values),
                }
            }
            let mut moment = |kind: &str| {
                let values = self.tensors.remove(&format!("{kind}.{name}"))?;
                let n = values.len();
                Some(Tensor::from_data(TensorData::new(values, [n]), &self.device))
            };
            if let (Some(m), Some(v)) = (moment("m"), moment("v")) {
                optimizer.moments.insert(name, [m, v]);
            }
        });
        optimizer
    }
}

fn with_values<A: AutodiffBackend, const D: usize>(
    param: &Param<Tensor<A, D>>,
    values: Vec<f32>,
) -> Param<Tensor<A, D>> {
    let old = param.val();
    let trained = old.is_require_grad();
    let tensor = Tensor::from_data(TensorData::new(values, old.dims().to_vec()), &old.device());
    Param::from_tensor(tensor).set_require_grad(trained)
}

fn sibling(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix}"));
    dir.with_file_name(name)
}

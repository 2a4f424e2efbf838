//! Checkpoints: weights, optimizer memory and position, from which a training goes on to the same bits.
//!
//! Two files in one folder that is renamed into place when whole: `state.safetensors` and `state.json`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use burn::tensor::{
    Tensor, TensorData,
    backend::{AutodiffBackend, Backend},
};
use serde::{Deserialize, Serialize};

use super::{
    Optimizer, Record, Stretch,
    floats::{Found, Values, Words, put_weights, read_tensors, weights_of, write_tensors},
};
use crate::{
    EvaluationError, counter,
    model::{Model, each_tensor},
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
        let mut tensors = weights_of(model);
        for (name, moments) in &optimizer.moments {
            for (kind, moment) in ["m", "v"].iter().zip(moments) {
                let values: Vec<f32> = moment.to_data().iter().collect();
                let shape = vec![values.len()];
                tensors.push((format!("{kind}.{name}"), Words(Values::Floats(values), shape)));
            }
        }
        for (name, scores) in &optimizer.scores {
            let values: Vec<f32> = scores.to_data().iter().collect();
            let shape = vec![values.len()];
            tensors.push((format!("s.{name}"), Words(Values::Floats(values), shape)));
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
        write_tensors(&part.join(CHECKPOINT_FILES[0]), &tensors, None).map_err(failed)?;
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
        let Found { floats, numbers, .. } = read_tensors(&dir.join(CHECKPOINT_FILES[0]))?;
        let kept = numbers.into_iter();
        let kept = kept.filter_map(|(name, list)| Some((name.strip_prefix("i.")?.to_owned(), list)));
        Some(Checkpoint {
            phase: position.phase,
            total_steps: position.total_steps,
            record: position.record,
            earlier: position.earlier,
            activity: position.activity,
            optimizer_steps: position.optimizer_steps,
            tensors: floats,
            kept: kept.collect(),
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
        put_weights(model, &mut self.tensors);
        each_tensor(model, &mut |name, _| {
            let mut sums = |kind: &str| {
                let values = self.tensors.remove(&format!("{kind}.{name}"))?;
                let n = values.len();
                Some(Tensor::from_data(TensorData::new(values, [n]), &self.device))
            };
            if let Some(scores) = sums("s") {
                optimizer.scores.insert(name.clone(), scores);
            }
            if let (Some(m), Some(v)) = (sums("m"), sums("v")) {
                optimizer.moments.insert(name, [m, v]);
            }
        });
        optimizer
    }
}

fn sibling(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix}"));
    dir.with_file_name(name)
}

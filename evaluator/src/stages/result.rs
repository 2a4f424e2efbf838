//! What a stage leaves behind: weights, what was spent on them, what was said meanwhile.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
};

use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use spaces::{Measurement, protocol::Progress};

use crate::{
    Events,
    model::{Model, each_tensor},
    techniques::pruning::latency::FoundSizes,
    training::{
        Record,
        floats::{Found, put_weights, read_tensors, weights_of, write_tensors},
    },
};

/// Under which name the file's header tells the rest.
const ABOUT: &str = "stage";

/// Everything but the weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StageResult {
    /// What was spent from the chain's beginning on.
    pub(crate) record: Record,
    /// Steps of the main training in it.
    pub(crate) main: u64,
    /// What techniques had done.
    pub(crate) activity: BTreeMap<String, u64>,
    /// The most memory the process had held.
    pub(crate) peak_bytes: Option<u64>,
    /// The curve so far.
    pub(crate) curve: Vec<Measurement>,
    /// Who made it, for people.
    pub(crate) by: String,
    /// The sizes that were found for its layers, where some were.
    #[serde(default)]
    pub(crate) sizes: Option<FoundSizes>,
}

impl StageResult {
    /// Writes it with the model's weights.
    pub(super) fn write<B: Backend>(&self, model: &mut Model<B>, path: &Path) -> io::Result<()> {
        let about = serde_json::to_string(self)?;
        write_tensors(
            path,
            &weights_of(model),
            Some(HashMap::from([(ABOUT.to_owned(), about)])),
        )
    }

    /// Reads it, and its weights into the model of their shape that `empty` gives; `None` where the file is not whole or of
    /// another shape.
    pub(super) fn read<B: Backend>(
        path: &Path,
        empty: impl Fn(&StageResult) -> Model<B>,
    ) -> Option<(Model<B>, StageResult)> {
        let Found {
            floats: mut tensors,
            about,
            ..
        } = read_tensors(path)?;
        let result = serde_json::from_str(about.get(ABOUT)?).ok()?;
        let mut model = empty(&result);
        let mut fits = true;
        each_tensor(&mut model, &mut |name, tensor| {
            let found = tensors.get(&format!("w.{name}")).map(Vec::len);
            fits &= found == Some(tensor.elements());
        });
        if !fits {
            return None;
        }
        put_weights(&mut model, &mut tensors);
        Some((model, result))
    }
}

/// Passes on what is said, and remembers the curve.
pub(crate) struct Recording<'a> {
    pub(crate) events: &'a mut dyn Events,
    pub(crate) curve: Vec<Measurement>,
}

impl Events for Recording<'_> {
    fn progress(&mut self, progress: Progress) {
        self.events.progress(progress);
    }

    fn report(&mut self, measurements: Vec<Measurement>) {
        self.curve.extend(measurements.iter().cloned());
        self.events.report(measurements);
    }

    fn cancelled(&self) -> bool {
        self.events.cancelled()
    }

    fn stage_wanted(&mut self, key: &str, file: &Path) {
        self.events.stage_wanted(key, file);
    }

    fn stage_made(&mut self, key: &str, file: &Path) {
        self.events.stage_made(key, file);
    }
}

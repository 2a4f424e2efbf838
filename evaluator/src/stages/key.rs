//! What the result of a stage follows from, as one name.

use std::{fs, path::Path};

use spaces::fingerprint;

use crate::{Job, bundle::BundleError, catalog::catalog, data::Dataset, device::Device};

/// Changes with what a stage computes, so that results of older versions are made again.
const VERSION: u32 = 1;

/// Groups of parameters that pruning and its recovery read.
const PRUNING: [&str; 2] = ["pruning", "distillation"];
/// Groups that only stages after those that are kept read, or the clock that sizes are found by. A group that is in neither list belongs to the training.
const LATER: [&str; 4] = ["sparsity", "quantization", "contextual_pruning", "draft"];
/// What only measuring reads.
const MEASURING: [&str; 1] = ["validation_tokens"];

/// The names of a trial's results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    /// Of the model after the training.
    pub(crate) trained: String,
    /// Of the model after pruning and recovery.
    pub(crate) pruned: String,
}

impl Keys {
    /// What a job's results are called, by the folders of the base and the teacher beside its configuration, and by whether sizes
    /// of layers are found by their time. Machines whose times do not compare do not share them.
    ///
    /// # Errors
    /// [`BundleError::File`] where one of the two cannot be read.
    pub(crate) fn of(
        job: &Job,
        data: &Dataset,
        [base, teacher]: [Option<&Path>; 2],
        (device, finds_sizes): (&Device, bool),
    ) -> Result<Keys, BundleError> {
        let catalog = catalog();
        let group = |name: &str| {
            let parameter = catalog.parameters.iter().find(|p| p.name == name);
            parameter.map_or("", |p| p.group.as_str())
        };
        let (later, kept): (Vec<_>, Vec<_>) = job
            .config
            .values
            .iter()
            .filter(|(name, _)| !MEASURING.contains(&name.as_str()))
            .partition(|(name, _)| LATER.contains(&group(name)));
        let (pruning, training): (Vec<_>, Vec<_>) = kept
            .into_iter()
            // a teacher that is there teaches the training too
            .partition(|(name, _)| {
                let group = group(name);
                PRUNING.contains(&group) && (teacher.is_none() || group != "distillation")
            });
        let from = (
            (VERSION, env!("CARGO_PKG_VERSION"), device.describe()),
            (&job.config.data.corpus, &data.fingerprint),
            [base, teacher]
                .map(|dir| dir.map(of_model).transpose())
                .into_iter()
                .collect::<Result<Vec<_>, _>>()?,
            (job.seed, training),
        );
        let name = |from: &[u8]| fingerprint(from);
        let trained = name(&serde_json::to_vec(&from).expect("plain data serialises"));
        // sizes are timed on weights as they are served
        let timed = finds_sizes.then_some(later);
        let pruned = name(&serde_json::to_vec(&(&trained, pruning, timed)).expect("plain data serialises"));
        Ok(Keys { trained, pruned })
    }
}

/// The content of a model's weights and shape.
fn of_model(dir: &Path) -> Result<Vec<String>, BundleError> {
    let read = |path: &Path| fs::read(path).map_err(BundleError::file(path));
    let entries = fs::read_dir(dir).map_err(BundleError::file(dir))?;
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    files.push(dir.join("config.json"));
    files.sort();
    files.iter().map(|path| Ok(fingerprint(&read(path)?))).collect()
}

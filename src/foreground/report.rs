//! What a finished study leaves: files, a printed front and the recommended model.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use object_store::ObjectStore;
use search::Rule;
use serde_json::{Value, json};
use spaces::study::study_to_toml;
use store::{Store, StudyState};
use web::{
    plots::FrontPlot,
    views::{Front, FrontRequest, Recommendation, TrialRow, front_csv, trials_csv},
};

use crate::output::{Results, front_table, say, unwritable, write_bundle};

/// The results of a study and where they were written.
pub(crate) struct Report {
    front: Front,
    recommended: Recommendation,
    searched: Vec<String>,
    out: PathBuf,
    files: Vec<PathBuf>,
    model: PathBuf,
    /// Tokens that all trials would have trained on alone, and what they did train on.
    tokens: [f64; 2],
    /// Why the study ended before all its trials.
    early: Option<String>,
}

/// Writes front, trials, plots and the recommended model of a finished study into a folder.
///
/// # Errors
/// A study that was cancelled or has failed; a folder that cannot be written.
pub(crate) async fn write_report(
    results: &Results,
    store: &Store,
    objects: &dyn ObjectStore,
    out: &Path,
) -> anyhow::Result<Report> {
    let row = &results.study.row;
    if row.state != StudyState::Finished {
        let reason = row
            .error
            .clone()
            .unwrap_or_else(|| format!("it is {}", row.state.label()));
        anyhow::bail!("study '{}' did not finish: {reason}", row.name);
    }
    fs::create_dir_all(out).with_context(|| unwritable(out))?;
    let request = FrontRequest::default();
    let front = results.front(&request);
    let recommended = results.recommend(&Rule::Knee, &[])?;
    let mut files = vec![];
    let mut write = |name: &str, bytes: &[u8]| -> anyhow::Result<()> {
        let file = out.join(name);
        fs::write(&file, bytes).with_context(|| unwritable(&file))?;
        files.push(file);
        Ok(())
    };
    write("study.toml", study_to_toml(&row.spec).as_bytes())?;
    write("front.json", &serde_json::to_vec_pretty(&front)?)?;
    write("front.csv", front_csv(&front.trials).as_bytes())?;
    write("trials.csv", trials_csv(&results.rows()).as_bytes())?;
    if front.objectives.len() > 1 {
        let plot = FrontPlot::new(&front, &results.study, &results.trials, &request)?;
        write("front.svg", plot.svg()?.as_bytes())?;
        write("front.png", &plot.png()?)?;
    }
    let model = out.join("recommended");
    if model.exists() {
        fs::remove_dir_all(&model).with_context(|| format!("'{}' cannot be replaced", model.display()))?;
    }
    let trial = &recommended.trial;
    write_bundle(store, objects, trial.id, trial.attempt, &model).await?;
    Ok(Report {
        front,
        recommended,
        searched: results.searched(),
        out: out.to_owned(),
        files,
        model,
        tokens: ["training_tokens", "spent_training_tokens"].map(|metric| sum(&results.rows(), metric)),
        early: row.error.clone(),
    })
}

impl Report {
    /// Prints the front, the recommendation and where the files are.
    pub(crate) fn say(&self) {
        say(front_table(
            &self.front,
            &self.searched,
            Some(self.recommended.trial.id),
        ));
        if let Some(reason) = &self.early {
            say(format!("The study {reason}"));
        }
        let [alone, spent] = self.tokens;
        if spent < alone {
            let [alone, spent] = self.tokens.map(|n| spaces::quantity::format(n, "tokens"));
            say(format!(
                "Trials that begin alike shared it: {spent} were trained on, {alone} alone."
            ));
        }
        say("");
        say(format!("Recommended (*): {}", self.recommended.reason));
        say(format!("Model: {}", self.model.display()));
        let files: Vec<String> = self.files.iter().map(|f| f.display().to_string()).collect();
        say(format!("Files: {}", files.join(", ")));
    }

    /// The front, the recommended trial and the folder.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        let mut object = serde_json::to_value(&self.front)?;
        object["recommended"] = json!(self.recommended.trial.id);
        object["reason"] = json!(self.recommended.reason);
        object["out"] = json!(self.out);
        object["training_tokens"] = json!({ "alone": self.tokens[0], "spent": self.tokens[1] });
        Ok(object)
    }
}

/// The sum of a metric over the trials that have it.
fn sum(trials: &[TrialRow], metric: &str) -> f64 {
    let values = trials.iter().filter_map(|trial| trial.metrics.get(metric));
    values.map(|value| value.value).sum()
}

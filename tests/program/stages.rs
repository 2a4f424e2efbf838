//! Trials of a study share what is alike in their trainings, on one machine and across machines.

use std::fs;

use parsimony_tests::program::Program;
use serde_json::Value;

use crate::program;

/// A study of what is done to one model after its training.
fn study(program: &Program, name: &str, space: &str, trials: usize) -> Vec<Value> {
    let text = format!(
        r#"
name = "{name}"

[data]
corpus = "crate_sources"
tokenizer = "byte"

[fixed]
context = 32
width = 64
heads = 4
layers = 1
batch = 8
tokens = 16_000
validation_tokens = 2048
recovery = 0.2

[space]
{space}

[[objective]]
metric = "validation_loss"

[[objective]]
metric = "model_bytes"

[search]
method = "random"
trials = {trials}
"#
    );
    let file = format!("{name}.toml");
    program.write(&file, &text);
    program.ok(&["search", &file]);
    let trials = program.json(&["trials", name, "--format", "json"]);
    let trials = trials["trials"].as_array().unwrap().clone();
    assert!(trials.iter().all(|t| t["state"] == "done"), "{trials:?}");
    trials
}

/// The sum of a metric over trials.
fn sum(trials: &[Value], metric: &str) -> f64 {
    let values = trials.iter().map(|t| &t["metrics"][metric]["value"]);
    values.map(|v| v.as_f64().unwrap()).sum()
}

#[test]
fn what_is_alike_is_trained_once_on_one_machine_and_across_machines() {
    let program = program();
    let space = "bits = [32, 8, 4]\nquant_group = [32, 64]\nprune_ratio = [0.0, 0.5]";
    let trials = study(&program, "shared", space, 10);
    let (alone, spent) = (
        sum(&trials, "training_tokens"),
        sum(&trials, "spent_training_tokens"),
    );
    assert!(alone >= 4.0 * spent, "{spent} of {alone} tokens");
    assert!(sum(&trials, "training_flops") > 2.0 * sum(&trials, "spent_training_flops"));
    // a trial's files are those of its model
    let export = [
        "export",
        "shared",
        "--pick",
        "min:validation_loss",
        "--out",
        "model",
    ];
    program.ok(&export);
    let files = fs::read_dir(program.path("model")).unwrap();
    let names: Vec<_> = files
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.iter().all(|name| !name.starts_with("stage.")), "{names:?}");

    // what this machine keeps is gone, as on another one: the server has it
    fs::remove_dir_all(program.path("data/stages")).unwrap();
    let space = "bits = [8, 2]\nprune_ratio = [0.0, 0.5]";
    let trials = study(&program, "elsewhere", space, 3);
    assert_eq!(sum(&trials, "spent_training_tokens"), 0.0);
    assert!(sum(&trials, "training_tokens") > 0.0);
}

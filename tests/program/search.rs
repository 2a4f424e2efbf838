use std::collections::{BTreeMap, BTreeSet};

use nix::sys::signal::Signal;
use parsimony_tests::program::{Program, children, signal, wait_for};
use serde_json::{Value, json};

use crate::program;

/// Twelve trainings of about two seconds.
const STUDY: &str = r#"
name = "crash"

[data]
corpus = "crate_sources"
tokenizer = "byte"

[fixed]
context = 32
heads = 2
batch = 8
tokens = 60_000
validation_tokens = 2048

[space]
attention = ["full", "sliding_window", "linear"]
layers = { int = [1, 2] }
width = { int = [32, 64], step = 16 }
bits = [32, 8, 4]

[[objective]]
metric = "validation_loss"

[[objective]]
metric = "inference_flops_per_token"

[[objective]]
metric = "model_bytes"

[search]
trials = 12

[[search.start]]
layers = 2
width = 48
bits = 8
"#;

fn trials(program: &Program) -> Vec<Value> {
    let listed = program.run(&["trials", "crash", "--format", "json"]);
    // the study is not there before the server has begun
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap_or_default();
    listed["trials"].as_array().cloned().unwrap_or_default()
}

/// Metrics of the trials that are done, by the trial's number.
fn done(program: &Program) -> BTreeMap<u64, Value> {
    let done = trials(program).into_iter().filter(|t| t["state"] == "done");
    done.map(|t| (t["number"].as_u64().unwrap(), t["metrics"].clone()))
        .collect()
}

fn objectives(trial: &Value) -> [f64; 3] {
    ["validation_loss", "inference_flops_per_token", "model_bytes"]
        .map(|m| trial["metrics"][m]["value"].as_f64().unwrap())
}

#[test]
fn a_study_survives_the_death_of_its_worker_and_of_its_server() {
    let program = program();
    program.write("study.toml", STUDY);
    let search = ["search", "study.toml", "--out", "results"];

    let running = program.start(&search);
    wait_for("two results", || (done(&program).len() >= 2).then_some(()));
    let workers = children(running.pid(), "worker");
    assert_eq!(workers.len(), 1);
    signal(workers[0], Signal::SIGKILL);
    let before = done(&program).len();
    wait_for("results of the next worker", || {
        (done(&program).len() >= before + 2).then_some(())
    });
    let kept = done(&program);
    assert!(kept.len() < 12, "the server dies in the middle");
    running.crash();

    let second = program.start(&search);
    let printed = |log: &str| log.contains("Recommended (*): ");
    assert_eq!(second.wait(), Some(0));
    assert!(printed(
        &std::fs::read_to_string(program.path("search.log")).unwrap()
    ));

    let trials = trials(&program);
    let numbers: BTreeSet<u64> = trials.iter().map(|t| t["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers.len(), 12, "every trial once");
    assert_eq!(trials.len(), 12, "no trial twice");
    assert!(trials.iter().all(|t| t["state"] == "done"));
    let configs: BTreeSet<String> = trials.iter().map(|t| t["config"].to_string()).collect();
    assert_eq!(configs.len(), 12, "no configuration is paid for twice");
    let first = trials.iter().find(|t| t["number"] == 0).unwrap();
    let given = |name: &str| first["config"][name].clone();
    assert_eq!(
        ["layers", "width", "bits", "attention"].map(given),
        [json!(2), json!(48), json!(8), json!("full")],
        "the study begins with what is given, and otherwise with what is usual"
    );
    let after = done(&program);
    for (number, metrics) in &kept {
        assert_eq!(&after[number], metrics, "a finished trial is not touched");
    }
    assert!(
        trials.iter().any(|t| t["attempt"].as_u64() > Some(1)),
        "a cut off trial went on"
    );

    let front = program.json(&["front", "crash", "--format", "json"]);
    let points: Vec<[f64; 3]> = front["trials"]
        .as_array()
        .unwrap()
        .iter()
        .map(objectives)
        .collect();
    let all: Vec<[f64; 3]> = trials.iter().map(objectives).collect();
    let beats = |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).all(|(a, b)| a <= b) && a != b;
    assert!(!points.is_empty());
    for point in &points {
        assert!(
            all.iter().all(|other| !beats(other, point)),
            "{point:?} is beaten"
        );
    }
    for other in &all {
        assert!(
            points.iter().any(|p| p == other || beats(p, other)),
            "{other:?} is missing on the front"
        );
    }

    for file in [
        "study.toml",
        "front.json",
        "front.csv",
        "trials.csv",
        "front.svg",
        "front.png",
    ] {
        assert!(
            program.path("results").join(file).metadata().unwrap().len() > 100,
            "{file}"
        );
    }
    drawn_again(&program, "crash", 12);
    export_measure_and_write(&program);
    go_on_in_another_space(&program);
}

/// Draws a study's proposals again; how many trials were pending at most.
pub(crate) fn drawn_again(program: &Program, study: &str, proposals: u64) -> u64 {
    let replay = program.json(&["replay", study, "--json"]);
    assert_eq!(
        (&replay["drawn"], &replay["differing"]),
        (&json!(proposals), &json!([])),
        "{replay}"
    );
    replay["most_pending"].as_u64().unwrap()
}

#[test]
fn the_proposals_of_a_parallel_study_are_drawn_again_from_its_snapshots() {
    let program = program();
    let parallel = STUDY
        .replace("trials = 12", "trials = 26\nparallel = 4\nrepeats = 1")
        .replace("60_000", "6_000");
    program.write("study.toml", &parallel);
    program.ok(&["search", "study.toml", "--workers", "2", "--out", "results"]);
    let pending = drawn_again(&program, "crash", 26);
    assert!(pending >= 3, "with three others on their way: {pending}");

    // some were trained twice, and the front has their means
    let trials = trials(&program);
    let repeat = trials.iter().find(|t| t["repeats"].is_u64()).expect("a repeat");
    let first = trials.iter().find(|t| t["number"] == repeat["repeats"]).unwrap();
    assert_eq!(
        (&first["trainings"], &first["config"]),
        (&json!(2), &repeat["config"])
    );
    let spread = first["metrics"]["validation_loss"]["spread"].as_f64().unwrap();
    let between = objectives(first)[0] - objectives(repeat)[0];
    assert!(spread > 0.0, "another seed, another loss");
    assert!((between.abs() - 2.0 * spread).abs() < 1e-9, "{between} {spread}");
    let front = program.json(&["front", "crash", "--format", "json"]);
    let mut on_front = front["trials"].as_array().unwrap().iter();
    assert!(on_front.all(|t| {
        trials
            .iter()
            .any(|own| own["id"] == t["id"] && own["repeats"].is_null())
    }));

    let unknown = program.run(&["replay", "nothing"]);
    assert!(
        unknown.code == Some(2) && unknown.stderr.contains("nothing"),
        "{}",
        unknown.stderr
    );
}

/// A study of fewer parameters begins with the front of the one before.
fn go_on_in_another_space(program: &Program) {
    let text = STUDY.split("[[search.start]]").next().unwrap();
    let text = text
        .replace("\"crash\"", "\"next\"")
        .replace("trials = 12", "trials = 1");
    program.write("next.toml", &text.replace("bits = [32, 8, 4]\n", ""));
    program.ok(&["search", "next.toml", "--start-from", "crash", "--out", "next"]);
    let tried = program.json(&["trials", "next", "--format", "json"])["trials"][0]["config"].clone();
    let front = program.json(&["front", "crash", "--format", "json"]);
    let best = front["trials"].as_array().unwrap().iter().map(|t| &t["config"]);
    let alike = |c: &Value| {
        ["attention", "layers", "width"]
            .iter()
            .all(|name| c[name] == tried[name])
    };
    assert!(best.clone().any(alike), "{tried}");
    let refused = program.run(&["search", "next.toml", "--start-from", "nothing"]);
    assert!(
        refused.code == Some(2) && refused.stderr.contains("nothing"),
        "{}",
        refused.stderr
    );
}

/// The exported model gives the same numbers and writes text.
fn export_measure_and_write(program: &Program) {
    let exported = program.json(&["export", "crash", "--pick", "knee", "--out", "model", "--json"]);
    let again = program.json(&["evaluate", "model", "--json"]);
    let of = |object: &Value, metric: &str| object["metrics"][metric]["value"].as_f64().unwrap();
    let loss = |object: &Value| of(object, "validation_loss");
    assert!((loss(&exported) - loss(&again)).abs() < 1e-3);
    for metric in ["model_bytes", "parameters", "inference_flops_per_token"] {
        assert_eq!(of(&exported, metric), of(&again, metric), "{metric}");
    }
    let served = ["config.json", "model.safetensors", "tokenizer.json"]
        .map(|file| program.path("model").join(file).metadata().unwrap().len());
    assert_eq!(of(&again, "model_bytes"), served.iter().sum::<u64>() as f64);
    let text = program.ok(&["generate", "model", "--prompt", "fn main", "--tokens", "40"]);
    assert!(text.starts_with("fn main") && text.len() > 20, "{text}");
    let same = program.json(&[
        "generate", "model", "--prompt", "fn main", "--tokens", "40", "--json",
    ]);
    assert_eq!(
        same["text"].as_str().unwrap(),
        text.trim_end_matches('\n'),
        "the same seed, the same text"
    );
}

//! Studies that train in parts: promoted, pruned, resumed after a crash, and compared at equal training.

use std::{collections::BTreeMap, fmt::Write as _, time::Instant};

use parsimony_tests::{
    program::{Program, wait_for},
    repository,
};
use search::hypervolume;
use serde_json::Value;
use spaces::protocol::TrialState;
use store::{Cluster, Finish, Store, TrialDetail};

use crate::{program, search::drawn_again};

/// A text that every machine has.
const SOURCES: &str = r#"corpus = "crate_sources""#;

/// Small trainings of one text, with four things to trade off. `data` is what stands below `[data]`, `search` below
/// `[search]`.
fn study(name: &str, data: &str, tokens: u64, search: &str) -> String {
    format!(
        r#"
name = "{name}"

[data]
{data}
tokenizer = "byte"

[fixed]
context = 32
heads = 2
batch = 8
tokens = {tokens}
validation_tokens = 4096

[space]
attention = ["full", "sliding_window", "linear"]
layers = {{ int = [1, 2] }}
width = {{ int = [32, 96], step = 16 }}
learning_rate = {{ float = [3e-4, 1e-2], log = true }}
prune_ratio = {{ float = [0.0, 0.6] }}
bits = [32, 8, 4]

[[objective]]
metric = "validation_loss"

[[objective]]
metric = "inference_flops_per_token"

[[objective]]
metric = "model_bytes"

[[objective]]
metric = "peak_memory_bytes"

[search]
{search}
"#
    )
}

/// What the database holds of a study after its program has ended.
fn kept(program: &Program, name: &str) -> (Vec<Finish>, Vec<TrialDetail>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let cluster = Cluster::ensure(&program.path("data")).await.unwrap();
        let store = Store::open(&cluster.url()).await.unwrap();
        let study = store.find_study(name).await.unwrap();
        let history = store.history(study.id, 0).await.unwrap();
        let mut trials = vec![];
        for trial in store.trials(study.id, &Default::default()).await.unwrap() {
            trials.push(store.trial(trial.id).await.unwrap());
        }
        store.close().await;
        cluster.stop_if_idle().await.unwrap();
        (history, trials)
    })
}

fn listed(program: &Program, name: &str) -> Vec<Value> {
    // the study is not there before the server has begun
    let printed = program.run(&["trials", name, "--format", "json"]).stdout;
    let listed: Value = serde_json::from_str(&printed).unwrap_or_default();
    listed["trials"].as_array().cloned().unwrap_or_default()
}

#[test]
fn one_in_three_is_trained_on_from_where_it_stopped_and_a_crash_loses_nothing() {
    let program = program();
    let search = "trials = 9\nfidelity = { steps = [0.1, 0.3, 1.0] }";
    program.write("study.toml", &study("parts", SOURCES, 80_000, search));
    let command = ["search", "study.toml", "--out", "results"];
    let running = program.start(&command);
    wait_for("a trial that was trained on", || {
        let trials = listed(&program, "parts");
        trials
            .iter()
            .any(|t| t["trained"] == 0.3 || t["target"] == 1.0)
            .then_some(())
    });
    running.crash();
    assert_eq!(program.start(&command).wait(), Some(0));

    let trials = listed(&program, "parts");
    let states = |state: &str| trials.iter().filter(|t| t["state"] == state).count();
    assert_eq!((trials.len(), states("done"), states("pruned")), (9, 1, 8));
    let front = program.json(&["front", "parts", "--format", "json"]);
    assert_eq!(
        front["trials"].as_array().unwrap().len(),
        1,
        "only what is fully trained"
    );

    drawn_again(&program, "parts", 9);
    let (history, details) = kept(&program, "parts");
    let reached = |part: f64| {
        let rests = history.iter().filter(|f| f.state == TrialState::Paused);
        rests.filter(|f| f.fidelity == part).count()
    };
    assert_eq!((reached(0.1), reached(0.3)), (9, 3));
    // of 312 steps: each attempt that was promoted begins where the part before ended
    let done = details
        .iter()
        .find(|t| t.trial.state == TrialState::Done)
        .unwrap();
    let from = &done.provenance["resumed_at_step"];
    assert!(from.parse::<u64>().unwrap() >= 94, "{from}");
    assert!(done.artifacts.iter().any(|a| a.name == "model.safetensors"));
    for pruned in details.iter().filter(|t| t.trial.state == TrialState::Pruned) {
        assert!(
            pruned.artifacts.is_empty(),
            "no checkpoint stays: {:?}",
            pruned.artifacts
        );
    }

    // the same configuration trained without a stop is the same model, to the last bit
    let config: BTreeMap<String, Value> = trials
        .iter()
        .find(|t| t["state"] == "done")
        .map(|t| serde_json::from_value(t["config"].clone()).unwrap())
        .unwrap();
    let fixed: String = config.iter().fold(String::new(), |mut text, (name, value)| {
        writeln!(text, "{name} = {value}").unwrap();
        text
    });
    let text = format!("[data]\ncorpus = \"crate_sources\"\ntokenizer = \"byte\"\n[fixed]\n{fixed}");
    program.write("again.toml", &text);
    let seed = &done.provenance["seed"];
    let whole = program.json(&["measure", "again.toml", "--seed", seed, "--json"]);
    let loss = done
        .trial
        .metrics
        .iter()
        .find(|m| m.metric == "validation_loss")
        .unwrap();
    assert_eq!(
        whole["metrics"]["validation_loss"]["value"].as_f64(),
        Some(loss.value)
    );
}

/// One study of the comparison.
struct Run {
    method: &'static str,
    /// Training spent, in full lengths, and the values of the front's candidates by then.
    results: Vec<(f64, Vec<f64>)>,
    /// For who waits.
    summary: String,
}

const OBJECTIVES: [&str; 4] = [
    "validation_loss",
    "inference_flops_per_token",
    "model_bytes",
    "peak_memory_bytes",
];
const BUDGET: f64 = 40.0;
const TOKENS: u64 = 120_000;

fn compare(program: &Program, data: &str, method: &'static str, search: &str, seed: u64) -> Run {
    let name = format!("{}-{seed}", method.replace(" ", "-"));
    let search = format!("{search}\ntrials = 1000\nfull_trials = {BUDGET}\nseed = {seed}");
    program.write("study.toml", &study(&name, data, TOKENS, &search));
    let begun = Instant::now();
    program.ok(&["search", "study.toml", "--out", &name]);
    let (history, _) = kept(program, &name);
    let (mut spent, mut at): (f64, BTreeMap<u32, f64>) = (0.0, BTreeMap::new());
    let mut results = vec![];
    for finish in history {
        if matches!(finish.state, TrialState::Paused | TrialState::Done) {
            let before = at.insert(finish.number, finish.fidelity).unwrap_or(0.0);
            spent += finish.fidelity - before;
        }
        if finish.state == TrialState::Done {
            let value = |metric: &&str| {
                finish
                    .measurements
                    .iter()
                    .find(|m| m.metric == *metric)
                    .unwrap()
                    .value
            };
            results.push((spent, OBJECTIVES.iter().map(value).collect()));
        }
    }
    let summary = format!(
        "{name}: {} configurations, {} trained in full, {spent:.2} full lengths, {:.0} s",
        at.len(),
        results.len(),
        begun.elapsed().as_secs_f64()
    );
    Run {
        method,
        results,
        summary,
    }
}

/// The hypervolume of a run once so much training was spent, in the box from the best to the worst value of all runs.
fn volume(run: &Run, runs: &[Run], spent: f64) -> f64 {
    let all = || {
        runs.iter()
            .flat_map(|r| r.results.iter().map(|(_, values)| values))
    };
    let end = |i: usize, pick: fn(f64, f64) -> f64, from: f64| all().map(|v| v[i]).fold(from, pick);
    let scaled = |values: &Vec<f64>| -> Vec<f64> {
        let scale = |(i, v): (usize, &f64)| {
            let (low, high) = (
                end(i, f64::min, f64::INFINITY),
                end(i, f64::max, f64::NEG_INFINITY),
            );
            (v - low) / (high - low).max(f64::MIN_POSITIVE)
        };
        values.iter().enumerate().map(scale).collect()
    };
    let by_then = run.results.iter().filter(|(at, _)| *at <= spent + 1e-9);
    hypervolume(
        &by_then.map(|(_, values)| scaled(values)).collect::<Vec<_>>(),
        &[1.1; 4],
    )
}

/// The median of the hypervolumes at each of the points on the way, by method.
fn medians(runs: &[Run]) -> BTreeMap<&'static str, Vec<(f64, f64)>> {
    let mut medians: BTreeMap<&'static str, Vec<(f64, f64)>> = BTreeMap::new();
    for step in 1..=80 {
        let spent = BUDGET * f64::from(step) / 80.0;
        let mut volumes: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        for run in runs {
            volumes
                .entry(run.method)
                .or_default()
                .push(volume(run, runs, spent));
        }
        for (method, mut volumes) in volumes {
            volumes.sort_by(f64::total_cmp);
            medians
                .entry(method)
                .or_default()
                .push((spent, volumes[volumes.len() / 2]));
        }
    }
    medians
}

/// The medians as a picture, from an eighth of the budget on: before that a curve says when the first full training ended.
fn svg(medians: &BTreeMap<&'static str, Vec<(f64, f64)>>) -> String {
    let curves: Vec<(&str, Vec<(f64, f64)>)> = medians
        .iter()
        .map(|(method, curve)| {
            let shown = curve.iter().filter(|(x, _)| *x >= BUDGET / 8.0);
            (*method, shown.copied().collect())
        })
        .collect();
    let values = || curves.iter().flat_map(|(_, curve)| curve).map(|(_, v)| *v);
    let (lowest, highest) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(0.0, f64::max),
    );
    let across = |x: f64| 60.0 + 600.0 * x / BUDGET;
    let place = |(x, y): &(f64, f64)| {
        let up = 340.0 * (y - lowest) / (highest - lowest).max(f64::MIN_POSITIVE);
        format!("{:.1},{:.1}", across(*x), 380.0 - up)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 700 430\" font-family=\"sans-serif\" font-size=\"14\">\n\
         <rect width=\"700\" height=\"430\" fill=\"white\"/>\n\
         <path d=\"M60 40V380H660\" fill=\"none\" stroke=\"#555\"/>\n\
         <text x=\"360\" y=\"418\" text-anchor=\"middle\">training, in full lengths</text>\n\
         <text x=\"60\" y=\"28\">median hypervolume</text>\n\
         <text x=\"54\" y=\"45\" text-anchor=\"end\">{highest:.2}</text>\n\
         <text x=\"54\" y=\"384\" text-anchor=\"end\">{lowest:.2}</text>\n"
    );
    for x in [10.0, 20.0, 30.0, 40.0] {
        let at = across(x);
        writeln!(
            svg,
            "<text x=\"{at}\" y=\"398\" text-anchor=\"middle\">{x}</text>"
        )
        .unwrap();
    }
    let pens = [("#0072b2", ""), ("#d55e00", "6 3"), ("#009e73", "2 3")];
    for (row, ((method, curve), (color, dash))) in (0..).zip(curves.iter().zip(pens)) {
        let points: Vec<String> = curve.iter().map(place).collect();
        let y = 300 + 22 * row;
        let pen = format!("fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"");
        writeln!(
            svg,
            "<polyline points=\"{}\" {pen}/>\n<path d=\"M480 {}h40\" {pen}/>\n<text x=\"530\" y=\"{y}\" fill=\"{color}\">{method}</text>",
            points.join(" "),
            y - 5
        )
        .unwrap();
    }
    svg + "</svg>\n"
}

#[test]
#[ignore = "fifteen studies, about half an hour; writes docs/multi-fidelity.csv and .svg"]
fn training_in_parts_against_training_in_full() {
    let program = program();
    let text = repository().join("../shared/data/tinyshakespeare.txt");
    let data = if text.exists() {
        format!("corpus = \"text\"\npath = '{}'", text.display())
    } else {
        println!(
            "{} is not there: trained on the crates' sources instead",
            text.display()
        );
        SOURCES.to_owned()
    };
    let parts = "fidelity = { steps = [0.3, 1.0], eta = 2 }";
    let auto = format!("method = \"auto\"\n{parts}");
    let mut runs = vec![];
    for seed in 0..5 {
        for (method, search) in [
            ("random", "method = \"random\""),
            ("nsga2", "method = \"nsga2\""),
            ("auto in parts", &auto),
        ] {
            let run = compare(&program, &data, method, search, seed);
            println!("{}", run.summary);
            runs.push(run);
        }
    }
    for run in &runs {
        println!("{}: hypervolume {:.4}", run.summary, volume(run, &runs, BUDGET));
    }
    let medians = medians(&runs);
    let mut csv = String::from("method,full_lengths,tokens,median_hypervolume\n");
    for (method, curve) in &medians {
        for (spent, volume) in curve {
            writeln!(csv, "{method},{spent},{},{volume}", spent * TOKENS as f64).unwrap();
        }
        println!("{method}: {:.4} in the end", curve[curve.len() - 1].1);
    }
    let docs = repository().join("docs");
    std::fs::write(docs.join("multi-fidelity.csv"), csv).unwrap();
    std::fs::write(docs.join("multi-fidelity.svg"), svg(&medians)).unwrap();
}

//! Whole evaluations: from data to an exported, measured model, and what goes wrong on the way.

use std::{collections::BTreeMap, fs};

use evaluator::{
    EvaluationError, Events, Silent, bundle, data::DataAccess, device::DeviceChoice, evaluate, inspect,
    remeasure,
};
use spaces::{
    Config, Evidence, Measurement,
    protocol::{Evaluation, FailureKind, Progress},
};

use crate::support::{config, job, prose, text_data};

pub(crate) fn values(result: &Evaluation) -> BTreeMap<&str, f64> {
    result
        .measurements
        .iter()
        .map(|m| (m.metric.as_str(), m.value))
        .collect()
}

fn known(config: &Config) -> BTreeMap<String, f64> {
    inspect(&config.data, None, &evaluator::data::DataAccess::anywhere(), 16)
        .unwrap()
        .known(config)
        .unwrap()
}

#[test]
fn what_is_known_before_training_is_what_is_measured_after() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 8000);
    for (i, fixed) in [
        "attention = 'full'",
        "attention = 'linear'\nlinear_chunk = 5\nbits = 4",
        "attention = 'sliding_window'\nwindow = 6\nexperts = 2\ntop_k = 2",
        "experts = 4\nrouter = 'switch'\ncapacity_factor = 1.0\nprune_ratio = 0.5\nmoe_every = 2",
        "experts = 3\nrouter = 'noisy_top_k'\ntop_k = 2\nbits = 8",
        "prune_ratio = 0.5\nhead_prune_ratio = 0.25\nrecovery = 0.2\nbits = 8",
        "prune_ratio = 0.5\nprune_criterion = 'magnitude'\nrecovery = 0",
        "layer_prune_ratio = 0.5\nrecovery = 0.2\nbits = 8",
        "layer_prune_ratio = 0.34\nlayers = 3\nprune_ratio = 0.5\nexperts = 4\nrouter = 'switch'\ncapacity_factor = 1.0",
        "layer_prune_ratio = 0.5\nreversible = true\nff_chunks = 4\nprune_ratio = 0.5\nprune_criterion = 'magnitude'",
        "prune_ratio = 0.5\nhead_prune_ratio = 0.25\nprune_criterion = 'activation'\nrecovery = 0.2",
        "prune_ratio = 0.5\nprune_criterion = 'activation'\nlayer_prune_ratio = 0.5\nexperts = 4\nrouter = 'gshard'",
        "width_prune_ratio = 0.25\nrecovery = 0.2\nbits = 8",
        "width_prune_ratio = 0.5\nexperts = 4\nrouter = 'switch'\ncapacity_factor = 1.0\nprune_ratio = 0.5\nlayer_prune_ratio = 0.5",
        "width_prune_ratio = 0.5\nattention = 'linear'\nprune_criterion = 'activation'\nprune_ratio = 0.25\nhead_prune_ratio = 0.5\ndistill = 'logits'",
        "width_prune_ratio = 0.25\nkv_heads = 2\nsparsity = 0.5\nsparsity_method = 'sparsegpt'",
        "reversible = true\nff_chunks = 4\nprune_ratio = 0.5\nhead_prune_ratio = 0.25\nrecovery = 0.2\nbits = 8",
        "reversible = true\nexperts = 4\nrouter = 'switch'\ncapacity_factor = 1.0",
        "sparsity = 0.5\nprune_ratio = 0.5\nrecovery = 0.2",
        "sparsity = 0.5\nsparsity_pattern = '2:4'\nsparsity_method = 'sparsegpt'\nexperts = 4\ntop_k = 2\nmoe_every = 2",
        "sparsity = 0.8\nsparsity_method = 'magnitude'\nattention = 'linear'\nlinear_chunk = 5",
        "sparsity = 0.9\nsparsity_batches = 2\nreversible = true\nfeed_forward = 'channel_mix'",
        "bits = 4\nquant_method = 'gptq'\nkv_heads = 2\nprune_ratio = 0.5",
        "bits = 3\nquant_method = 'gptq'\nexperts = 4\nrouter = 'gshard'\ncalibration_batches = 1",
        "bits = 3\nquant_method = 'awq'\nexperts = 3\nrouter = 'noisy_top_k'\ntop_k = 2",
        "bits = 2\nquant_method = 'awq'\nattention = 'rwkv'\nfeed_forward = 'channel_mix'\nreversible = true",
        "bits = 4\nquant_method = 'nf4'",
        "bits = 6",
        "bits = 3\nbits_layer_2 = 32\nquant_method = 'gptq'",
        "bits = 5\nbits_layer_1 = 32\nbits_layer_2 = 2\nquant_method = 'awq'\nexperts = 2",
        "bits = 8\nactivation_bits = 8\nbits_layer_1 = 4\nquant_method = 'gptq'",
        "bits = 8\nactivation_bits = 8\nquant_method = 'smooth'\nexperts = 4\nrouter = 'switch'\ncapacity_factor = 1.0",
        "bits = 4\nactivation_bits = 8\nquant_method = 'int8_outlier'\nint8_threshold = 1.5\nexperts = 3\nrouter = 'noisy_top_k'\ntop_k = 2",
        "bits = 3\nqat = 0.3\nprune_ratio = 0.5\nrecovery = 0.2",
        "cache_bits = 4",
        "cache_bits = 8\nattention = 'sliding_window'\nwindow = 5\nbits = 4\nkv_heads = 2\nprune_ratio = 0.5\nrecovery = 0.2",
    ]
    .into_iter()
    .enumerate()
    {
        let config = config(&data, fixed);
        let known = known(&config);
        let result = evaluate(&job(config, &dir.path().join(i.to_string())), &mut Silent).unwrap();
        let measured = values(&result);
        for (metric, value) in known {
            assert_eq!(measured[metric.as_str()], value, "{metric} of {fixed}");
        }
        for m in &result.measurements {
            assert!(
                m.value.is_finite() && m.value >= 0.0 && !m.source.is_empty(),
                "{m:?}"
            );
            let estimated = m.metric.contains("energy") && m.source.starts_with("power_model");
            assert_eq!(m.evidence == Evidence::Estimated, estimated, "{m:?}");
        }
        for metric in ["latency_ms_per_token", "time_to_first_token_ms"] {
            let row = result.measurements.iter().find(|m| m.metric == metric).unwrap();
            assert!(row.spread.is_some() && row.source.contains("warm-up"), "{row:?}");
        }
        let expected_files: Vec<String> = bundle::FILES.map(String::from).to_vec();
        assert_eq!(result.artifacts, expected_files);
        for file in bundle::FILES {
            assert!(
                dir.path().join(i.to_string()).join("bundle").join(file).exists(),
                "{file}"
            );
        }
    }
}

#[test]
fn compression_makes_files_and_memory_smaller() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 8000);
    let run = |name: &str, fixed: &str| {
        let config = config(&data, &format!("width = 128\ntokens = 128\n{fixed}"));
        let work = dir.path().join(name);
        let result = evaluate(&job(config, &work), &mut Silent).unwrap();
        let weights = fs::metadata(work.join("bundle/model.safetensors")).unwrap().len() as f64;
        (
            values(&result)
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<BTreeMap<_, _>>(),
            weights,
        )
    };
    let (dense, dense_file) = run("dense", "");
    let (four, four_file) = run("four", "bits = 4");
    let (half, half_file) = run("half", "prune_ratio = 0.5");
    assert!(four_file / dense_file <= 0.30, "{}", four_file / dense_file);
    assert!(
        four["peak_memory_bytes"] < 0.5 * dense["peak_memory_bytes"],
        "{four:?} {dense:?}"
    );
    assert_eq!(
        four["inference_flops_per_token"],
        dense["inference_flops_per_token"]
    );
    for metric in [
        "parameters",
        "inference_flops_per_token",
        "model_bytes",
        "peak_memory_bytes",
    ] {
        assert!(
            half[metric] < 0.85 * dense[metric],
            "{metric}: {} {}",
            half[metric],
            dense[metric]
        );
    }
    assert!(half_file < 0.85 * dense_file);
}

#[test]
fn sparse_weights_make_files_memory_and_work_smaller_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 8000);
    let run = |name: &str, fixed: &str| {
        let config = config(&data, &format!("width = 128\ntokens = 1280\n{fixed}"));
        let work = dir.path().join(name);
        let result = evaluate(&job(config, &work), &mut Silent).unwrap();
        let weights = fs::metadata(work.join("bundle/model.safetensors")).unwrap().len() as f64;
        let again = remeasure(&work.join("bundle"), &DataAccess::anywhere(), DeviceChoice::Cpu).unwrap();
        for metric in [
            "validation_loss",
            "parameters",
            "model_bytes",
            "inference_flops_per_token",
        ] {
            assert_eq!(
                values(&again)[metric],
                values(&result)[metric],
                "{name}: {metric}"
            );
        }
        (result, weights)
    };
    let (dense, dense_file) = run("dense", "");
    let dense = values(&dense);
    let mut charged = vec![];
    for method in ["magnitude", "wanda", "sparsegpt"] {
        let fixed = format!("sparsity = 0.75\nsparsity_method = '{method}'");
        let (sparse, file) = run(method, &fixed);
        assert!(sparse.activity["removed_weights"] > 0 && sparse.activity["sparse_products"] > 0);
        let sparse = values(&sparse);
        // a quarter of the weights, and a bit for each
        assert!(file / dense_file < 0.31, "{method}: {}", file / dense_file);
        for metric in [
            "parameters",
            "active_parameters",
            "inference_flops_per_token",
            "peak_memory_bytes",
        ] {
            let share = sparse[metric] / dense[metric];
            assert!(share < 0.5, "{method}: {metric} {share}");
        }
        charged.push(sparse["training_flops"] - dense["training_flops"]);
    }
    assert!(
        charged[0] == 0.0 && charged[0] < charged[1] && charged[1] < charged[2],
        "{charged:?}"
    );
}

#[test]
fn sparsity_that_cannot_be_stored_is_refused_before_training() {
    let refused = |fixed: &str| {
        let config = config("[data]\ncorpus = \"markov\"", fixed);
        evaluator::plan::Plan::read(&config, 19, None).unwrap_err()
    };
    let narrow = refused("sparsity = 0.5\nsparsity_pattern = '4:8'\nheads = 2\nwidth = 36");
    assert!(narrow.contains("rows of 36"), "{narrow}");
    let none = refused("sparsity = 0.01");
    assert!(none.contains("removes none of 32 weights"), "{none}");
}

#[test]
fn a_base_is_adapted_to_another_text_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let first = text_data(dir.path(), 20_000);
    let base_dir = dir.path().join("base");
    evaluate(
        &job(config(&first, "tokens = 6400\ncontext = 32"), &base_dir),
        &mut Silent,
    )
    .unwrap();
    let bundle_dir = base_dir.join("bundle");

    // the second text speaks of the same animals in another order
    let second = dir.path().join("second.txt");
    let reversed: String = prose(20_000)
        .lines()
        .map(|l| l.split(' ').rev().collect::<Vec<_>>().join(" ") + "\n")
        .collect();
    fs::write(&second, reversed).unwrap();
    let data = |tokenizer: &str| {
        format!(
            "[data]\ncorpus = \"text\"\npath = \"{}\"\n{tokenizer}[base]\npath = \"{}\"",
            second.display(),
            bundle_dir.display()
        )
    };
    let run = |name: &str, fixed: &str| {
        let text = format!(
            "{}\n[fixed]\ncontext = 32\nbatch = 4\ntokens = 6400\n{fixed}\n",
            data("")
        );
        let config = spaces::study::config_from_toml(&text, &evaluator::catalog()).unwrap();
        evaluate(&job(config, &dir.path().join(name)), &mut Silent).unwrap()
    };
    let as_it_is = run("none", "fine_tune = 'none'");
    let lora = run(
        "lora",
        "fine_tune = 'lora'\nlora_rank = 4\nlora_targets = 'all'\nlearning_rate = 1e-2",
    );
    let full = run("full", "fine_tune = 'full'\nlearning_rate = 3e-3");
    let loss = |r: &Evaluation| values(r)["validation_loss"];
    assert!(
        loss(&lora) < loss(&as_it_is) - 0.2,
        "{} {}",
        loss(&lora),
        loss(&as_it_is)
    );
    assert!(loss(&full) < loss(&as_it_is) - 0.2);
    assert!(
        !values(&as_it_is).contains_key("training_flops"),
        "nothing was trained"
    );
    assert!(values(&lora)["training_flops"] < values(&full)["training_flops"]);
    assert_eq!(
        values(&lora)["parameters"],
        values(&full)["parameters"],
        "merged: no extra weights"
    );
    assert!(lora.activity["lora_matrices"] > 0);

    let text = format!("{}\n[fixed]\ncontext = 32\n", data("tokenizer = \"byte\"\n"));
    let config = spaces::study::config_from_toml(&text, &evaluator::catalog()).unwrap();
    let error = evaluate(&job(config, &dir.path().join("x")), &mut Silent).unwrap_err();
    assert!(
        error.to_string().contains("the base brings its tokenizer"),
        "{error}"
    );
}

/// Collects what is reported.
#[derive(Default)]
struct Collected {
    curve: Vec<Measurement>,
    phases: Vec<String>,
}

impl Events for Collected {
    fn progress(&mut self, progress: Progress) {
        if self.phases.last() != Some(&progress.phase) {
            self.phases.push(progress.phase);
        }
    }

    fn report(&mut self, measurements: Vec<Measurement>) {
        self.curve.extend(measurements);
    }
}

#[test]
fn a_learning_curve_and_phases_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&text_data(dir.path(), 8000), "prune_ratio = 0.25\ntokens = 3200");
    let mut seen = Collected::default();
    evaluate(&job(config, &dir.path().join("w")), &mut seen).unwrap();
    assert_eq!(
        seen.phases,
        ["load", "train", "prune", "recover", "export", "measure"]
    );
    let steps: Vec<u64> = seen.curve.iter().map(|m| m.step).collect();
    assert!(
        steps.len() >= 10 && steps.windows(2).all(|w| w[0] < w[1]),
        "{steps:?}"
    );
    assert!(seen.curve[0].value > seen.curve[seen.curve.len() - 1].value);
}

#[test]
fn a_time_budget_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "{}\n[fixed]\ncontext = 16\nlayers = 1\nwidth = 32\nbatch = 4\ntraining_time = \"500 ms\"\n",
        text_data(dir.path(), 8000)
    );
    let config = spaces::study::config_from_toml(&text, &evaluator::catalog()).unwrap();
    assert!(
        !known(&config).contains_key("training_flops"),
        "not known before the speed is"
    );
    let result = evaluate(&job(config, &dir.path().join("w")), &mut Silent).unwrap();
    assert!(values(&result)["training_flops"] > 0.0);
}

#[test]
fn each_failure_is_one_sentence_of_its_kind() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 8000);
    let fail = |data: &str, fixed: &str| -> EvaluationError {
        evaluate(&job(config(data, fixed), &dir.path().join("w")), &mut Silent).unwrap_err()
    };
    let nan = fail(
        &data,
        "learning_rate = 1\ngradient_clip = 1000000\nweight_decay = 10\ntokens = 64000",
    );
    assert_eq!(nan.kind(), Some(FailureKind::NotANumber), "{nan}");
    assert!(nan.to_string().contains("learning_rate below 1"), "{nan}");

    let missing = fail("[data]\ncorpus = \"text\"\npath = \"/nowhere/at/all.txt\"", "");
    assert!(missing.to_string().contains("/nowhere/at/all.txt"), "{missing}");
    fs::write(dir.path().join("empty.txt"), "").unwrap();
    let empty = fail(
        &format!(
            "[data]\ncorpus = \"text\"\npath = \"{}\"",
            dir.path().join("empty.txt").display()
        ),
        "",
    );
    assert!(empty.to_string().contains("empty"), "{empty}");
    fs::write(dir.path().join("short.txt"), "too short a text\n").unwrap();
    let short = fail(
        &format!(
            "[data]\ncorpus = \"text\"\npath = \"{}\"",
            dir.path().join("short.txt").display()
        ),
        "context = 512",
    );
    assert!(short.to_string().contains("context"), "{short}");

    let mut other = job(config(&data, ""), &dir.path().join("w"));
    other.expected_fingerprint = Some("0123".into());
    let error = evaluate(&other, &mut Silent).unwrap_err();
    assert!(matches!(error, EvaluationError::OtherData { .. }) && error.kind() == Some(FailureKind::Data));

    // a file where the work folder should be
    fs::write(dir.path().join("blocked"), "").unwrap();
    let disk = evaluate(&job(config(&data, ""), &dir.path().join("blocked")), &mut Silent).unwrap_err();
    assert_eq!(disk.kind(), Some(FailureKind::Disk), "{disk}");
}

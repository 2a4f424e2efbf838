//! Contextual pruning: neurons that are not chosen cost nothing, and those that are chosen are the active ones.

use std::path::Path;

use evaluator::{
    Silent,
    data::DataAccess,
    device::{Device, DeviceChoice},
    evaluate, inspect, remeasure,
};
use spaces::{Evidence, protocol::Evaluation};

use crate::support::{config, job, plan, plan_for, text_data};

fn trained(dir: &Path, name: &str, more: &str) -> Evaluation {
    let data = text_data(dir, 20_000);
    let config = config(&data, &format!("tokens = 12800\n{more}"));
    evaluate(&job(config, &dir.join(name)), &mut Silent).unwrap()
}

fn value(result: &Evaluation, metric: &str) -> f64 {
    let found = result.measurements.iter().find(|m| m.metric == metric);
    found.unwrap_or_else(|| panic!("{metric}")).value
}

/// Counted work, that of lessons included, is held against the formula wherever an evaluation succeeds.
#[test]
fn a_model_of_chosen_neurons_is_taught_measured_exported_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let dense = trained(dir.path(), "dense", "");
    let of = |keep: f64| {
        let more = format!("context_keep = {keep}\ncontext_predictor_rank = 8\ncontext_batches = 128\n");
        trained(dir.path(), &format!("keep {keep}"), &more)
    };
    let quarter = of(0.25);
    // 96 neurons of width 32 in each of 2 layers: 24 of them and a predictor, for each token
    let saved = 2.0 * 2.0 * (3.0 * 32.0 * 72.0 - 8.0 * (32.0 + 96.0));
    let flops = |result: &Evaluation| value(result, "inference_flops_per_token");
    assert_eq!(flops(&dense) - flops(&quarter), saved);
    let predictors = 2.0 * (8.0 * (32.0 + 96.0) + 96.0);
    assert_eq!(
        value(&quarter, "parameters") - value(&dense, "parameters"),
        predictors
    );
    assert!(value(&quarter, "model_bytes") > value(&dense, "model_bytes") + 4.0 * predictors);
    assert!(value(&quarter, "training_flops") > value(&dense, "training_flops"));
    let facts = {
        let data = text_data(dir.path(), 20_000);
        let more = "tokens = 12800\ncontext_keep = 0.25\ncontext_predictor_rank = 8\ncontext_batches = 128";
        let config = config(&data, more);
        let facts = inspect(&config.data, None, &DataAccess::anywhere(), 16).unwrap();
        facts.known(&config).unwrap()
    };
    for (metric, known) in facts {
        assert_eq!(known, value(&quarter, &metric), "{metric}");
    }
    let measured = quarter.measurements.iter();
    let mut measured = measured.filter(|m| m.metric == "inference_flops_per_token");
    assert_eq!(measured.next().unwrap().evidence, Evidence::Measured);

    // a predictor finds far more of the active neurons than chance does, which finds a quarter
    let [found, sought] =
        ["found", "sought"].map(|what| quarter.activity[&format!("context_neurons_{what}")]);
    let recall = found as f64 / sought as f64;
    eprintln!("recall {recall:.3} at a quarter");
    assert!(recall > 0.4, "{recall}");

    // and the more neurons there are, the nearer the model is to the whole one
    let most = of(0.75);
    let [whole, lost, less] = [&dense, &quarter, &most].map(|result| value(result, "validation_loss"));
    eprintln!("loss {whole:.4} of all neurons, {less:.4} of three quarters, {lost:.4} of a quarter");
    assert!(less < lost && less < whole + 0.2, "{whole} {less} {lost}");

    let bundle = dir.path().join("keep 0.25/bundle");
    let again = remeasure(&bundle, &DataAccess::anywhere(), DeviceChoice::Cpu).unwrap();
    for metric in [
        "validation_loss",
        "inference_flops_per_token",
        "parameters",
        "model_bytes",
    ] {
        assert_eq!(value(&again, metric), value(&quarter, metric), "{metric}");
    }

    let data = text_data(dir.path(), 20_000);
    let text = format!(
        "{data}\n[base]\npath = '{}'\n[fixed]\ncontext = 16\n",
        bundle.display()
    );
    let config = spaces::study::config_from_toml(&text, &evaluator::catalog()).unwrap();
    let error = evaluate(&job(config, &dir.path().join("based")), &mut Silent).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("start from a model with context_keep = 1"),
        "{error}"
    );
}

#[test]
fn neurons_are_chosen_after_pruning_and_recovery() {
    let dir = tempfile::tempdir().unwrap();
    let more = "context_keep = 0.5\nprune_ratio = 0.5\nhead_prune_ratio = 0.5\nrecovery = 0.2\ncontext_batches = 8\n\
                attention = 'linear'\nlinear_chunk = 5";
    let result = trained(dir.path(), "work", more);
    assert!(result.activity["context_neurons_left_out"] > 0);
    let summary = &result.provenance["summary"];
    assert!(summary.contains("24 of 48 neurons for each token"), "{summary}");
}

#[test]
fn what_has_no_neurons_to_choose_is_refused_in_one_sentence() {
    for (fixed, part) in [
        ("context_keep = 0.5\nexperts = 4", "mixtures of experts"),
        ("context_keep = 0.5\nfeed_forward = 'channel_mix'", "channel_mix"),
        ("context_keep = 0.5\nbits = 8", "bits = 8 packs weights"),
        ("context_keep = 0.5\nsparsity = 0.5", "sparsity = 0.5"),
        (
            "context_keep = 0.5\nkind = 'encoder_decoder'\ncontext = 40",
            "kind 'encoder_decoder'",
        ),
        ("context_keep = 0.999", "of 96 neurons that leaves none out"),
    ] {
        let message = plan_for(crate::support::VOCABULARY, fixed).unwrap_err();
        assert!(
            message.contains(part) && message.ends_with("use context_keep = 1"),
            "{message}"
        );
    }
    let gpu = Device::Cuda {
        index: 0,
        uuid: "GPU-0".into(),
    };
    let message = plan("context_keep = 0.5").prepare(&gpu).unwrap_err();
    assert!(
        message.contains("on processors alone yet") && message.contains("use context_keep = 1"),
        "{message}"
    );
    plan("context_keep = 1").prepare(&gpu).unwrap();
}

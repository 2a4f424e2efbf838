//! Whole evaluations of every method of fine-tuning: from a small base to a measured bundle.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use evaluator::{Silent, bundle, data::DataAccess, evaluate, inspect, remeasure};
use spaces::{Config, protocol::Evaluation, study::config_from_toml};

use crate::support::{config, job, prose};

fn values(result: &Evaluation) -> BTreeMap<String, f64> {
    let rows = result.measurements.iter();
    rows.map(|m| (m.metric.clone(), m.value)).collect()
}

fn read(text: &str) -> Config {
    config_from_toml(text, &evaluator::catalog()).unwrap_or_else(|e| panic!("{e:?}\n{text}"))
}

/// Evaluates, and holds what was measured against what was known before.
fn run(config: Config, context: usize, dir: &Path) -> BTreeMap<String, f64> {
    let base = config.base.as_ref().map(|base| PathBuf::from(&base.path));
    let facts = inspect(&config.data, base.as_deref(), &DataAccess::anywhere(), context).unwrap();
    let known = facts.known(&config).unwrap();
    let said = format!("{:?}", config.values);
    let result = evaluate(&job(config, dir), &mut Silent).unwrap_or_else(|e| panic!("{e} of {said}"));
    let measured = values(&result);
    for (metric, value) in known {
        // of what is not trained no training is measured
        let found = measured.get(&metric).copied();
        assert_eq!(found.unwrap_or(0.0), value, "{metric} of {said}");
    }
    measured
}

#[test]
fn every_method_adapts_a_base() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        format!("[data]\ncorpus = \"text\"\npath = \"{}\"", path.display())
    };
    let first = file("first.txt", prose(20_000));
    let reversed = prose(20_000)
        .lines()
        .map(|l| l.split(' ').rev().collect::<Vec<_>>().join(" ") + "\n")
        .collect();
    let second = file("second.txt", reversed);
    run(
        config(&first, "tokens = 6400\ncontext = 32"),
        32,
        &dir.path().join("base"),
    );
    let base = dir.path().join("base/bundle");
    let adapt = |name: &str, fixed: &str| {
        let base = base.display();
        let common = "context = 32\nbatch = 4\ntokens = 6400\n";
        let text = format!("{second}\n[base]\npath = \"{base}\"\n[fixed]\n{common}{fixed}\n");
        run(read(&text), 32, &dir.path().join(name))
    };
    let as_it_is = adapt("none", "fine_tune = 'none'");
    let full = adapt("full", "fine_tune = 'full'\nlearning_rate = 3e-3");
    for (i, (fixed, gain)) in [
        ("fine_tune = 'full'\noptimizer = 'sgd'\nlearning_rate = 0.5", 0.1),
        ("fine_tune = 'full'\noptimizer = 'lomo'\nlearning_rate = 0.5", 0.1),
        // a number for each step: it learns slowly, and should not unlearn
        (
            "fine_tune = 'full'\noptimizer = 'mezo'\nlearning_rate = 1e-5\nprune_ratio = 0.25\ndistill = 'logits'",
            f64::NEG_INFINITY,
        ),
        ("fine_tune = 'dylora'\nlora_rank = 6\nlora_targets = 'all'\nlearning_rate = 1e-2", 0.1),
        ("fine_tune = 'lora'\nlora_rank = 4\nlora_targets = 'all'\nbase_bits = 4\nlearning_rate = 1e-2", 0.1),
        ("fine_tune = 'lora'\nlora_rank = 4\nlora_targets = 'all'\nbase_bits = 8\nlearning_rate = 1e-2\nbits = 8", 0.1),
        ("fine_tune = 'ia3'\nlearning_rate = 3e-2", 0.02),
        ("fine_tune = 'adapter'\nadapter_size = 8\nlearning_rate = 1e-2\nbits = 8", 0.1),
        ("fine_tune = 'adapter'\nadapter_kind = 'pfeiffer'\nlearning_rate = 1e-2\nprune_ratio = 0.25", 0.1),
        ("fine_tune = 'adapter'\nadapter_kind = 'parallel'\nlearning_rate = 1e-2", 0.1),
        ("fine_tune = 'mask'\nmask = 'bias'\nlearning_rate = 3e-2", 0.02),
        ("fine_tune = 'mask'\nmask = 'layer_subset'\nlearning_rate = 3e-3\nprune_ratio = 0.25", 0.1),
        ("fine_tune = 'mask'\nmask = 'fisher'\nmask_fraction = 0.1\nfisher_samples = 8\nlearning_rate = 1e-2", 0.1),
        ("fine_tune = 'mask'\nmask = 'magnitude'\nmask_fraction = 0.1\nlearning_rate = 1e-2", 0.1),
        ("fine_tune = 'mask'\nmask = 'child_f'\nlearning_rate = 3e-3", 0.1),
    ]
    .into_iter()
    .enumerate()
    {
        let measured = adapt(&i.to_string(), fixed);
        let (loss, before) = (measured["validation_loss"], as_it_is["validation_loss"]);
        assert!(loss < before - gain, "{fixed}: {loss}, as it is {before}");
        let trains_all = fixed.contains("'full'") || fixed.contains("fisher") || fixed.contains("prune");
        assert!(
            trains_all || fixed.contains("magnitude") || fixed.contains("child_f")
                || measured["training_flops"] < full["training_flops"],
            "{fixed}"
        );
        let keeps = fixed.contains("adapter");
        if !fixed.contains("prune") {
            assert_eq!(measured["parameters"] > full["parameters"], keeps, "{fixed}");
        }
        let served = bundle::read_served(&dir.path().join(i.to_string()).join("bundle")).unwrap();
        let packed = fixed.ends_with("\nbits = 8");
        let standard = served.standard_architecture().is_some();
        assert_eq!(standard, !keeps && !packed, "{fixed}");
        if keeps {
            let again = remeasure(
                &dir.path().join(i.to_string()).join("bundle"),
                &DataAccess::anywhere(),
                evaluator::device::DeviceChoice::Cpu,
            );
            let again = values(&again.unwrap());
            assert_eq!(again["validation_loss"], loss, "{fixed}");
            assert_eq!(again["model_bytes"], measured["model_bytes"], "{fixed}");
        }
    }
}

#[test]
fn bases_of_other_kinds_are_adapted_where_only_a_part_is_gone_back_through() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.txt");
    fs::write(&text, prose(8000)).unwrap();
    let text = format!("[data]\ncorpus = \"text\"\npath = \"{}\"", text.display());
    let listops = "[data]\ncorpus = 'listops'\nmax_depth = 3\nmax_args = 4\nmin_length = 4\nmax_length = 20\ntrain_examples = 400\nvalid_examples = 100";
    for (kind, data, more) in [
        ("encoder", listops.to_owned(), "layers = 2"),
        (
            "encoder",
            listops.to_owned(),
            "layers = 2\npooling = 'cls'\nexperts = 4\nrouter = 'switch'\ncapacity_factor = 1.0",
        ),
        (
            "encoder",
            listops.to_owned(),
            "layers = 3\nexperts = 4\nrouter = 'expert_choice'",
        ),
        (
            "encoder",
            listops.to_owned(),
            "layers = 3\nearly_exit = 'entropy'",
        ),
        ("encoder_decoder", text, "layers = 1"),
    ] {
        let base = dir.path().join(format!("{kind}{}", more.len()));
        let fixed = format!("kind = '{kind}'\ncontext = 20\ntokens = 1600\n{more}");
        evaluate(&job(config(&data, &fixed), &base), &mut Silent).unwrap();
        for (i, tuning) in [
            "fine_tune = 'mask'\nmask = 'layer_subset'",
            "fine_tune = 'mask'\nmask = 'bias'",
            "fine_tune = 'mask'\nmask = 'magnitude'",
            "fine_tune = 'adapter'\nadapter_size = 4",
            "fine_tune = 'adapter'\nadapter_kind = 'pfeiffer'\nadapter_size = 4",
            "fine_tune = 'ia3'",
            "fine_tune = 'dylora'\nlora_targets = 'all'",
            "fine_tune = 'full'\noptimizer = 'mezo'",
            "fine_tune = 'full'\noptimizer = 'lomo'",
        ]
        .iter()
        .enumerate()
        {
            let exits = if more.contains("early_exit") {
                "early_exit = 'entropy'"
            } else {
                ""
            };
            if (kind == "encoder_decoder" || !exits.is_empty()) && tuning.contains("lomo") {
                continue;
            }
            let bundle = base.join("bundle");
            let text = format!(
                "{data}\n[base]\npath = \"{}\"\n[fixed]\ncontext = 20\nbatch = 4\ntokens = 800\n{exits}\n{tuning}\n",
                bundle.display()
            );
            run(read(&text), 20, &base.join(i.to_string()));
        }
    }
}

#[test]
fn a_base_that_has_adapters_is_adapted_again() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.txt");
    fs::write(&text, prose(8000)).unwrap();
    let data = format!("[data]\ncorpus = \"text\"\npath = \"{}\"", text.display());
    let adapt = |base: &Path, name: &str, fixed: &str| {
        let dir = dir.path().join(name);
        let text = format!(
            "{data}\n[base]\npath = \"{}\"\n[fixed]\ncontext = 16\nbatch = 4\ntokens = 640\n{fixed}\n",
            base.join("bundle").display()
        );
        run(read(&text), 16, &dir);
        dir
    };
    let base = dir.path().join("base");
    evaluate(&job(config(&data, ""), &base), &mut Silent).unwrap();
    for kind in ["houlsby", "pfeiffer", "parallel"] {
        let fixed = format!("fine_tune = 'adapter'\nadapter_kind = '{kind}'\nadapter_size = 4");
        let adapted = adapt(&base, kind, &fixed);
        for (i, tuning) in [
            "fine_tune = 'lora'\nlora_targets = 'all'\nlora_rank = 3\nbase_bits = 4",
            "fine_tune = 'ia3'",
            "fine_tune = 'mask'\nmask = 'bias'",
            "fine_tune = 'mask'\nmask = 'layer_subset'\nsparsity = 0.5",
            "fine_tune = 'full'\noptimizer = 'lomo'\nlearning_rate = 0.1",
        ]
        .iter()
        .enumerate()
        {
            adapt(&adapted, &format!("{kind}{i}"), tuning);
        }
    }
}

//! Whole evaluations of encoder-decoders: from a text to a measured bundle that fills gaps.

use std::{collections::BTreeMap, path::Path};

use evaluator::{
    Sampling, Silent,
    data::{DataAccess, Dataset, Rows},
    device::DeviceChoice,
    evaluate, generate, inspect, remeasure,
};
use spaces::{Config, protocol::Evaluation};

use crate::support::{config, job};

fn values(result: &Evaluation) -> BTreeMap<&str, f64> {
    result
        .measurements
        .iter()
        .map(|m| (m.metric.as_str(), m.value))
        .collect()
}

/// Evaluates, and holds what was measured against what was known before.
fn run(config: Config, dir: &Path) -> Evaluation {
    let base = config
        .base
        .as_ref()
        .map(|base| std::path::PathBuf::from(&base.path));
    let facts = inspect(&config.data, base.as_deref(), &DataAccess::anywhere(), 32).unwrap();
    let known = facts.known(&config).unwrap();
    let result = evaluate(&job(config, dir), &mut Silent).unwrap();
    let measured = values(&result);
    for (metric, value) in known {
        assert_eq!(measured[metric.as_str()], value, "{metric}");
    }
    assert!(!measured.contains_key("bits_per_byte"), "spans are not the text");
    for metric in [
        "latency_ms_per_token",
        "time_to_first_token_ms",
        "throughput_tokens_per_s",
        "energy_j_per_token",
        "peak_memory_bytes",
        "state_bytes_per_sequence",
    ] {
        assert!(measured[metric] > 0.0, "{metric}");
    }
    result
}

/// The same line again and again, so that there is one way to fill a gap.
fn text(dir: &Path) -> String {
    let file = dir.join("text.txt");
    let line = "abcdefghijklmnopqrstuvwxyz.\n";
    std::fs::write(&file, line.repeat(2000)).unwrap();
    format!("[data]\ncorpus = \"text\"\npath = \"{}\"", file.display())
}

/// What foretelling each target by how often it was seen in training loses, counted on batches.
fn loss_by_frequency(data: &Dataset, rows: Rows) -> f64 {
    let mut seen: BTreeMap<i32, f64> = BTreeMap::new();
    for step in 0..200 {
        let targets = data.train_batch(9, step, 16, rows).targets.into_iter();
        targets
            .filter(|t| *t >= 0)
            .for_each(|t| *seen.entry(t).or_default() += 1.0);
    }
    let all: f64 = seen.values().sum();
    let held_out = data
        .validation(16, rows, usize::MAX)
        .flat_map(|batch| batch.targets);
    let losses: Vec<f64> = held_out
        .filter(|t| *t >= 0)
        .map(|t| (all / seen[&t]).ln())
        .collect();
    losses.iter().sum::<f64>() / losses.len() as f64
}

#[test]
fn it_learns_to_fill_gaps_is_measured_exported_and_used() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(dir.path());
    let fixed = "kind = 'encoder_decoder'\ncontext = 32\nbatch = 16\nwidth = 48\ntokens = 400000\nlearning_rate = 5e-3";
    let config_of_text = config(&data, fixed);
    let result = run(config_of_text.clone(), &dir.path().join("work"));
    let measured = values(&result);
    let trivial = |key: &str| result.provenance[key].parse::<f64>().unwrap();
    let loaded = Dataset::load(&config_of_text.data, &DataAccess::anywhere()).unwrap();
    let plan = evaluator::plan::Plan::read(&config_of_text, loaded.facts(), None).unwrap();
    let counted = loss_by_frequency(&loaded, plan.training.rows);
    assert!(
        (counted / trivial("trivial_loss") - 1.0).abs() < 0.03,
        "{counted} {}",
        trivial("trivial_loss")
    );
    assert!(
        measured["validation_loss"] < 0.1 * trivial("trivial_loss")
            && measured["accuracy"] > trivial("trivial_accuracy") + 0.8,
        "{} of {}, {}",
        measured["validation_loss"],
        trivial("trivial_loss"),
        measured["accuracy"]
    );
    let summary = &result.provenance["summary"];
    assert!(
        summary.starts_with("An encoder-decoder of 2 + 2 layers"),
        "{summary}"
    );

    let exported = dir.path().join("work/bundle");
    let text = std::fs::read_to_string(exported.join("config.json")).unwrap();
    assert!(
        text.contains("\"parsimony_encoder_decoder\"") && text.contains("\"encoder_layers\": 2"),
        "{text}"
    );
    let readme = std::fs::read_to_string(exported.join("README.md")).unwrap();
    assert!(
        readme.contains("parsimony generate . --prompt \"Once ___ a time\""),
        "{readme}"
    );
    let again = remeasure(&exported, &DataAccess::anywhere(), DeviceChoice::Cpu).unwrap();
    for metric in [
        "accuracy",
        "validation_loss",
        "model_bytes",
        "inference_flops_per_token",
    ] {
        assert_eq!(values(&again)[metric], measured[metric], "{metric}");
    }

    let sampling = Sampling {
        tokens: 8,
        temperature: 0.0,
        seed: 0,
    };
    let filled = |prompt: &str| {
        let mut text = String::new();
        let mut write = |piece: &str| text += piece;
        generate(&exported, prompt, sampling, DeviceChoice::Cpu, &mut write).map(|_| text)
    };
    // what stands around these gaps leaves one way to fill them
    for (prompt, whole) in [
        (
            "abcd___hijklmnopqrs___vwxyz.\nabcd",
            "abcdefghijklmnopqrstuvwxyz.\nabcd",
        ),
        (
            "___efghijkl___opqrstuvwxyz.\nab",
            "bcdefghijklmnopqrstuvwxyz.\nab",
        ),
        (
            "stuvw___.\nabcdefgh___klmnopqrstu",
            "stuvwxyz.\nabcdefghijklmnopqrstu",
        ),
    ] {
        assert_eq!(filled(prompt).unwrap(), whole);
    }
    for (prompt, said) in [
        (
            "the cat",
            "the prompt has no gap, and this model fills gaps; write ___",
        ),
        (
            "a ___ b ___ c ___ d",
            "the prompt has 3 gaps and this model was trained on 2",
        ),
        (
            &format!("___{}", "abcdefgh".repeat(9)),
            "and this model reads 29 at once",
        ),
    ] {
        let message = filled(prompt).unwrap_err().to_string();
        assert!(message.contains(said), "{message}");
    }

    // adapted by low-rank additions, with a shorter context
    let adapted = format!(
        "{data}\n[base]\npath = \"{}\"\n[fixed]\ncontext = 24\nbatch = 8\ntokens = 8000\nfine_tune = 'lora'\nlora_rank = 2\n",
        exported.display()
    );
    let adapted = spaces::study::config_from_toml(&adapted, &evaluator::catalog()).unwrap();
    let adapted = run(adapted, &dir.path().join("adapted"));
    assert!(values(&adapted)["accuracy"] > trivial("trivial_accuracy") + 0.3);
    // four matrices of each attention, two of which a block that writes has
    assert_eq!(adapted.activity["lora_matrices"], 4 * (2 + 2 * 2));
}

#[test]
fn every_attention_is_trained_compressed_and_measured() {
    let markov = "[data]\ncorpus = \"markov\"";
    for (i, block) in [
        "prune_ratio = 0.5\nhead_prune_ratio = 0.5\nbits = 8",
        "head_prune_ratio = 0.5\nprune_criterion = 'magnitude'\nkv_heads = 2",
        "attention = 'tiled'\nattention_block_q = 8\nexperts = 2\nrouter = 'switch'",
        "attention = 'sliding_window'\nwindow = 5\nbits = 4",
        "attention = 'linear'\nprune_ratio = 0.25",
        "layer_prune_ratio = 0.5\nprune_ratio = 0.25\nrecovery = 0.2",
        "width_prune_ratio = 0.25\nhead_prune_ratio = 0.5\nrecovery = 0.2\nbits = 8",
        "prune_ratio = 0.25\nhead_prune_ratio = 0.5\nprune_criterion = 'activation'",
        "sparsity = 0.5\nsparsity_method = 'sparsegpt'\nsparsity_pattern = '4:8'",
        "bits = 4\nquant_method = 'gptq'\ncache_bits = 8",
        "bits = 3\nquant_method = 'awq'\nbits_layer_1 = 32",
        "attention = 'aft'\naft_variant = 'simple'\nfeed_forward = 'channel_mix'",
        "attention = 'kde'\nkde_samples = 6\nkde_block = 4\nprune_ratio = 0.25",
        "attention_layer_2 = 'linear'\nmean_span = 1\ncorruption_rate = 0.8",
    ]
    .into_iter()
    .enumerate()
    {
        let dir = tempfile::tempdir().unwrap();
        let fixed = format!("kind = 'encoder_decoder'\ncontext = 20\nbatch = 4\ntokens = 1600\n{block}");
        let result = run(config(markov, &fixed), &dir.path().join(i.to_string()));
        assert!(values(&result)["validation_loss"].is_finite(), "{fixed}");
    }
}

#[test]
fn its_training_reading_and_writing_can_be_timed() {
    use evaluator::{Rounds, Work, time};
    let config = config("[data]\ncorpus = \"markov\"", "kind = 'encoder_decoder'");
    let rounds = Rounds {
        rounds: 1,
        seconds: 0.01,
    };
    for work in [Work::Train, Work::Forward] {
        let speed = time(&config, 40, work, rounds, DeviceChoice::Cpu).unwrap();
        assert_eq!(speed.flops_per_token, speed.formula_flops_per_token, "{work:?}");
    }
    let speed = time(&config, 40, Work::Decode, rounds, DeviceChoice::Cpu).unwrap();
    assert!(speed.flops_per_token > 0.0 && speed.tokens_per_s[0] > 0.0);
}

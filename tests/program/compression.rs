use std::fs;

use parsimony_tests::program::Program;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::program;

/// A configuration with further lines in its table of fixed values.
fn config(program: &Program, name: &str, lines: &str) {
    let text = format!(
        r#"
[data]
corpus = "crate_sources"
tokenizer = "byte"

[fixed]
context = 32
width = 128
heads = 4
layers = 2
ffn_ratio = 2.0
batch = 8
tokens = 16_000
validation_tokens = 2048
{lines}
"#
    );
    program.write(name, &text);
}

fn measured(program: &Program, name: &str, lines: &str) -> Value {
    config(program, &format!("{name}.toml"), lines);
    program.json(&["measure", &format!("{name}.toml"), "--out", name, "--json"])
}

fn value(measured: &Value, metric: &str) -> f64 {
    measured["metrics"][metric]["value"].as_f64().unwrap()
}

fn weights(program: &Program, name: &str) -> Vec<u8> {
    fs::read(program.path(name).join("model.safetensors")).unwrap()
}

/// Bytes of the tensors alone, without the file's head.
fn tensor_bytes(file: &[u8]) -> usize {
    let tensors = SafeTensors::deserialize(file).unwrap();
    tensors.tensors().iter().map(|(_, t)| t.data().len()).sum()
}

#[test]
fn packed_weights_are_small_on_disk_and_in_memory() {
    let program = program();
    let full = measured(&program, "full", "bits = 32");
    let packed = measured(&program, "packed", "bits = 4\nquant_group = 64");
    let ratio =
        tensor_bytes(&weights(&program, "packed")) as f64 / tensor_bytes(&weights(&program, "full")) as f64;
    assert!(ratio <= 0.30, "4-bit weights take {ratio} of the 32-bit ones");
    let memory = value(&packed, "peak_memory_bytes") / value(&full, "peak_memory_bytes");
    assert!(
        memory <= 0.45,
        "loaded and decoding, it takes {memory} of the memory"
    );
    assert!(packed["activity"]["packed_products"].as_f64() > Some(0.0));
    // the same training, so the loss may only suffer from the rounding
    assert!((value(&packed, "validation_loss") - value(&full, "validation_loss")).abs() < 0.3);
}

#[test]
fn pruned_models_are_smaller_in_every_respect() {
    let program = program();
    let full = measured(&program, "full", "");
    let pruned = measured(&program, "pruned", "prune_ratio = 0.5");
    for metric in ["inference_flops_per_token", "model_bytes", "parameters"] {
        assert!(
            value(&pruned, metric) < 0.85 * value(&full, metric),
            "{metric}: {} of {}",
            value(&pruned, metric),
            value(&full, metric)
        );
    }
    let shape = |name: &str| {
        let file = weights(&program, name);
        let tensors = SafeTensors::deserialize(&file).unwrap();
        tensors
            .tensor("model.layers.0.mlp.down_proj.weight")
            .unwrap()
            .shape()
            .to_vec()
    };
    let (full, pruned) = (shape("full"), shape("pruned"));
    assert_eq!(pruned, [full[0], full[1] / 2]);
}

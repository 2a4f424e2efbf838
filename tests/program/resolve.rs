//! A budget answered from what was measured once, and the answer measured.

use std::fs;

use serde_json::Value;

use crate::program;

const DATA: &str = "[data]\ncorpus = \"crate_sources\"\ntokenizer = \"byte\"\n";

#[test]
fn bits_of_layers_follow_from_a_budget_without_training() {
    let program = program();
    program.write(
        "base.toml",
        &format!(
            "{DATA}\n[fixed]\ncontext = 32\nwidth = 128\nheads = 4\nlayers = 2\nbatch = 8\ntokens = 64_000\nvalidation_tokens = 4096\n"
        ),
    );
    program.json(&["measure", "base.toml", "--out", "base", "--json"]);
    let packed = "[data]\ncorpus = \"crate_sources\"\n\n[base]\npath = \"base\"\n\n[fixed]\ncontext = 32\nbatch = 8\nfine_tune = \"none\"\nbits = 8\nquant_group = 32\nvalidation_tokens = 4096\n";
    program.write("packed.toml", packed);
    let measured = program.json(&[
        "sensitivity",
        "packed.toml",
        "--out",
        "sensitivity.json",
        "--json",
    ]);
    let measured = &measured["sensitivity"];
    let parts = measured["parts"].as_array().unwrap();
    let names: Vec<&str> = parts.iter().map(|p| p["parameter"].as_str().unwrap()).collect();
    assert_eq!(names, ["bits", "bits_layer_1", "bits_layer_2"]);
    for part in parts {
        let of = |bits: i64, key: &str| {
            let choices = part["choices"].as_array().unwrap();
            let choice = choices.iter().find(|c| c["bits"] == bits).unwrap();
            choice[key].as_f64().unwrap()
        };
        assert!(of(8, "saved_bytes") < of(4, "saved_bytes") && of(4, "saved_bytes") < of(2, "saved_bytes"));
        assert!(of(8, "loss_increase").abs() < 0.01, "{part}");
        assert!(of(2, "loss_increase") > of(8, "loss_increase"), "{part}");
    }

    let whole = measured["bytes"].as_f64().unwrap();
    let budget = (0.2 * whole).round();
    let budget_text = format!("{budget}");
    let resolved = program.json(&[
        "resolve",
        "sensitivity.json",
        "--model-bytes",
        &budget_text,
        "--out",
        "smaller.toml",
        "--json",
    ]);
    assert_eq!(resolved["evidence"], "extrapolated");
    let foretold = resolved["model_bytes"].as_f64().unwrap();
    assert!(
        foretold <= budget && foretold > 0.1 * whole,
        "{foretold} of {budget}"
    );
    let text = fs::read_to_string(program.path("smaller.toml")).unwrap();
    assert!(text.contains("bits_layer_2 = "), "{text}");

    let found = program.json(&["measure", "smaller.toml", "--json"]);
    let value = |measured: &Value, metric: &str| measured["metrics"][metric]["value"].as_f64().unwrap();
    // the head of the file differs by names and shapes
    assert!(
        (value(&found, "model_bytes") - foretold).abs() < 2000.0,
        "{found} {foretold}"
    );
    let base = program.json(&["evaluate", "base", "--json"]);
    let increase = value(&found, "validation_loss") - value(&base, "validation_loss");
    let expected = resolved["loss_increase"].as_f64().unwrap();
    assert!((increase - expected).abs() < 0.1, "{increase} {expected}");

    let refused = program.run(&["resolve", "sensitivity.json", "--model-bytes", "10 KiB"]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("the least that this model can take"),
        "{}",
        refused.stderr
    );
}

//! Keys and values remembered in few bits.

use std::collections::BTreeMap;

use burn::{backend::Flex, tensor::Tensor};
use evaluator::{
    Silent, data::DataAccess, device::DeviceChoice, evaluate, model::Model, plan::Plan, remeasure,
};

use crate::kinds;
use crate::support::{VOCABULARY, config, job, plan, random_weights, recall, text_data, tokens};

fn logits(fixed: &str) -> Vec<f32> {
    let plan = plan(fixed);
    let mut model = Model::<Flex>::new(&plan.served, 3, &Default::default());
    random_weights(&mut model);
    model
        .forward(tokens::<Flex>(2, 16, 4))
        .logits
        .into_data()
        .iter()
        .collect()
}

/// The whole text at once, and token by token out of the cache, must be the same model; and fewer bits are further from it.
#[test]
fn fewer_bits_are_further_from_the_whole_cache() {
    for block in ["kv_heads = 2", "attention = 'sliding_window'\nwindow = 7"] {
        let exact = logits(block);
        let off = [8, 4].map(|bits| {
            let rounded = logits(&format!("{block}\ncache_bits = {bits}"));
            let squares = rounded.iter().zip(&exact).map(|(a, b)| (a - b).powi(2));
            squares.sum::<f32>()
        });
        assert!(0.0 < off[0] && 10.0 * off[0] < off[1], "{block}: {off:?}");
    }
}

#[test]
fn a_long_text_is_decoded_out_of_packed_rows_as_it_is_read_whole() {
    for bits in [4, 8] {
        let plan = plan(&format!(
            "context = 64\ncache_bits = {bits}\nwidth = 64\nheads = 2"
        ));
        let model = Model::<Flex>::new(&plan.served, 3, &Default::default());
        let text = tokens::<Flex>(1, 64, 9);
        let whole = model.forward(text.clone()).logits;
        let mut memory = model.memory(&plan.served, 1, 64);
        // a prompt of many tokens, a few more at once as drafts are checked, and single ones
        let mut at = 0;
        for n in [20, 3, 1, 1, 5, 1] {
            let last = model.extend(text.clone().narrow(1, at, n), &mut memory);
            at += n;
            let expected: Tensor<Flex, 2> = whole.clone().narrow(1, at - 1, 1).squeeze_dim(1);
            let worst = (last - expected).abs().max().into_scalar();
            assert!(worst < 1e-4, "{bits} bits after {at} tokens: {worst}");
        }
    }
}

#[test]
fn a_packed_cache_is_trained_beside_measured_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 8000);
    let run = |name: &str, fixed: &str| {
        let work = dir.path().join(name);
        let config = config(&data, &format!("width = 64\nheads = 2\ntokens = 1280\n{fixed}"));
        let result = evaluate(&job(config, &work), &mut Silent).unwrap();
        let again = remeasure(&work.join("bundle"), &DataAccess::anywhere(), DeviceChoice::Cpu).unwrap();
        let of = |result: &spaces::protocol::Evaluation| -> BTreeMap<String, f64> {
            let rows = result.measurements.iter();
            rows.map(|m| (m.metric.clone(), m.value)).collect()
        };
        let (values, read_back) = (of(&result), of(&again));
        for metric in ["validation_loss", "state_bytes_per_sequence", "model_bytes"] {
            assert_eq!(values[metric], read_back[metric], "{name}: {metric}");
        }
        (values, result.activity)
    };
    let (whole, _) = run("whole", "");
    for (bits, share) in [(8, 36.0 / 128.0), (4, 20.0 / 128.0)] {
        let (packed, activity) = run(&format!("bits-{bits}"), &format!("cache_bits = {bits}"));
        assert!(activity["packed_cache_rows"] > 0);
        let of_bytes = packed["state_bytes_per_sequence"] / whole["state_bytes_per_sequence"];
        assert!((of_bytes - share).abs() < 1e-9, "{bits} bits: {of_bytes}");
        assert_eq!(packed["parameters"], whole["parameters"]);
        // the same training, whose serving loses a little
        let lost = packed["validation_loss"] - whole["validation_loss"];
        assert!(lost != 0.0 && lost.abs() < 0.05, "{bits} bits: {lost}");
    }
}

#[test]
fn a_cache_that_is_not_there_is_refused_before_training() {
    let refused = |fixed: &str| Plan::read(&config(recall(), fixed), VOCABULARY, None).unwrap_err();
    let linear = refused("cache_bits = 4\nattention = 'linear'");
    assert!(linear.contains("linear attention keeps none"), "{linear}");
    let encoder = kinds::read("cache_bits = 8\nkind = 'encoder'").unwrap_err();
    assert!(encoder.contains("use cache_bits = 32"), "{encoder}");
}

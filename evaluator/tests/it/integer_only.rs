//! Models in whole numbers alone: against floats, read whole and token by token, from files, evaluated, refused.

use burn::{
    backend::Flex,
    tensor::{Int, Tensor},
};
use evaluator::{
    Silent,
    bundle::{self, Served},
    counter::count_macs,
    data::DataAccess,
    device::{Device, DeviceChoice},
    evaluate, inspect,
    model::{Inputs, Model},
    ops::Lengths,
    plan::Plan,
    remeasure,
};
use spaces::protocol::Evaluation;

use crate::{
    evaluation::values,
    kinds,
    support::{VOCABULARY, compress, config, job, plan, random_weights, recall, text_data, tokens},
};

const INTEGERS: &str = "bits = 8\nactivation_bits = 8\nquant_method = 'integer_only'";

/// The model of random weights of a plan, in floats and in whole numbers.
fn both(plan: &Plan) -> [Model<Flex>; 2] {
    let mut floats = Model::<Flex>::new(&plan.model, 3, &Default::default());
    random_weights(&mut floats);
    let mut integers = floats.clone();
    compress(&mut integers, plan);
    [floats, integers]
}

fn logits(model: &Model<Flex>, inputs: impl Into<Inputs<Flex>>) -> Vec<f32> {
    model.forward(inputs).logits.into_data().iter().collect()
}

/// `‖a - b‖ / ‖b‖`
fn lost(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let off = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    (off / b.iter().map(|b| b * b).sum::<f32>()).sqrt()
}

#[test]
fn logits_are_near_those_of_floats() {
    // random weights make a few neurons much larger than the rest, and each layer loses by that
    for (fixed, bound) in [("layers = 1", 0.07), ("kv_heads = 2", 0.1), ("layers = 4", 0.16)] {
        let plan = plan(&format!("{INTEGERS}\n{fixed}"));
        let [floats, integers] = both(&plan);
        let input = tokens::<Flex>(4, 16, 4);
        let (exact, whole) = (logits(&floats, input.clone()), logits(&integers, input));
        let lost = lost(&whole, &exact);
        println!("{fixed}: {lost} of the norm of the logits is lost");
        assert!(lost > 0.0 && lost < bound, "{fixed}: {lost}");
    }
    for pooling in ["mean", "cls"] {
        let fixed = format!("kind = 'encoder'\npooling = '{pooling}'\n{INTEGERS}");
        let [floats, integers] = both(&kinds::read(&fixed).unwrap());
        let inputs = Inputs {
            tokens: tokens::<Flex>(4, 16, 4),
            lengths: Some(Lengths::new(vec![16, 3, 9, 1])),
            written: None,
        };
        let (exact, whole) = (logits(&floats, inputs.clone()), logits(&integers, inputs));
        let lost = lost(&whole, &exact);
        println!("encoder, {pooling}: {lost} of the norm of the logits is lost");
        assert!(lost > 0.0 && lost < 0.11, "{fixed}: {lost}");
    }
}

#[test]
fn read_whole_in_pieces_and_token_by_token_it_is_the_same_to_the_bit() {
    let plan = plan(&format!("{INTEGERS}\nkv_heads = 2\ncontext = 40"));
    let [_, model] = both(&plan);
    let text = tokens::<Flex>(3, 40, 9);
    let whole = logits(&model, text.clone());
    let row = |t: usize, b: usize| whole[(b * 40 + t) * VOCABULARY..][..VOCABULARY].to_vec();
    for pieces in [vec![1; 40], vec![17, 1, 1, 5, 1, 15], vec![40]] {
        let mut memory = model.memory(&plan.served, 3, 40);
        let mut at = 0;
        for n in pieces {
            let piece = text.clone().narrow(1, at, n);
            let logits: Vec<f32> = model.extend(piece, &mut memory).into_data().iter().collect();
            at += n;
            let expected: Vec<f32> = (0..3).flat_map(|b| row(at - 1, b)).collect();
            assert_eq!(logits, expected, "after {at}");
        }
        // what is forgotten leaves nothing behind
        memory.truncate(11);
        let again: Vec<f32> = model
            .extend(text.clone().narrow(1, 11, 1), &mut memory)
            .into_data()
            .iter()
            .collect();
        assert_eq!(again, (0..3).flat_map(|b| row(11, b)).collect::<Vec<_>>());
    }
    // and whatever stands beside it
    let alone = logits(&model, text.clone().narrow(0, 1, 1));
    assert_eq!(alone, whole[40 * VOCABULARY..2 * 40 * VOCABULARY]);
}

#[test]
fn an_encoder_does_not_see_padding_and_works_as_the_formula_says() {
    for fixed in ["pooling = 'mean'\nkv_heads = 2", "pooling = 'cls'"] {
        let plan = kinds::read(&format!("kind = 'encoder'\n{INTEGERS}\n{fixed}")).unwrap();
        let [_, model] = both(&plan);
        let all = tokens::<Flex>(2, 16, 5);
        let alone = logits(&model, all.clone().narrow(1, 0, 6));
        let padded = |tokens: Tensor<Flex, 2, Int>| {
            let lengths = Some(Lengths::new(vec![6, 6]));
            let inputs = Inputs {
                tokens,
                lengths,
                written: None,
            };
            logits(&model, inputs)
        };
        assert_eq!(padded(all.clone()), alone, "{fixed}");
        let other = all.clone().slice_assign([0..2, 6..16], tokens::<Flex>(2, 10, 77));
        assert_eq!(padded(other), alone, "{fixed}");
        assert_ne!(logits(&model, all), alone, "{fixed}: it is not deaf");
        let (_, macs) = count_macs(|| model.forward(tokens::<Flex>(1, plan.served.context, 1)));
        assert_eq!(macs, plan.served.serving_macs(), "{fixed}");
    }
}

#[test]
fn it_comes_back_from_its_files_and_others_are_refused() {
    let data = config(recall(), "").data;
    let data = evaluator::data::Dataset::load(&data, &DataAccess::anywhere()).unwrap();
    for plan in [
        plan(&format!("{INTEGERS}\nkv_heads = 2")),
        kinds::read(&format!("kind = 'encoder'\npooling = 'cls'\n{INTEGERS}")).unwrap(),
    ] {
        let [_, mut model] = both(&plan);
        let shape = Served {
            model: plan.served.clone(),
            quantization: plan.quantization,
        };
        let dir = tempfile::tempdir().unwrap();
        bundle::write_model(&mut model, &shape, &data.tokenizer, dir.path()).unwrap();
        let tokenizer = data.tokenizer.to_json().len() as u64;
        let foretold = bundle::served_bytes(&plan.served, plan.quantization, tokenizer);
        assert_eq!(bundle::measured_bytes(dir.path()).unwrap(), foretold);
        let (back, read) = bundle::read_model::<Flex>(dir.path(), &Default::default()).unwrap();
        assert_eq!(read, shape);
        let input = tokens::<Flex>(2, 16, 8);
        assert_eq!(logits(&back, input.clone()), logits(&model, input));

        // a step of nothing
        let file = dir.path().join("model.safetensors");
        let bytes = std::fs::read(&file).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let text: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
        let at = text["model.integer_steps"]["data_offsets"][0].as_u64().unwrap() as usize;
        let mut broken = bytes.clone();
        broken[8 + header + at..][..4].copy_from_slice(&0f32.to_le_bytes());
        std::fs::write(&file, broken).unwrap();
        let error = bundle::read_model::<Flex>(dir.path(), &Default::default()).unwrap_err();
        assert!(error.to_string().contains("model.integer_steps"), "{error}");
    }
}

/// Evaluates, holds what was measured against what was known before, and measures the files again.
fn run(data: &str, fixed: &str, dir: &std::path::Path) -> Evaluation {
    let config = config(data, fixed);
    let facts = inspect(&config.data, None, &DataAccess::anywhere(), 16).unwrap();
    let known = facts.known(&config).unwrap();
    let result = evaluate(&job(config, dir), &mut Silent).unwrap();
    for (metric, value) in known {
        assert_eq!(values(&result)[metric.as_str()], value, "{metric} of {fixed}");
    }
    let again = remeasure(&dir.join("bundle"), &DataAccess::anywhere(), DeviceChoice::Cpu).unwrap();
    for metric in [
        "validation_loss",
        "accuracy",
        "parameters",
        "model_bytes",
        "inference_flops_per_token",
        "state_bytes_per_sequence",
    ] {
        assert_eq!(
            values(&again)[metric],
            values(&result)[metric],
            "{metric} of {fixed}"
        );
    }
    result
}

#[test]
fn a_decoder_is_trained_measured_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 20_000);
    let common = "width = 64\nheads = 2\ntokens = 6400\n";
    let floats = run(&data, common, &dir.path().join("floats"));
    let whole = run(
        &data,
        &format!("{common}{INTEGERS}"),
        &dir.path().join("integers"),
    );
    for counter in ["integer_only_tokens", "packed_weights", "packed_cache_rows"] {
        assert!(whole.activity[counter] > 0, "{counter}");
    }
    assert!(
        !whole.activity.contains_key("packed_products"),
        "no product of floats"
    );
    assert!(whole.provenance["summary"].contains("integer-only 8-bit"));
    let (floats, whole) = (values(&floats), values(&whole));
    let lost = whole["validation_loss"] - floats["validation_loss"];
    println!(
        "loss {} in floats, {} in whole numbers; bytes {} and {}; peak {} and {}",
        floats["validation_loss"],
        whole["validation_loss"],
        floats["model_bytes"],
        whole["model_bytes"],
        floats["peak_memory_bytes"],
        whole["peak_memory_bytes"]
    );
    assert!(lost != 0.0 && lost.abs() < 0.02, "{lost}");
    for same in ["parameters", "inference_flops_per_token"] {
        assert_eq!(whole[same], floats[same], "{same}");
    }
    // a byte for each weight and each number that is remembered, in place of four
    assert_eq!(
        4.0 * whole["state_bytes_per_sequence"],
        floats["state_bytes_per_sequence"]
    );
    assert!(whole["model_bytes"] < 0.4 * floats["model_bytes"]);
    assert!(whole["peak_memory_bytes"] < 0.6 * floats["peak_memory_bytes"]);
    assert!(
        whole["training_flops"] > floats["training_flops"],
        "calibration is charged"
    );
}

#[test]
fn an_encoder_is_trained_measured_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let data = "[data]\ncorpus = 'listops'\nmax_depth = 3\nmax_args = 4\nmin_length = 4\nmax_length = 16\n\
                train_examples = 2000\nvalid_examples = 300";
    let common = "kind = 'encoder'\nbatch = 16\ntokens = 24000\nlearning_rate = 5e-3\n";
    let floats = run(data, common, &dir.path().join("floats"));
    let whole = run(data, &format!("{common}{INTEGERS}"), &dir.path().join("integers"));
    let (floats, whole) = (values(&floats), values(&whole));
    println!(
        "loss {} and {}, accuracy {} and {}",
        floats["validation_loss"], whole["validation_loss"], floats["accuracy"], whole["accuracy"]
    );
    assert!((whole["validation_loss"] - floats["validation_loss"]).abs() < 0.03);
    assert!((whole["accuracy"] - floats["accuracy"]).abs() < 0.05);
}

#[test]
fn what_has_no_form_in_whole_numbers_is_refused_before_training() {
    let other = |fixed: &str| {
        let fixed = format!("{INTEGERS}\n{fixed}");
        Plan::read(&config(recall(), &fixed), VOCABULARY, None).unwrap_err()
    };
    for (fixed, why) in [
        ("attention = 'linear'", "attention 'linear'"),
        (
            "attention_layer_2 = 'linear'",
            "attention = 'full' in every layer",
        ),
        ("experts = 2", "experts = 1"),
        ("feed_forward = 'channel_mix'", "feed_forward = 'gated'"),
        ("reversible = true", "reversible = false"),
        ("width_prune_ratio = 0.5", "width_prune_ratio = 0"),
        ("cache_bits = 8", "use cache_bits = 32"),
        ("bits_layer_2 = 4", "not 4"),
        ("sparsity = 0.5", "or sparsity = 0"),
        ("context_keep = 0.5", "use context_keep = 1"),
    ] {
        let error = other(fixed);
        assert!(error.contains(why), "{fixed}: {error}");
    }
    for (fixed, why) in [
        ("bits = 4\nactivation_bits = 8", "use bits = 8"),
        ("bits = 8", "use activation_bits = 8"),
    ] {
        let fixed = format!("quant_method = 'integer_only'\n{fixed}");
        let error = Plan::read(&config(recall(), &fixed), VOCABULARY, None).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let pairs = kinds::read(&format!("kind = 'dual_encoder'\n{INTEGERS}")).unwrap_err();
    assert!(pairs.contains("kind 'dual_encoder'"), "{pairs}");
    let adapted = crate::support::plan_for(
        VOCABULARY,
        &format!("kv_heads = 2\nfine_tune = 'adapter'\n{INTEGERS}"),
    );
    let adapted = adapted.unwrap_err();
    assert!(adapted.contains("another fine_tune"), "{adapted}");
    let gpu = Device::Cuda {
        index: 0,
        uuid: "GPU-0".into(),
    };
    let error = plan(INTEGERS).prepare(&gpu).unwrap_err();
    assert!(
        error.contains("use another quant_method, or device cpu"),
        "{error}"
    );
}

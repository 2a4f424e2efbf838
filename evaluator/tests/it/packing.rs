//! Whole evaluations of packed models: methods, bits of single layers, whole numbers, and what is refused.

use evaluator::{Silent, data::DataAccess, device::DeviceChoice, evaluate, remeasure};

use crate::{
    evaluation::values,
    support::{config, job, text_data},
};

#[test]
fn fewer_bits_lose_more_and_methods_that_look_at_inputs_less() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 20_000);
    let loss = |fixed: &str| {
        let config = config(&data, &format!("width = 64\ntokens = 12800\n{fixed}"));
        let work = dir.path().join(fixed.replace(['\n', ' ', '\''], ""));
        values(&evaluate(&job(config, &work), &mut Silent).unwrap())["validation_loss"]
    };
    let exact = loss("bits = 32");
    let plain = ["bits = 8", "bits = 4", "bits = 2"].map(&loss);
    // of so easy a text 4 bits lose less than a thousandth, for better or worse
    let off = plain.map(|loss| (loss - exact).abs());
    assert!(off[0] < 1e-3 && off[1] < 1e-2, "{exact} {plain:?}");
    assert!(plain[2] > exact + 0.02, "{exact} {plain:?}");
    let whole_numbers = loss("bits = 8\nactivation_bits = 8");
    assert!(
        whole_numbers != plain[0] && (whole_numbers - exact).abs() < 2e-3,
        "{whole_numbers} {exact}"
    );
    for method in ["gptq", "awq"] {
        let judged = loss(&format!("bits = 2\nquant_method = '{method}'"));
        assert!(judged < plain[2], "{method}: {judged} {plain:?}");
    }
}

#[test]
fn a_base_is_calibrated_without_training() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 8000);
    let base = dir.path().join("base");
    evaluate(&job(config(&data, "tokens = 640"), &base), &mut Silent).unwrap();
    let text = format!(
        "{data}\n[base]\npath = \"{}\"\n[fixed]\ncontext = 16\nbatch = 4\nfine_tune = 'none'\nbits = 4\nquant_method = 'gptq'\n",
        base.join("bundle").display()
    );
    let config = spaces::study::config_from_toml(&text, &evaluator::catalog()).unwrap();
    let result = evaluate(&job(config, &dir.path().join("packed")), &mut Silent).unwrap();
    assert!(values(&result)["training_flops"] > 0.0, "calibration is charged");
    assert!(result.activity["gptq_weights"] > 0);
}

#[test]
fn codes_that_a_method_does_not_have_are_refused_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&text_data(dir.path(), 8000), "bits = 8\nquant_method = 'nf4'");
    let error = evaluate(&job(config, &dir.path().join("w")), &mut Silent)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("quant_method = 'nf4'") && error.contains("use bits = 4"),
        "{error}"
    );
}

#[test]
fn layers_have_bits_of_their_own_and_take_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 8000);
    let bytes = |fixed: &str| {
        let config = config(
            &data,
            &format!("width = 64\nheads = 2\ntokens = 640\nbits = 8\n{fixed}"),
        );
        let work = dir.path().join(fixed.replace(['\n', ' '], ""));
        let result = evaluate(&job(config, &work), &mut Silent).unwrap();
        let again = remeasure(&work.join("bundle"), &DataAccess::anywhere(), DeviceChoice::Cpu).unwrap();
        assert_eq!(
            values(&again)["validation_loss"],
            values(&result)["validation_loss"]
        );
        values(&result)["model_bytes"]
    };
    // a block of width 64 with three times as many neurons has 13 squares of weights
    let [plain, fewer, none] = ["", "bits_layer_2 = 3", "bits_layer_2 = 32"].map(bytes);
    let weights = 13.0 * 64.0 * 64.0;
    // names and shapes in the files differ by a little
    assert!(
        (plain - fewer - weights * 5.0 / 8.0).abs() < 400.0,
        "{plain} {fewer}"
    );
    // 24 bits more for each weight, and scales, zeros and their names gone
    let scales = 640.0 * (2.0 + 4.0) + 64.0 * (3.0 * 2.0 + 4.0);
    let names = none - plain - 3.0 * weights + scales;
    assert!((-1500.0..-500.0).contains(&names), "{plain} {none}");
}

#[test]
fn packings_that_do_not_go_together_are_refused_before_training() {
    for (fixed, part) in [
        ("bits = 8\nbits_layer_3 = 4", "the model has 2 layers"),
        (
            "bits = 4\nquant_method = 'nf4'\nactivation_bits = 8",
            "another quant_method",
        ),
        ("bits = 8\nbits_layer_1 = 3\nactivation_bits = 8", "not of 3"),
        ("bits = 8\nquant_method = 'smooth'", "use activation_bits = 8"),
        (
            "bits = 8\nquant_method = 'int8_outlier'",
            "use activation_bits = 8",
        ),
    ] {
        let config = config("[data]\ncorpus = \"markov\"", fixed);
        let error = evaluator::plan::Plan::read(&config, 19, None).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn columns_in_floats_take_their_bytes_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 8000);
    let fixed = "width = 64\ntokens = 6400\nbits = 8\nactivation_bits = 8\nquant_group = 32\n";
    let run = |name: &str, more: &str| {
        let config = config(&data, &format!("{fixed}{more}"));
        let work = dir.path().join(name);
        let result = evaluate(&job(config, &work), &mut Silent).unwrap();
        let again = remeasure(&work.join("bundle"), &DataAccess::anywhere(), DeviceChoice::Cpu).unwrap();
        for metric in ["validation_loss", "model_bytes", "inference_flops_per_token"] {
            assert_eq!(
                values(&again)[metric],
                values(&result)[metric],
                "{name}: {metric}"
            );
        }
        result
    };
    let plain = run("plain", "");
    let none = run("none", "quant_method = 'int8_outlier'\nint8_threshold = 1e6");
    let few = run("few", "quant_method = 'int8_outlier'\nint8_threshold = 1.5");
    let loss = |result: &spaces::protocol::Evaluation| values(result)["validation_loss"];
    assert_eq!(loss(&none), loss(&plain));
    assert_ne!(loss(&few), loss(&plain));
    assert!(few.activity["int8_outlier_columns"] > 0 && few.activity["integer_products"] > 0);
    assert!(values(&few)["model_bytes"] > values(&none)["model_bytes"]);
    for same in ["inference_flops_per_token", "parameters"] {
        assert_eq!(values(&few)[same], values(&plain)[same]);
    }
    let (read, trained) = (values(&few)["training_flops"], values(&plain)["training_flops"]);
    assert!(read > trained, "calibration is charged");
}

//! What single layers lose by fewer weights, measured one by one, foretells what a model of such layers is.

use evaluator::{
    Silent,
    data::DataAccess,
    device::DeviceChoice,
    evaluate, measure_sensitivity,
    sensitivity::{PartChoice, Sensitivity},
};
use spaces::{Config, study::config_from_toml};

use crate::support::{config, job, plan_for, text_data};

const BITS: &str = "bits = 8\nquant_group = 32\n";

#[test]
fn layers_that_are_sparse_or_packed_are_what_was_foretold() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 20_000);
    let base = config(&data, "context = 32\nwidth = 64\nlayers = 3\ntokens = 64_000");
    evaluate(&job(base, &dir.path().join("base")), &mut Silent).unwrap();
    let adapted = |fixed: &str| -> Config {
        let path = dir.path().join("base/bundle");
        let common = "context = 32\nbatch = 8\nfine_tune = 'none'\n";
        let text = format!(
            "{data}\n[base]\npath = '{}'\n[fixed]\n{common}{fixed}\n",
            path.display()
        );
        config_from_toml(&text, &evaluator::catalog()).unwrap_or_else(|e| panic!("{e:?}"))
    };
    let measured = |config: &Config| -> Sensitivity {
        measure_sensitivity(config, &DataAccess::anywhere(), DeviceChoice::Cpu, &mut Silent).unwrap()
    };
    let bits_alone = measured(&adapted(BITS));
    let both = measured(&adapted(&format!(
        "{BITS}sparsity = 0.5\nsparsity_method = 'sparsegpt'"
    )));
    for (part, alone) in both.parts.iter().zip(&bits_alone.parts) {
        let name = part.parameter.replace("bits_layer", "sparsity_layer");
        assert_eq!(
            part.sparsity_parameter,
            (part.parameter != "bits").then_some(name)
        );
        // what bits lose does not depend on what else is measured
        assert_eq!(part.choices[..6], alone.choices, "{}", part.parameter);
        if part.sparsity_parameter.is_some() {
            let sparse = &part.choices[6..];
            assert!(
                sparse.iter().map(|c| c.sparsity).eq([0.5, 0.75, 0.9]),
                "{sparse:?}"
            );
            let rises = |by: fn(&PartChoice) -> f64| sparse.windows(2).all(|two| by(&two[0]) < by(&two[1]));
            assert!(
                rises(|c| c.saved_bytes as f64) && rises(|c| c.loss_increase),
                "{sparse:?}"
            );
            // half of the weights and a bit for each
            assert!(sparse[0].saved_bytes < sparse[2].saved_bytes && sparse[0].loss_increase < 0.3);
        }
    }

    let of = |part: usize, bits: usize, sparsity: f64| -> PartChoice {
        let mut choices = both.parts[part].choices.iter();
        *choices
            .find(|c| c.bits == bits && c.sparsity == sparsity)
            .unwrap()
    };
    let chosen = [of(0, 8, 0.0), of(1, 32, 0.5), of(2, 4, 0.0), of(3, 32, 0.75)];
    let solution = adapted(&format!(
        "{BITS}sparsity = 0.5\nsparsity_method = 'sparsegpt'\nbits_layer_1 = 32\nsparsity_layer_1 = 0.5\n\
         bits_layer_2 = 4\nsparsity_layer_2 = -1\nbits_layer_3 = 32\nsparsity_layer_3 = 0.75\n"
    ));
    let result = evaluate(&job(solution, &dir.path().join("solution")), &mut Silent).unwrap();
    let value = |metric: &str| {
        let found = result.measurements.iter().find(|m| m.metric == metric).unwrap();
        found.value
    };
    let saved: u64 = chosen.iter().map(|c| c.saved_bytes).sum();
    let foretold = (both.bytes - saved) as f64;
    // the head of the file differs by names and shapes
    assert!((value("model_bytes") - foretold).abs() < 2000.0, "{foretold}");
    let increase: f64 = chosen.iter().map(|c| c.loss_increase).sum();
    let base = evaluate(&job(adapted(""), &dir.path().join("again")), &mut Silent).unwrap();
    let before = base
        .measurements
        .iter()
        .find(|m| m.metric == "validation_loss")
        .unwrap();
    let found = value("validation_loss") - before.value;
    println!(
        "{foretold} bytes for {}, loss {increase:+.4} for {found:+.4}",
        value("model_bytes")
    );
    assert!((found - increase).abs() < 0.15, "{found} {increase}");
    assert!(result.activity["packed_products"] > 0 && result.activity["sparse_products"] > 0);
}

#[test]
fn layers_have_shares_of_their_own_or_none() {
    let plan = |fixed: &str| plan_for(19, fixed);
    let read = |fixed: &str| plan(fixed).unwrap().served;
    let same = read("sparsity = 0.5");
    let one = read("sparsity = 0.5\nsparsity_layer_1 = -1");
    let other = read("sparsity = 0.9\nsparsity_layer_1 = -1\nsparsity_layer_2 = 0.5");
    // two layers alike, of which one has all of its weights
    let dense = read("").parameters();
    assert_eq!(2 * (dense - one.parameters()), dense - same.parameters());
    assert_eq!(one.parameters(), other.parameters());
    let none = read("sparsity = 0.5\nsparsity_layer_1 = -1\nsparsity_layer_2 = -1");
    assert_eq!(none.parameters(), dense);

    let refused = |fixed: &str| plan(fixed).unwrap_err();
    let missing = refused("sparsity = 0.5\nsparsity_layer_3 = 0.9");
    assert!(missing.contains("the model has 2 layers"), "{missing}");
    let pattern = refused("sparsity = 0.5\nsparsity_pattern = '2:4'\nsparsity_layer_1 = 0.9");
    assert!(pattern.contains("sparsity_pattern = 'free'"), "{pattern}");
}

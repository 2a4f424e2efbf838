//! Early exit: what is left out is really left out, and nothing else changes.

use std::path::Path;

use burn::{backend::Flex, tensor::Tensor};
use evaluator::{
    Silent,
    counter::{count_macs, count_skipped},
    data::DataAccess,
    device::DeviceChoice,
    evaluate, inspect,
    model::{Inputs, Model, ModelPlan, Trainable},
    ops::Lengths,
    plan::{Budget, Plan},
    remeasure,
    techniques::dynamic::early_exit::Threshold,
    training::gradients_of,
};
use spaces::{Config, Evidence, protocol::Evaluation};

use crate::{
    listops::{LISTOPS, batch, plan, random, read, texts},
    support::{A, config, job},
};

const EXITS: &[&str] = &[
    "early_exit = 'max_prob'\nlayers = 4",
    "early_exit = 'entropy'\nlayers = 5\nexit_every = 2\npooling = 'cls'",
    "early_exit = 'entropy'\nlayers = 3\nattention = 'linear'\nexperts = 2\ntop_k = 1",
    "early_exit = 'margin'\nlayers = 3",
    "early_exit = 'patience'\nlayers = 5",
    "early_exit = 'max_prob'\nlayers = 3\nattention = 'sliding_window'\nwindow = 5\nkv_heads = 2",
];

fn model(fixed: &str, threshold: Threshold) -> (Model<Flex>, ModelPlan) {
    let mut plan = plan(fixed).served;
    plan.early_exit.as_mut().unwrap().threshold = threshold;
    (random(&plan), plan)
}

fn values(logits: Tensor<Flex, 3>) -> Vec<f32> {
    logits.into_data().iter().collect()
}

fn at(text: &str) -> Threshold {
    Threshold::try_from(text.to_owned()).unwrap()
}

#[test]
fn what_is_never_sure_enough_is_the_full_model_to_the_bit() {
    for fixed in EXITS {
        let (model, plan) = model(fixed, Threshold::NEVER);
        let served = model.serve(texts(9));
        assert_eq!(served.depths, vec![plan.layers.len(); 9]);
        assert_eq!(
            values(served.logits),
            values(model.forward(texts(9)).logits),
            "{fixed}"
        );
    }
}

#[test]
fn what_is_always_sure_enough_leaves_at_the_first_exit() {
    for fixed in EXITS {
        let (model, plan) = model(fixed, Threshold::ALWAYS);
        let served = model.serve(texts(9));
        assert_eq!(served.depths, vec![plan.early_exit.unwrap().every; 9]);
        let first = model.forward_at_exits(texts(9)).0.swap_remove(0);
        assert_eq!(values(served.logits), values(first), "{fixed}");
    }
}

#[test]
fn depth_grows_with_the_threshold_and_what_is_executed_is_the_sum_over_depths() {
    for fixed in EXITS {
        let mut before = 0;
        let mut mixed = 0;
        for threshold in [
            "0.0000", "0.2000", "0.4000", "0.6000", "0.8000", "0.9500", "1.0001",
        ] {
            let (model, plan) = model(fixed, at(threshold));
            let ((served, macs), skipped) = count_skipped(|| count_macs(|| model.serve(texts(24))));
            let formula: u64 = served.depths.iter().map(|depth| plan.exiting_macs(*depth)).sum();
            assert_eq!(macs + skipped.forward, formula, "{fixed} at {threshold}");
            let depth: usize = served.depths.iter().sum();
            assert!(depth >= before, "{fixed} at {threshold}");
            mixed += usize::from(served.depths.iter().any(|depth| *depth != served.depths[0]));
            before = depth;
        }
        assert!(mixed > 0, "{fixed}: some texts leave before others");
    }
}

#[test]
fn a_text_is_served_as_if_it_were_alone() {
    for fixed in EXITS {
        let (model, _) = model(fixed, at("0.6000"));
        let all = model.serve(texts(12));
        let (together, outputs) = (values(all.logits.clone()), all.logits.dims()[2]);
        for row in 0..12 {
            let Inputs { tokens, lengths, .. } = texts(12);
            let length = lengths.unwrap().of(row);
            let alone = model.serve(Inputs {
                tokens: tokens.narrow(0, row, 1),
                lengths: Some(Lengths::new(vec![length])),
                written: None,
            });
            assert_eq!(alone.depths, [all.depths[row]], "{fixed}, text {row}");
            let pairs = values(alone.logits).into_iter().zip(&together[row * outputs..]);
            for (a, b) in pairs {
                assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{fixed}: {a} {b}");
            }
        }
    }
}

#[test]
fn counted_work_of_training_has_a_head_for_each_exit() {
    for fixed in EXITS {
        let plan = plan(fixed);
        let model = Model::<A>::new(&plan.model, 3, &Default::default());
        let ((_, macs), skipped) = count_skipped(|| count_macs(|| drop(gradients_of(&model, batch()))));
        let formula = plan.model.training_pass(3, 16, Trainable::All);
        assert_eq!(macs + skipped.total(), formula.total(), "{fixed}");
    }
}

#[test]
fn a_model_with_exits_is_calibrated_measured_exported_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let fixed = "kind = 'encoder'\ncontext = 20\nbatch = 16\nwidth = 32\nlayers = 3\ntokens = 256000\n\
                 learning_rate = 5e-3\nearly_exit = 'max_prob'\nexit_tolerance = 2";
    let config = config(LISTOPS, fixed);
    let (result, full) = leaves_early(&config, 20, &dir.path().join("work"), "after 1 layers");
    let row = |metric: &str| result.measurements.iter().find(|m| m.metric == metric).unwrap();
    let flops = row("inference_flops_per_token");
    assert!(flops.value < full, "{} {full}", flops.value);
    // exits lose little, on texts that the threshold was not found on
    let accuracy = row("accuracy");
    let of_all: f64 = {
        let said = accuracy.source.split("all layers ").nth(1).unwrap();
        said.split(',').next().unwrap().parse().unwrap()
    };
    assert!(accuracy.value > of_all - 0.06, "{accuracy:?}");
    assert!(accuracy.source.contains("Clopper-Pearson"), "{accuracy:?}");
    comes_back(&dir.path().join("work/bundle"), &result);
}

/// Evaluates a model of three layers with exits, and gives what came out and the FLOPs of a token without exits: what was
/// foretold is what is measured, and something left early.
pub(crate) fn leaves_early(config: &Config, context: usize, work: &Path, said: &str) -> (Evaluation, f64) {
    let facts = inspect(&config.data, None, &DataAccess::anywhere(), context).unwrap();
    let known = facts.known(config).unwrap();
    assert!(
        !known.contains_key("inference_flops_per_token"),
        "it depends on the texts"
    );
    let result = evaluate(&job(config.clone(), work), &mut Silent).unwrap();
    let row = |metric: &str| result.measurements.iter().find(|m| m.metric == metric).unwrap();
    for (metric, value) in known {
        assert_eq!(row(&metric).value, value, "{metric}");
    }
    let depth = row("mean_exit_layer");
    assert!(
        (1.0..3.0).contains(&depth.value) && depth.source.contains(said),
        "{depth:?}"
    );
    assert!(result.activity["early_exits"] > 0);
    assert_eq!(row("inference_flops_per_token").evidence, Evidence::Measured);
    let plan = Plan::read(config, &facts.data, None).unwrap();
    // finding the threshold is charged too
    if let (true, Budget::Steps(steps)) = (plan.training_flops_are_exact(), plan.training.budget) {
        assert!(row("training_flops").value > plan.training_flops(steps) as f64);
    }
    let mut full = plan.served;
    full.early_exit = None;
    let full = full.inference_flops_per_token();
    (result, full)
}

/// Measures a model again from its files, and finds what was found before.
pub(crate) fn comes_back(bundle: &Path, before: &Evaluation) {
    let again = remeasure(bundle, &DataAccess::anywhere(), DeviceChoice::Cpu).unwrap();
    for metric in [
        "accuracy",
        "validation_loss",
        "model_bytes",
        "inference_flops_per_token",
        "mean_exit_layer",
    ] {
        let value = |result: &Evaluation| {
            let found = result.measurements.iter().find(|m| m.metric == metric);
            found.unwrap().value
        };
        assert_eq!(value(&again), value(before), "{metric}");
    }
}

/// Counted work is held against the formula, that of teacher, calibration and every exit included, wherever an evaluation succeeds.
#[test]
fn exits_are_adapted_pruned_taught_and_packed() {
    let dir = tempfile::tempdir().unwrap();
    let common = "kind = 'encoder'\ncontext = 20\nlayers = 3\ntokens = 10000\nvalidation_tokens = 4000\n";
    let base = config(LISTOPS, common);
    evaluate(&job(base, &dir.path().join("base")), &mut Silent).unwrap();
    let path = dir.path().join("base/bundle");
    let data = format!("{LISTOPS}\n[base]\npath = '{}'", path.display());
    for (i, more) in [
        "fine_tune = 'lora'\nprune_ratio = 0.5\nrecovery = 0.3\ndistill = 'logits'\nbits = 4\nquant_method = 'gptq'",
        "fine_tune = 'full'\nprune_ratio = 0.25\nhead_prune_ratio = 0.5\nrecovery = 0.3\nbits = 8",
    ]
    .into_iter()
    .enumerate()
    {
        let fixed = format!(
            "context = 20\nbatch = 4\ntokens = 10000\nvalidation_tokens = 4000\nearly_exit = 'entropy'\n{more}\n"
        );
        let text = format!("{data}\n[fixed]\n{fixed}");
        let config = spaces::study::config_from_toml(&text, &evaluator::catalog()).unwrap();
        let work = dir.path().join(i.to_string());
        let result = evaluate(&job(config, &work), &mut Silent).unwrap();
        let depth = result.measurements.iter().find(|m| m.metric == "mean_exit_layer");
        assert!(depth.unwrap().value <= 3.0, "{more}");
        for (what, counter) in [("lora", "lora_matrices"), ("logits", "distilled_rows"), ("gptq", "gptq_weights")] {
            let done = result.activity.get(counter).is_some_and(|n| *n > 0);
            assert!(done || !more.contains(what), "{more}: {counter}");
        }
    }
}

#[test]
fn exits_stay_where_layers_go_and_their_heads_are_of_training_alone() {
    let dir = tempfile::tempdir().unwrap();
    let fixed = "kind = 'encoder'\nlayers = 4\nearly_exit = 'max_prob'\nexit_tolerance = 50\nlayer_prune_ratio = 0.5\n\
                 recovery = 0.2\nbits = 4\nquant_method = 'gptq'";
    // work that was counted otherwise than the formula says would fail it
    let result = evaluate(
        &job(config(LISTOPS, fixed), &dir.path().join("work")),
        &mut Silent,
    )
    .unwrap();
    assert!(result.activity["removed_layers"] == 2 && result.activity["early_exits"] > 0);
}

#[test]
fn what_has_no_exit_is_refused_in_one_sentence() {
    for (fixed, part) in [
        (
            "kind = 'encoder'\nearly_exit = 'state_similarity'\nlayers = 3",
            "use early_exit = 'max_prob', 'entropy', 'margin' or 'patience'",
        ),
        (
            "kind = 'encoder'\nearly_exit = 'entropy'\nlayers = 1",
            "use layers = 2 or more",
        ),
        (
            "kind = 'encoder'\nearly_exit = 'entropy'\nlayers = 3\nexit_every = 3",
            "use at most 2",
        ),
        (
            "kind = 'encoder'\nearly_exit = 'entropy'\nreversible = true",
            "use reversible = false",
        ),
        (
            "kind = 'encoder'\nearly_exit = 'entropy'\noptimizer = 'lomo'",
            "use optimizer = 'sgd' or 'adamw'",
        ),
        (
            "kind = 'encoder'\nearly_exit = 'entropy'\noptimizer = 'badam'",
            "use optimizer = 'sgd' or 'adamw'",
        ),
        (
            "kind = 'encoder'\nearly_exit = 'entropy'\nlayers = 4\nexit_every = 2\nlayer_prune_ratio = 0.5",
            "use a smaller layer_prune_ratio or exit_every",
        ),
    ] {
        let message = read(fixed).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
}

//! Trainings of a base: what stays, what changes, that they go on where they were stopped.

use std::{collections::BTreeMap, path::Path};

use evaluator::{
    EvaluationError,
    data::{DataAccess, Dataset},
    model::Model,
    techniques::fine_tuning::mask::kept_weights,
    training::Record,
};

use crate::{
    fine_tuning::{base_plan, bits, method},
    resume::go_on,
    support::{A, TUNINGS, config, plan_for, recall, stretch},
};

/// What a training gives, or why it stopped.
type Trained = Result<(Model<A>, Record), EvaluationError>;

/// A base as it is before the first step, and what comes of its training.
fn trained(fixed: &str, dir: &Path, stop_after: u64) -> (Model<A>, Trained) {
    let data = Dataset::load(&config(recall(), "").data, &DataAccess::anywhere()).unwrap();
    let plan = plan_for(data.vocab, fixed).unwrap();
    let base = Model::<A>::new(&base_plan(&plan), 1, &Default::default());
    let mut model = base.clone();
    method(&plan).attach(&mut model, &plan.model, 1);
    let start = model.clone();
    let result = go_on(model, &stretch(&plan, &data, dir), stop_after);
    (start, result)
}

#[test]
fn frozen_weights_keep_their_bits_and_all_others_change() {
    let dir = tempfile::tempdir().unwrap();
    for (i, tuning) in TUNINGS.iter().enumerate() {
        let (mut start, result) = trained(tuning, &dir.path().join(i.to_string()), u64::MAX);
        let (before, after) = (bits(&mut start), bits(&mut result.unwrap().0));
        let (mut changed, mut all) = (0, 0);
        for (name, (values, trained)) in &before {
            let now = &after[name].0;
            let differ = values.iter().zip(now).filter(|(a, b)| a != b).count();
            assert!(*trained || differ == 0, "{tuning}: {name} is frozen");
            assert!(!trained || differ > 0, "{tuning}: {name} is trained");
            (changed, all) = (changed + differ, all + values.len());
        }
        let fraction = tuning
            .lines()
            .find_map(|line| line.strip_prefix("mask_fraction = "));
        if let Some(fraction) = fraction {
            let kept = kept_weights(all, before.len(), fraction.parse().unwrap());
            assert!(
                (kept * 3 / 4..=kept).contains(&changed),
                "{tuning}: {changed} of {kept}"
            );
        }
    }
}

#[test]
fn a_stopped_training_goes_on_to_the_same_bits() {
    let mezo = "fine_tune = 'full'\noptimizer = 'mezo'\nmezo_epsilon = 0.01";
    let lomo = "fine_tune = 'full'\noptimizer = 'lomo'\nlearning_rate = 0.5";
    let badam = "fine_tune = 'full'\noptimizer = 'badam'\nbadam_block_steps = 2";
    for tuning in TUNINGS.iter().chain([&mezo, &lomo, &badam]) {
        let (whole, part) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut start, result) = trained(tuning, &whole.path().join("c"), u64::MAX);
        let (mut model, record) = result.unwrap();
        let expected = bits(&mut model);
        assert_ne!(bits(&mut start), expected, "{tuning}");
        let dir = part.path().join("c");
        for stop in [3, 4] {
            assert!(matches!(
                trained(tuning, &dir, stop).1,
                Err(EvaluationError::Cancelled)
            ));
        }
        let (mut model, resumed) = trained(tuning, &dir, u64::MAX).1.unwrap();
        assert_eq!(
            (resumed.steps, resumed.macs),
            (record.steps, record.macs),
            "{tuning}"
        );
        assert_eq!(bits(&mut model), expected, "{tuning}");
    }
}

#[test]
fn changes_on_the_way_back_are_those_of_gradient_descent() {
    for (base, more) in [
        ("kv_heads = 2", ""),
        ("kv_heads = 2", "layerwise_lr_decay = 0.6"),
        (
            "experts = 4\nrouter = 'switch'\ncapacity_factor = 1.0\nrouter_jitter = 0.0",
            "",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let run = |rule: &str| {
            let fixed =
                format!("{base}\nfine_tune = 'full'\noptimizer = '{rule}'\nlearning_rate = 0.1\n{more}");
            let (mut model, _) = trained(&fixed, &dir.path().join(rule), u64::MAX).1.unwrap();
            bits(&mut model)
        };
        let (sgd, lomo) = (run("sgd"), run("lomo"));
        for (name, (values, _)) in &sgd {
            for (a, b) in values.iter().zip(&lomo[name].0) {
                let (a, b) = (f32::from_bits(*a), f32::from_bits(*b));
                assert!((a - b).abs() <= 1e-6, "{base} {name}: {a} {b}");
            }
        }
    }
}

#[test]
fn a_decay_of_one_is_none_and_a_lower_one_moves_lower_layers_less() {
    let dir = tempfile::tempdir().unwrap();
    for rule in ["adamw", "badam", "sgd", "lomo"] {
        // each part has its turn
        let turns = if rule == "badam" {
            "badam_block_steps = 2"
        } else {
            ""
        };
        let run = |name: &str, more: &str| {
            let fixed = format!("fine_tune = 'full'\noptimizer = '{rule}'\n{turns}\n{more}");
            let (mut start, result) = trained(&fixed, &dir.path().join(format!("{rule}{name}")), u64::MAX);
            (bits(&mut start), bits(&mut result.unwrap().0))
        };
        let (start, whole) = run("none", "");
        assert_eq!(run("one", "layerwise_lr_decay = 1.0").1, whole, "{rule}");
        let (_, slowed) = run("half", "layerwise_lr_decay = 0.5");
        let moved = |after: &BTreeMap<String, (Vec<u32>, bool)>, part: &str| {
            let tensors = start.iter().filter(|(name, _)| name.starts_with(part));
            let squares = tensors.flat_map(|(name, (before, _))| {
                let pairs = before.iter().zip(&after[name].0);
                pairs.map(|(a, b)| (f32::from_bits(*a) - f32::from_bits(*b)).powi(2))
            });
            squares.sum::<f32>().sqrt()
        };
        // of two layers the last has the whole rate, the first half of it, the embedding a quarter
        for (part, low, high) in [
            ("model.layers.0.", 0.3, 0.75),
            ("model.layers.1.", 0.8, 1.25),
            ("model.embed_tokens.", 0.12, 0.5),
        ] {
            let share = moved(&slowed, part) / moved(&whole, part);
            assert!((low..high).contains(&share), "{rule} {part}: {share}");
        }
    }
}

//! A training in parts, each in a folder and process state of its own, is the whole training: to the last bit.

use std::{collections::BTreeMap, fs, path::Path};

use evaluator::{Events, Job, evaluate, training::CHECKPOINT_FILES};
use spaces::{
    Measurement,
    protocol::{Evaluation, Progress},
};

use crate::support::{config, job};

/// Keeps the steps of the learning curve.
#[derive(Default)]
struct Steps(Vec<(u64, u64)>);

impl Events for Steps {
    fn progress(&mut self, _: Progress) {}

    fn report(&mut self, measurements: Vec<Measurement>) {
        self.0
            .extend(measurements.iter().map(|m| (m.step, m.value.to_bits())));
    }
}

fn run(dir: &Path, fixed: &str, target: f64) -> (Evaluation, Steps) {
    let config = config("[data]\ncorpus = \"markov\"", fixed);
    let mut steps = Steps::default();
    let job = Job {
        target,
        ..job(config, dir)
    };
    let result = evaluate(&job, &mut steps).unwrap_or_else(|e| panic!("{fixed} to {target}: {e}"));
    (result, steps)
}

/// Hands the state of one folder to another, as the server does.
fn hand_over(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("start")).unwrap();
    for file in CHECKPOINT_FILES {
        fs::copy(from.join("state").join(file), to.join("start").join(file)).unwrap();
    }
}

fn exact(result: &Evaluation) -> BTreeMap<&str, u64> {
    let timed =
        |m: &&Measurement| ["validation_loss", "accuracy", "training_flops"].contains(&m.metric.as_str());
    let bits = |m: &'_ Measurement| m.value.to_bits();
    result
        .measurements
        .iter()
        .filter(timed)
        .map(|m| (m.metric.as_str(), bits(m)))
        .collect()
}

#[test]
fn parts_handed_from_worker_to_worker_are_the_whole_training() {
    for fixed in [
        "attention = 'linear'\nexperts = 2",
        "prune_ratio = 0.5\nrecovery = 0.3\nbits = 8",
        "layer_prune_ratio = 0.5\nwidth_prune_ratio = 0.25\nrecovery = 0.3",
        "prune_ratio = 0.5\nrecovery = 0.3\nsparsity = 0.5\nsparsity_method = 'sparsegpt'",
        "prune_ratio = 0.5\nrecovery = 0.3\nsparsity = 0.5\nsparsity_method = 'movement'\nsparsity_recovery = 0.3",
        "kind = 'encoder_decoder'\ncorruption_rate = 0.3\nhead_prune_ratio = 0.5\nrecovery = 0.3",
        "experts = 4\nrouter = 'gshard'\ncapacity_factor = 1.0\nprune_ratio = 0.5\nrecovery = 0.3",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (whole, curve) = run(&at("whole"), fixed, 1.0);

        let (first, first_curve) = run(&at("a"), fixed, 0.25);
        assert_eq!(first.artifacts, CHECKPOINT_FILES);
        assert_eq!(
            first.measurements[0].step, 3,
            "of ten steps, a quarter and what remains of it"
        );
        hand_over(&at("a"), &at("b"));
        let (second, second_curve) = run(&at("b"), fixed, 0.7);
        assert_eq!(second.provenance["resumed_at_step"], "3");
        assert_eq!(second.measurements[0].step, 7);
        hand_over(&at("b"), &at("c"));
        let (third, third_curve) = run(&at("c"), fixed, 1.0);
        assert_eq!(third.provenance["resumed_at_step"], "7");

        assert_eq!(exact(&third), exact(&whole), "{fixed}");
        assert_eq!(
            third.provenance["training_steps"],
            whole.provenance["training_steps"]
        );
        assert_ne!(exact(&first), exact(&second));
        // no step is trained twice: the curves follow one another, and are together a part of the whole one
        assert!(first_curve.0.iter().all(|(step, _)| *step <= 3));
        assert!(second_curve.0.iter().all(|(step, _)| (4..=7).contains(step)));
        assert!(third_curve.0.iter().all(|(step, _)| *step > 7));
        let parts = [first_curve.0, second_curve.0, third_curve.0].concat();
        assert!(!parts.is_empty() && parts.iter().all(|point| curve.0.contains(point)));
    }
}

#[test]
fn a_part_that_was_cut_off_goes_on_from_its_own_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fixed = "attention = 'full'";
    let (expected, _) = run(&at("straight"), fixed, 0.5);
    // a foreign state in the folder of another target is not taken for a checkpoint of this one
    run(&at("a"), fixed, 0.2);
    let (result, _) = run(&at("a"), fixed, 0.5);
    assert_eq!(exact(&result), exact(&expected));
    assert!(!result.provenance.contains_key("resumed_at_step"));
}

#[test]
fn a_budget_in_seconds_is_turned_into_steps_once_for_all_parts() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let text = "[data]\ncorpus = \"markov\"\n[fixed]\ncontext = 16\nlayers = 1\nwidth = 32\nheads = 4\nbatch = 4\n\
                training_time = 1.0\n";
    let config = spaces::study::config_from_toml(text, &evaluator::catalog()).unwrap();
    let to = |folder: &str, target| {
        let job = Job {
            target,
            ..job(config.clone(), &at(folder))
        };
        evaluate(&job, &mut Steps::default()).unwrap()
    };
    let steps = |result: &Evaluation| result.provenance["training_steps"].parse::<u64>().unwrap();
    let first = to("a", 0.4);
    hand_over(&at("a"), &at("b"));
    let whole = to("b", 1.0);
    assert_eq!(whole.provenance["resumed_at_step"], steps(&first).to_string());
    // whatever the speed of the second worker, the length was settled by the first
    assert_eq!(steps(&first), (0.4 * steps(&whole) as f64).ceil() as u64);
    assert!(steps(&first) > 8, "{}", steps(&first));
}

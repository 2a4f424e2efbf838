//! Trials that share a training or a pruned model make it once, and report what each would have cost alone.

use std::{collections::BTreeMap, path::Path, sync::Mutex};

use evaluator::{Events, Job, Shelf, evaluate};
use spaces::{
    Measurement,
    protocol::{Evaluation, Progress},
};

use crate::support::{config, job};

const SMALL: &str = "context = 16\nlayers = 1\nwidth = 32\nheads = 4\nbatch = 4\ntokens = 6400\n";

/// Keeps what was said, and what stages asked for.
#[derive(Default)]
struct Heard {
    curve: Vec<(u64, u64)>,
    wanted: Vec<String>,
    made: Vec<String>,
}

impl Events for Heard {
    fn progress(&mut self, _: Progress) {}

    fn report(&mut self, measurements: Vec<Measurement>) {
        let points = measurements.iter().map(|m| (m.step, m.value.to_bits()));
        self.curve.extend(points);
    }

    fn stage_wanted(&mut self, key: &str, _: &Path) {
        self.wanted.push(key.into());
    }

    fn stage_made(&mut self, key: &str, file: &Path) {
        assert!(file.exists());
        self.made.push(key.into());
    }
}

/// Each test evaluates several trials in one process, whose counters are the process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn run(dir: &Path, more: &str, shelf: Option<&Shelf>) -> (Evaluation, Heard) {
    let fixed = format!("{SMALL}{more}");
    let folder = dir.join(spaces::fingerprint(
        format!("{fixed}{}", shelf.is_some()).as_bytes(),
    ));
    let job = Job {
        stages: shelf.cloned(),
        ..job(config("[data]\ncorpus = \"markov\"", &fixed), &folder)
    };
    let mut heard = Heard::default();
    let result = evaluate(&job, &mut heard).unwrap_or_else(|e| panic!("{more}: {e}"));
    (result, heard)
}

fn values(result: &Evaluation) -> BTreeMap<&str, f64> {
    let values = result.measurements.iter();
    values.map(|m| (m.metric.as_str(), m.value)).collect()
}

#[test]
fn a_chain_that_shares_its_beginning_is_made_once_with_the_results_it_has_alone() {
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf {
        dir: dir.path().join("stages"),
        limit_bytes: 1 << 30,
    };
    let chains = [
        "",
        "bits = 8\n",
        "prune_ratio = 0.5\n",
        "prune_ratio = 0.5\nbits = 4\n",
        "prune_ratio = 0.5\nprune_criterion = \"magnitude\"\n",
    ];
    let (mut alone_tokens, mut spent_tokens) = (0.0, 0.0);
    for (i, chain) in chains.iter().enumerate() {
        let (alone, alone_heard) = run(dir.path(), chain, None);
        let (shared, heard) = run(dir.path(), chain, Some(&shelf));
        let (alone, shared_values) = (values(&alone), values(&shared));
        for metric in [
            "validation_loss",
            "training_flops",
            "model_bytes",
            "training_tokens",
        ] {
            assert_eq!(alone[metric], shared_values[metric], "'{chain}': {metric}");
        }
        assert_eq!(alone_heard.curve, heard.curve, "'{chain}'");
        assert_eq!(alone["spent_training_tokens"], alone["training_tokens"]);
        alone_tokens += alone["training_tokens"];
        spent_tokens += shared_values["spent_training_tokens"];
        // the training is made by the first, the recovery by the first of each criterion
        let spent = shared_values["spent_training_tokens"] / alone["training_tokens"];
        let expected = [1.0, 0.0, 0.1 / 1.1, 0.0, 0.1 / 1.1][i];
        assert!((spent - expected).abs() < 1e-9, "'{chain}': {spent}");
        let by = [
            None,
            Some("trained_by"),
            Some("trained_by"),
            Some("pruned_by"),
            Some("trained_by"),
        ][i];
        let said = shared.provenance.keys().find(|k| k.ends_with("ed_by"));
        assert_eq!(said.map(String::as_str), by, "'{chain}'");
        assert_eq!(heard.made.len(), usize::from(spent > 0.0), "'{chain}'");
    }
    assert!(alone_tokens > 4.0 * spent_tokens, "{alone_tokens} {spent_tokens}");
}

#[test]
fn what_a_base_was_adapted_by_is_found_whole_and_its_settings_make_another_training() {
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf {
        dir: dir.path().join("stages"),
        limit_bytes: 1 << 30,
    };
    let fixed = format!("{SMALL}tokens = 640\n").replace("tokens = 6400\n", "");
    let base = dir.path().join("base");
    let data = "[data]\ncorpus = \"markov\"";
    evaluate(&job(config(data, &fixed), &base), &mut evaluator::Silent).unwrap();
    let mut trials = 0;
    let mut adapt = |tuning: &str, shelf: Option<&Shelf>| {
        trials += 1;
        let text = format!(
            "{data}\n[base]\npath = \"{}\"\n[fixed]\ncontext = 16\nbatch = 4\ntokens = 640\n{tuning}\n",
            base.join("bundle").display()
        );
        let job = Job {
            stages: shelf.cloned(),
            ..job(
                spaces::study::config_from_toml(&text, &evaluator::catalog()).unwrap(),
                &dir.path().join(trials.to_string()),
            )
        };
        evaluate(&job, &mut Heard::default()).unwrap_or_else(|e| panic!("{tuning}: {e}"))
    };
    for tuning in [
        "fine_tune = 'adapter'\nadapter_size = 4",
        "fine_tune = 'adapter'\nadapter_kind = 'parallel'\nadapter_size = 4",
        "fine_tune = 'lora'\nbase_bits = 4\nlora_rank = 3",
        "fine_tune = 'ia3'",
        "fine_tune = 'mask'\nmask = 'fisher'\nmask_fraction = 0.1\nfisher_samples = 2",
    ] {
        for (i, more) in [
            "",
            "\nbits = 8",
            "\nprune_ratio = 0.5",
            "\nprune_ratio = 0.5\nbits = 4",
        ]
        .iter()
        .enumerate()
        {
            let alone = adapt(&format!("{tuning}{more}"), None);
            let shared = adapt(&format!("{tuning}{more}"), Some(&shelf));
            let (alone, shared) = (values(&alone), values(&shared));
            for metric in ["validation_loss", "training_flops", "model_bytes", "parameters"] {
                assert_eq!(alone[metric], shared[metric], "{tuning}{more}: {metric}");
            }
            let spent = shared["spent_training_tokens"] / alone["training_tokens"];
            let expected = [1.0, 0.0, 0.1 / 1.1, 0.0][i];
            assert!((spent - expected).abs() < 0.02, "{tuning}{more}: {spent}");
        }
    }
    for other in [
        "fine_tune = 'adapter'\nadapter_size = 5",
        "fine_tune = 'lora'\nbase_bits = 8\nlora_rank = 3",
        "fine_tune = 'mask'\nmask = 'fisher'\nmask_fraction = 0.1\nfisher_samples = 3",
        "fine_tune = 'full'",
        "fine_tune = 'full'\noptimizer = 'sgd'",
        "fine_tune = 'full'\noptimizer = 'mezo'",
        "fine_tune = 'full'\noptimizer = 'mezo'\nmezo_epsilon = 0.01",
    ] {
        let result = adapt(other, Some(&shelf));
        let found = values(&result);
        assert_eq!(
            found["spent_training_tokens"], found["training_tokens"],
            "{other}"
        );
    }
}

#[test]
fn what_a_training_follows_from_makes_another_one() {
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf {
        dir: dir.path().join("stages"),
        limit_bytes: 1 << 30,
    };
    run(dir.path(), "", Some(&shelf));
    for other in [
        "learning_rate = 0.002\n",
        "attention = \"linear\"\n",
        "weight_decay = 0.2\n",
    ] {
        let (result, heard) = run(dir.path(), other, Some(&shelf));
        let values = values(&result);
        assert_eq!(
            values["spent_training_tokens"], values["training_tokens"],
            "{other}"
        );
        assert_eq!((heard.wanted.len(), heard.made.len()), (1, 1), "{other}");
    }
    // measuring on less is no other training
    let (result, heard) = run(dir.path(), "validation_tokens = 1024\n", Some(&shelf));
    assert_eq!(values(&result)["spent_training_tokens"], 0.0);
    assert!(heard.wanted.is_empty() && heard.made.is_empty());
}

#[test]
fn a_result_that_is_not_whole_is_made_again() {
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf {
        dir: dir.path().join("stages"),
        limit_bytes: 1 << 30,
    };
    run(dir.path(), "", Some(&shelf));
    let files = || std::fs::read_dir(&shelf.dir).unwrap().map(|e| e.unwrap().path());
    let kept: Vec<_> = files().collect();
    assert_eq!(kept.len(), 1, "no lock and no part stays: {kept:?}");
    let bytes = std::fs::read(&kept[0]).unwrap();
    std::fs::write(&kept[0], &bytes[..bytes.len() / 2]).unwrap();
    let (result, _) = run(dir.path(), "bits = 8\n", Some(&shelf));
    assert!(values(&result)["spent_training_tokens"] > 0.0);
    assert!(std::fs::read(&kept[0]).unwrap().len() > bytes.len() / 2);
}

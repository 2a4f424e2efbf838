//! Recovery after pruning that learns from the model before it.

use evaluator::{EvaluationError, Job, evaluate};
use spaces::protocol::Evaluation;

use crate::support::{config, job};

const SMALL: &str = "context = 16\nlayers = 2\nwidth = 32\nheads = 4\nbatch = 8\n";

fn run(fixed: &str, seed: u64) -> Evaluation {
    let dir = tempfile::tempdir().unwrap();
    let fixed = format!("{SMALL}{fixed}");
    let job = Job {
        seed,
        ..job(config("[data]\ncorpus = \"markov\"", &fixed), dir.path())
    };
    evaluate(&job, &mut evaluator::Silent).unwrap_or_else(|e| panic!("{fixed}: {e}"))
}

fn value(result: &Evaluation, metric: &str) -> f64 {
    let found = result.measurements.iter().find(|m| m.metric == metric);
    found.unwrap_or_else(|| panic!("no {metric}")).value
}

/// Counted work is held against the formula, the teacher's passes included, wherever an evaluation succeeds.
#[test]
fn every_kind_of_model_can_teach_what_is_left_of_it_and_its_work_is_counted() {
    let pruned = "tokens = 6400\nprune_ratio = 0.5\nrecovery = 0.2\ndistill = \"logits\"\n";
    for more in [
        "",
        "experts = 2\nrouter = \"noisy_top_k\"\ntop_k = 2\n",
        "attention = \"linear\"\nhead_prune_ratio = 0.5\nbits = 8\n",
        "optimizer = \"sgd\"\n",
        "optimizer = \"lomo\"\n",
    ] {
        let alone = run(&format!("{pruned}{more}").replace("logits", "none"), 1);
        let taught = run(&format!("{pruned}{more}"), 1);
        // counters are those of the process
        let told = |result: &Evaluation| result.activity.get("distilled_rows").copied().unwrap_or(0);
        assert!(told(&taught) > told(&alone));
        for (metric, more) in [
            ("training_flops", true),
            ("model_bytes", false),
            ("parameters", false),
        ] {
            assert_eq!(value(&taught, metric) > value(&alone, metric), more, "{metric}");
        }
    }
}

#[test]
fn a_student_that_is_taught_does_better_than_one_that_is_not() {
    let pruned = "tokens = 60000\nlearning_rate = 0.003\nprune_ratio = 0.75\nrecovery = 0.2\n";
    let differences: Vec<f64> = (0..6)
        .map(|seed| {
            let loss = |more: &str| value(&run(&format!("{pruned}{more}"), seed), "validation_loss");
            loss("") - loss("distill = \"logits\"\ndistill_weight = 0.9\ndistill_temperature = 1.0\n")
        })
        .collect();
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
    // one-sided, 95 %, five degrees of freedom
    let least = mean - 2.015 * (variance / n).sqrt();
    assert!(least > 0.0, "{differences:?}");
}

#[test]
fn layers_that_keep_nothing_cannot_be_taught() {
    let dir = tempfile::tempdir().unwrap();
    let fixed = format!("{SMALL}prune_ratio = 0.5\nreversible = true\ndistill = \"logits\"\n");
    let job = job(config("[data]\ncorpus = \"markov\"", &fixed), dir.path());
    let error = evaluate(&job, &mut evaluator::Silent).unwrap_err();
    assert!(matches!(error, EvaluationError::Invalid(_)), "{error}");
    assert!(error.to_string().contains("distill = 'none'"), "{error}");
}

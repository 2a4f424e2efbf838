//! Whole evaluations with a latency target: sizes are found, kept, shared and told. Times are those of a formula.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use evaluator::{
    EvaluationError, Events, Job, Shelf, Silent, bundle,
    data::DataAccess,
    device::DeviceChoice,
    evaluate, inspect,
    model::{Model, ModelPlan, Trainable},
    plan::{Budget, Plan},
    remeasure,
    techniques::pruning::latency::TimeTable,
    training::{Record, Stretch},
};
use spaces::{
    Measurement,
    protocol::{Evaluation, Progress},
};

use crate::{
    evaluation::values,
    latency::{by_heads, by_work, sizes},
    pruning::text,
    resume::go_on,
    support::{A, config, job, recall, stretch, text_data},
};

fn run(data: &str, fixed: &str, dir: &Path) -> Evaluation {
    let job = Job {
        times: Some(by_work),
        ..job(config(data, fixed), dir)
    };
    evaluate(&job, &mut Silent).unwrap_or_else(|e| panic!("{fixed}: {e}"))
}

fn served(dir: &Path) -> bundle::Served {
    let text = fs::read_to_string(dir.join("bundle/config.json")).unwrap();
    bundle::served_from_json(&text).unwrap()
}

const LISTOPS: &str = "[data]\ncorpus = 'listops'\nmax_depth = 3\nmax_args = 4\nmin_length = 4\nmax_length = 16\n\
                       train_examples = 400\nvalid_examples = 100";

/// Counted work is held against the formula of what was found wherever an evaluation succeeds.
#[test]
fn models_of_many_kinds_are_cut_to_a_time_measured_exported_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let texts = text_data(dir.path(), 8000);
    for (i, (data, fixed)) in [
        (texts.as_str(), "layers = 4\ntokens = 3200\nprune_latency = 0.6\nrecovery = 0.2"),
        (&texts, "prune_latency = 0.7\nprune_criterion = 'magnitude'\nrecovery = 0\nbits = 8"),
        (&texts, "prune_latency = 0.7\nkv_heads = 2\nexperts = 4\nrouter = 'switch'\ncapacity_factor = 1.0\nmoe_every = 2\nrecovery = 0.2"),
        (&texts, "prune_latency = 0.6\nprune_criterion = 'activation'\nattention = 'linear'\nbits = 3\nqat = 0.3\ncache_bits = 32"),
        (&texts, "prune_latency = 0.7\nreversible = true\nff_chunks = 4\nsparsity = 0.5\nsparsity_recovery = 0.2"),
        (&texts, "prune_latency = 0.6\ndistill = 'attention'\nrecovery = 0.3\nbits = 4\nquant_method = 'gptq'"),
        (LISTOPS, "prune_latency = 0.6\nkind = 'encoder'\ntokens = 1280\nrecovery = 0.2"),
    ]
    .into_iter()
    .enumerate()
    {
        let work = dir.path().join(i.to_string());
        let result = run(data, fixed, &work);
        let (measured, shape) = (values(&result), served(&work).model);
        let facts = inspect(&config(data, fixed).data, None, &DataAccess::anywhere(), 16).unwrap();
        assert_eq!(facts.known(&config(data, fixed)).unwrap(), BTreeMap::new(), "{fixed}");
        let whole = Plan::read(&config(data, fixed), &facts.data, None).unwrap();
        let share = by_work(&shape) / by_work(&whole.served);
        let target: f64 = fixed.split("prune_latency = ").nth(1).unwrap()[..3].parse().unwrap();
        assert!(share <= target && share > target - 0.15, "{fixed}: {share}");
        assert!(sizes(&shape) != sizes(&whole.model), "{fixed}");
        assert!(result.activity["pruned_for_latency"] > 0);
        assert_eq!(measured["parameters"], shape.parameters() as f64, "{fixed}");
        let training = measured["training_flops"];
        assert!(training <= whole.training_flops(match whole.training.budget {
            Budget::Steps(steps) => steps,
            Budget::Seconds(_) => unreachable!(),
        }) as f64, "{fixed}");
        println!("{}: {}; {}", result.provenance["summary"], result.provenance["pruned_sizes"], result.provenance["pruned_time"]);
        let table: TimeTable = serde_json::from_str(&result.provenance["pruned_time_table"]).unwrap();
        assert_eq!(table.whole_ms, by_work(&whole.served));
        assert!(result.provenance["summary"].contains("key/value heads a layer for 0."));
        let again = remeasure(&work.join("bundle"), &DataAccess::anywhere(), DeviceChoice::Cpu).unwrap();
        for metric in ["validation_loss", "parameters", "model_bytes", "inference_flops_per_token"] {
            assert_eq!(values(&again)[metric], measured[metric], "{fixed}: {metric}");
        }
        if i == 0 {
            let sizes = sizes(&shape);
            assert!(sizes.iter().any(|size| *size != sizes[0]), "{sizes:?}");
            let config = fs::read_to_string(work.join("bundle/config.json")).unwrap();
            let config: serde_json::Value = serde_json::from_str(&config).unwrap();
            assert_eq!(config["model_type"], "parsimony_decoder");
            let neurons: Vec<usize> = sizes.iter().map(|size| size.neurons).collect();
            assert_eq!(config["intermediate_size"], serde_json::json!(neurons));
        }
    }
}

#[test]
fn a_target_out_of_reach_costs_no_training() {
    /// Notes whether something was trained.
    #[derive(Default)]
    struct Phases(Vec<String>);
    impl Events for Phases {
        fn progress(&mut self, progress: Progress) {
            self.0.push(progress.phase);
        }
        fn report(&mut self, _: Vec<Measurement>) {}
    }
    let dir = tempfile::tempdir().unwrap();
    let job = Job {
        times: Some(by_work),
        ..job(config(recall(), "prune_latency = 0.02"), dir.path())
    };
    let mut phases = Phases::default();
    let message = evaluate(&job, &mut phases).unwrap_err().to_string();
    assert!(
        message.contains("prune_latency = 0.02 cannot be met"),
        "{message}"
    );
    assert_eq!(phases.0, ["load", "time sizes"]);
}

/// Wants to be stopped once this phase has begun.
struct StoppedIn(&'static str, bool);

impl Events for StoppedIn {
    fn progress(&mut self, progress: Progress) {
        self.1 = progress.phase == self.0;
    }

    fn report(&mut self, _: Vec<Measurement>) {}

    fn cancelled(&self) -> bool {
        self.1
    }
}

#[test]
fn a_recovery_that_is_stopped_goes_on_with_the_sizes_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let fixed = "prune_latency = 0.6\nrecovery = 0.5\nvalidation_tokens = 1024";
    let with = |times: fn(&ModelPlan) -> f64, folder: &str| Job {
        times: Some(times),
        ..job(config(recall(), fixed), &dir.path().join(folder))
    };
    let whole = evaluate(&with(by_work, "whole"), &mut Silent).unwrap();
    let other = evaluate(&with(by_heads, "other"), &mut Silent).unwrap();
    let shape = served(&dir.path().join("whole")).model;
    assert!(
        sizes(&shape) != sizes(&served(&dir.path().join("other")).model),
        "another clock, other sizes"
    );

    let stopped = with(by_work, "stopped");
    let stop = evaluate(&stopped, &mut StoppedIn("recover", false));
    assert!(matches!(stop, Err(EvaluationError::Cancelled)));
    assert!(stopped.work_dir.join("sizes.json").exists());
    // what it would have left half-way: 10 steps of training before, 5 of recovery in all
    let data = text();
    let plan = crate::support::plan_for(shape.vocabulary, fixed).unwrap();
    let recovery = 5 * shape.training_pass(4, 16, Trainable::All).total();
    let earlier = Record {
        steps: 10,
        tokens: 640,
        macs: values(&whole)["training_flops"] as u64 / 2 - recovery,
        ..Record::default()
    };
    let checkpoints = stopped.work_dir.join("checkpoint");
    // a slow machine has left one of the training
    let _ = fs::remove_dir_all(&checkpoints);
    let recover = Stretch {
        phase: "recover",
        budget: Budget::Steps(5),
        earlier,
        checkpoint_every: Duration::ZERO,
        ..stretch(&plan, &data, &checkpoints)
    };
    let model = Model::<A>::new(&shape, 1, &Default::default());
    assert!(matches!(
        go_on(model, &recover, 2),
        Err(EvaluationError::Cancelled)
    ));

    let resumed = evaluate(&with(by_heads, "stopped"), &mut Silent).unwrap();
    assert_eq!(resumed.provenance["resumed_at_step"], "12");
    assert_eq!(
        resumed.provenance["pruned_sizes"],
        whole.provenance["pruned_sizes"]
    );
    assert_ne!(
        resumed.provenance["pruned_sizes"],
        other.provenance["pruned_sizes"]
    );
    assert_eq!(sizes(&served(&stopped.work_dir).model), sizes(&shape));
    assert_eq!(
        values(&resumed)["training_flops"],
        values(&whole)["training_flops"]
    );
    // another job in the same folder finds its own
    let mut next = with(by_heads, "stopped");
    next.seed = 2;
    evaluate(&next, &mut StoppedIn("time sizes", false)).unwrap_err();
    assert!(!stopped.work_dir.join("sizes.json").exists());
}

#[test]
fn a_pruned_model_that_another_trial_made_carries_its_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf {
        dir: dir.path().join("stages"),
        limit_bytes: 1 << 30,
    };
    let with = |times: fn(&ModelPlan) -> f64, more: &str, folder: &str| {
        let job = Job {
            times: Some(times),
            stages: Some(shelf.clone()),
            ..job(
                config(recall(), &format!("prune_latency = 0.6\n{more}")),
                &dir.path().join(folder),
            )
        };
        evaluate(&job, &mut Silent).unwrap()
    };
    let first = with(by_work, "validation_tokens = 1024", "first");
    let found = with(by_heads, "validation_tokens = 2048", "found");
    assert!(
        found.provenance.contains_key("pruned_by"),
        "{:?}",
        found.provenance
    );
    for key in ["pruned_sizes", "pruned_time", "summary"] {
        assert_eq!(found.provenance[key], first.provenance[key]);
    }
    assert_eq!(values(&found)["training_flops"], values(&first)["training_flops"]);
    assert_eq!(values(&found)["spent_training_flops"], 0.0);
    // packed weights take other times: the training is shared, the sizes are found anew
    let packed = with(by_heads, "validation_tokens = 1024\nbits = 8", "packed");
    assert!(packed.provenance.contains_key("trained_by") && !packed.provenance.contains_key("pruned_by"));
    assert_ne!(
        packed.provenance["pruned_sizes"],
        first.provenance["pruned_sizes"]
    );
}

/// The clock itself: only that it can be asked for, since what it says depends on the machine.
#[test]
fn an_absolute_target_above_the_models_own_time_is_refused_by_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(recall(), "prune_latency_ms = 100000.0");
    let message = evaluate(&job(config, dir.path()), &mut Silent)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("ms that a token takes the unpruned model on this device"),
        "{message}"
    );
}

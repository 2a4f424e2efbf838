//! Single weights that are removed in a training stay removed, and what is left recovers.

use std::{cell::Cell, collections::BTreeMap, path::Path};

use burn::{backend::Flex, module::AutodiffModule};
use evaluator::{
    EvaluationError, Events, Shelf, Silent,
    data::{DataAccess, Dataset},
    device::DeviceChoice,
    energy, evaluate,
    model::{Model, ModelPlan, Part, Parts},
    plan::Plan,
    remeasure,
    training::{Checkpoint, Record, Stretch, train},
};
use spaces::{Measurement, protocol::Evaluation, protocol::Progress};

use crate::{
    listops::LISTOPS,
    support::{A, config, job, plan_for, recall, stretch},
};

/// Ways to remove weights in a training.
const WAYS: &[&str] = &[
    "sparsity = 0.8\nsparsity_method = 'magnitude'\nsparsity_recovery = 0.5",
    "sparsity = 0.8\nsparsity_method = 'magnitude'\nsparsity_recovery = 0.5\nsparsity_schedule = 'cubic'\nsparsity_rounds = 3",
    "sparsity = 0.75\nsparsity_recovery = 0.5\nsparsity_schedule = 'cubic'\nsparsity_rounds = 4\nsparsity_batches = 2",
    "sparsity = 0.7\nsparsity_method = 'sparsegpt'\nsparsity_recovery = 0.5\nsparsity_batches = 2",
    "sparsity = 0.8\nsparsity_method = 'movement'\nsparsity_recovery = 0.5",
    "sparsity = 0.8\nsparsity_method = 'movement'\nsparsity_recovery = 0.5\nsparsity_schedule = 'cubic'\nsparsity_rounds = 3\nexperts = 2",
    "sparsity = 0.5\nsparsity_pattern = '2:4'\nsparsity_method = 'movement'\nsparsity_recovery = 0.5",
];

/// Stops the training when it has asked this many times.
struct StopAfter(Cell<u64>);

impl Events for StopAfter {
    fn progress(&mut self, _: Progress) {}

    fn report(&mut self, _: Vec<Measurement>) {}

    fn cancelled(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left == 0
    }
}

fn data() -> Dataset {
    Dataset::load(&config(recall(), "").data, &DataAccess::anywhere()).unwrap()
}

fn dense(plan: &Plan) -> ModelPlan {
    ModelPlan {
        sparsity: None,
        ..plan.served.clone()
    }
}

/// Removes and trains from the last checkpoint on, if there is one, for `steps`.
fn thin(
    model: Model<A>,
    plan: &Plan,
    data: &Dataset,
    dir: &Path,
    (steps, earlier): (u64, Record),
    stop_after: u64,
) -> Result<(Model<A>, Record), EvaluationError> {
    let stretch = Stretch {
        phase: "thin",
        budget: evaluator::plan::Budget::Steps(steps),
        thinning: plan.sparsity,
        earlier,
        ..stretch(plan, data, dir)
    };
    train(
        model,
        &stretch,
        None,
        Checkpoint::find(dir, &Default::default()),
        energy::open(None).as_mut(),
        &mut StopAfter(Cell::new(stop_after)),
    )
}

/// The weights of every matrix that is made sparse, by path.
fn weights(model: &Model<A>) -> BTreeMap<String, (Vec<f32>, [usize; 2])> {
    let mut all = BTreeMap::new();
    let mut model: Model<Flex> = model.valid();
    model.each_part("", &mut |path, part| {
        if let Part::Matrix(matrix) = part
            && path.contains(".layers.")
        {
            let weight = matrix.as_dense().unwrap();
            let dims = weight.dims();
            all.insert(path.to_owned(), (weight.into_data().to_vec().unwrap(), dims));
        }
    });
    all
}

fn bits(model: &Model<A>) -> Vec<u32> {
    let weights = weights(model).into_values();
    weights.flat_map(|(w, _)| w).map(f32::to_bits).collect()
}

fn values(result: &Evaluation) -> BTreeMap<&str, f64> {
    let values = result.measurements.iter();
    values.map(|m| (m.metric.as_str(), m.value)).collect()
}

#[test]
fn exactly_the_stated_weights_are_zero_after_the_training_and_the_rest_has_learnt() {
    let data = data();
    for fixed in WAYS {
        let plan = plan_for(data.vocab, fixed).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let start = Model::new(&dense(&plan), 1, &Default::default());
        let before = weights(&start);
        let (model, record) =
            thin(start, &plan, &data, dir.path(), (7, Record::default()), u64::MAX).unwrap();
        assert_eq!(record.steps, 7);
        let sparsity = plan.sparsity.unwrap();
        for (path, (w, [rows, columns])) in weights(&model) {
            let zeros = w.iter().filter(|w| w.to_bits() == 0).count();
            let nonzeros = sparsity.form.shape(rows, columns).nonzeros();
            assert_eq!(w.len() - zeros, nonzeros, "{fixed}: {path}");
            let stated = sparsity.form.share * w.len() as f64;
            // each row's share is rounded
            assert!(
                (zeros as f64 - stated).abs() <= 0.5 * rows as f64 + 1.0,
                "{fixed}: {path}"
            );
            let changed = w
                .iter()
                .zip(&before[&path].0)
                .filter(|(a, b)| **a != 0.0 && a != b);
            assert!(changed.count() > nonzeros / 2, "{fixed}: {path}");
            if let Some(group) = [("2:4", 4)].iter().find(|(name, _)| fixed.contains(name)) {
                let few = |few: &[f32]| few.iter().filter(|w| **w != 0.0).count() == group.1 / 2;
                assert!(w.chunks(group.1).all(few), "{fixed}: {path}");
            }
        }
    }
}

#[test]
fn a_stop_anywhere_between_removals_changes_no_bit() {
    let data = data();
    for fixed in WAYS {
        let plan = plan_for(data.vocab, fixed).unwrap();
        let (whole, part) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let model = || Model::new(&dense(&plan), 1, &Default::default());
        let run = |dir: &Path, stop| thin(model(), &plan, &data, dir, (9, Record::default()), stop);
        let (expected, record) = run(whole.path(), u64::MAX).unwrap();
        let dir = part.path().join("c");
        for steps in [2, 1, 3] {
            assert!(
                matches!(run(&dir, steps), Err(EvaluationError::Cancelled)),
                "{fixed}"
            );
        }
        let (resumed, resumed_record) = run(&dir, u64::MAX).unwrap();
        assert_eq!(bits(&resumed), bits(&expected), "{fixed}");
        assert_eq!(
            (resumed_record.steps, resumed_record.macs),
            (record.steps, record.macs),
            "{fixed}"
        );
    }
}

#[test]
fn whole_evaluations_store_what_the_training_left_and_count_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let data = data();
    let others = [
        "prune_ratio = 0.5\nrecovery = 0.2\nreversible = true\nsparsity = 0.6\nsparsity_recovery = 0.3\nsparsity_schedule = 'cubic'\nsparsity_rounds = 2",
        "experts = 4\nrouter = 'switch'\ncapacity_factor = 1.0\nsparsity = 0.5\nsparsity_method = 'movement'\nsparsity_recovery = 0.2",
        "sparsity = 0.9\nsparsity_method = 'movement'\nsparsity_recovery = 0.01",
    ];
    for (i, fixed) in WAYS.iter().chain(&others).enumerate() {
        let plan = plan_for(data.vocab, fixed).unwrap();
        let config = config(recall(), fixed);
        let result = evaluate(&job(config, &dir.path().join(i.to_string())), &mut Silent).unwrap();
        let measured = values(&result);
        for (metric, value) in plan.known(data.facts()) {
            assert_eq!(measured[metric.as_str()], value, "{metric} of {fixed}");
        }
        let trained = result.activity["sparse_training_steps"];
        assert!(trained > 0 && result.activity["sparse_products"] > 0, "{fixed}");
        let steps = measured["training_tokens"] / 64.0;
        assert_eq!(result.provenance["training_steps"], steps.to_string());
        assert!(steps > 10.0, "{fixed}: {steps}");
    }
}

#[test]
fn recovery_makes_up_for_what_removal_costs() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, more: &str| {
        let fixed = format!("tokens = 25_600\nsparsity = 0.9\n{more}");
        let result = evaluate(
            &job(config(recall(), &fixed), &dir.path().join(name)),
            &mut Silent,
        )
        .unwrap();
        values(&result)["validation_loss"]
    };
    let mut losses = vec![];
    for (name, more) in [
        ("none", "sparsity_method = 'magnitude'"),
        (
            "oneshot",
            "sparsity_method = 'magnitude'\nsparsity_recovery = 0.3",
        ),
        (
            "cubic",
            "sparsity_method = 'magnitude'\nsparsity_recovery = 0.3\nsparsity_schedule = 'cubic'\nsparsity_rounds = 6",
        ),
        (
            "movement",
            "sparsity_method = 'movement'\nsparsity_recovery = 0.3",
        ),
    ] {
        losses.push((name, run(name, more)));
    }
    println!("{losses:?}");
    for (name, loss) in &losses[1..] {
        assert!(*loss < losses[0].1 - 0.05, "{name}: {losses:?}");
    }
}

#[test]
fn a_trial_that_was_killed_while_weights_were_removed_ends_with_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let data = data();
    for (i, fixed) in [WAYS[1], WAYS[5]].into_iter().enumerate() {
        let folder = dir.path().join(i.to_string());
        let job = job(config(recall(), fixed), &folder);
        let whole = evaluate(&job, &mut Silent).unwrap();
        // what it leaves behind when it is killed in the middle
        let plan = plan_for(data.vocab, fixed).unwrap();
        let model = Model::new(&plan.model, 1, &Default::default());
        let elsewhere = dir.path().join("elsewhere");
        let (model, main) = train(
            model,
            &stretch(&plan, &data, &elsewhere),
            None,
            None,
            energy::open(None).as_mut(),
            &mut Silent,
        )
        .unwrap();
        let checkpoint = folder.join("checkpoint");
        let cut = thin(model, &plan, &data, &checkpoint, (5, main), 3);
        assert!(matches!(cut, Err(EvaluationError::Cancelled)));
        let resumed = evaluate(&job, &mut Silent).unwrap();
        assert_eq!(resumed.provenance["resumed_at_step"], "13");
        let (whole, resumed) = (values(&whole), values(&resumed));
        for metric in ["validation_loss", "accuracy", "training_flops", "model_bytes"] {
            assert_eq!(
                whole.get(metric).map(|v| v.to_bits()),
                resumed.get(metric).map(|v| v.to_bits()),
                "{metric}"
            );
        }
    }
}

#[test]
fn trials_share_the_training_before_and_report_what_they_would_have_cost_alone() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf {
        dir: dir.path().join("stages"),
        limit_bytes: 1 << 30,
    };
    let run = |name: &str, fixed: &str, stages: Option<&Shelf>| {
        let job = evaluator::Job {
            stages: stages.cloned(),
            ..job(config(recall(), fixed), &dir.path().join(name))
        };
        evaluate(&job, &mut Silent).unwrap()
    };
    let alone = run("alone", WAYS[1], None);
    run("first", "sparsity = 0.5", Some(&shelf));
    let shared = run("second", WAYS[1], Some(&shelf));
    let (alone, shared) = (values(&alone), values(&shared));
    for metric in ["validation_loss", "training_flops", "training_tokens"] {
        assert_eq!(alone[metric], shared[metric], "{metric}");
    }
    // ten steps are another's, five its own
    assert_eq!(shared["spent_training_tokens"], alone["training_tokens"] / 3.0);
}

#[test]
fn trainings_that_cannot_hold_what_is_removed_are_refused() {
    let refused = |fixed: &str| plan_for(19, fixed).unwrap_err();
    let unmoved = refused("sparsity = 0.5\nsparsity_method = 'movement'");
    assert!(unmoved.contains("use sparsity_recovery = 0.1"), "{unmoved}");
    let rule = refused("sparsity = 0.5\nsparsity_recovery = 0.1\noptimizer = 'sgd'");
    assert!(rule.contains("optimizer = 'sgd' does not"), "{rule}");
    let pattern = refused(
        "sparsity = 0.5\nsparsity_recovery = 0.1\nsparsity_pattern = '2:4'\nsparsity_schedule = 'cubic'",
    );
    assert!(
        pattern.contains("sparsity_pattern = '2:4' has one share"),
        "{pattern}"
    );
    let untrained = refused("fine_tune = 'none'\nsparsity = 0.5\nsparsity_recovery = 0.1");
    assert!(untrained.contains("use fine_tune = 'full'"), "{untrained}");
}

/// Counted work is held against the formula, that of every exit in training and serving included, wherever an evaluation succeeds.
#[test]
fn exits_are_found_on_sparse_weights() {
    let dir = tempfile::tempdir().unwrap();
    let common = "kind = 'encoder'\nlayers = 3\ntokens = 10000\nvalidation_tokens = 4000\nearly_exit = 'max_prob'\nexit_tolerance = 50\n";
    for (i, more) in [
        "sparsity = 0.5",
        "sparsity = 0.7\nsparsity_method = 'sparsegpt'\nsparsity_batches = 2\nprune_ratio = 0.5",
        "sparsity = 0.8\nsparsity_method = 'movement'\nsparsity_recovery = 0.2\nsparsity_schedule = 'cubic'\nsparsity_rounds = 3",
    ]
    .into_iter()
    .enumerate()
    {
        let config = config(LISTOPS, &format!("{common}{more}"));
        let work = dir.path().join(i.to_string());
        let result = evaluate(&job(config, &work), &mut Silent).unwrap();
        for counter in ["early_exits", "removed_weights", "sparse_products"] {
            assert!(result.activity[counter] > 0, "{more}: {counter}");
        }
        let again = remeasure(&work.join("bundle"), &DataAccess::anywhere(), DeviceChoice::Cpu).unwrap();
        let (first, again) = (values(&result), values(&again));
        for metric in ["accuracy", "inference_flops_per_token", "mean_exit_layer", "model_bytes"] {
            assert_eq!(first[metric], again[metric], "{more}: {metric}");
        }
        assert!(first["mean_exit_layer"] < 3.0, "{more}");
    }
}

//! Students of an architecture of their own, and what is left after pruning, taught in every way.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use burn::{backend::Flex, module::AutodiffModule, tensor::Tensor};
use evaluator::{
    EvaluationError, Events, Folders, Job, Shelf, Silent,
    data::{DataAccess, Dataset},
    energy, evaluate, inspect,
    model::{Model, ModelPlan},
    techniques::distillation::{DistillationPlan, Method, Teacher},
    training::{Checkpoint, Record, train},
};
use spaces::{
    Config, Measurement,
    protocol::{Evaluation, Progress},
};

use crate::support::{A, config, job, plan, stretch, text_data, tokens};

pub(crate) const MARKOV: &str = "[data]\ncorpus = \"markov\"";
const METHODS: [&str; 5] = ["logits", "reverse_kl", "hidden", "relation", "attention"];
/// Students of a teacher with full attention.
pub(crate) const STUDENTS: [&str; 3] = [
    "width = 16\nheads = 2\nlayers = 2",
    "layers = 1\nattention = 'linear'\nkv_heads = 2\nprune_ratio = 0.5\nrecovery = 0.5",
    "layers = 2\nreversible = false\nattention = 'rwkv'\nfeed_forward = 'channel_mix'\nbits = 8",
];
/// The same with a softmax in the last layer.
const LOOKING_STUDENTS: [&str; 3] = [
    "width = 16\nheads = 2\nlayers = 2",
    "layers = 1\nattention = 'tiled'\nkv_heads = 2\nhead_prune_ratio = 0.5\nrecovery = 0.5",
    "layers = 2\nattention_layer_1 = 'rwkv'\nprune_ratio = 0.5\nrecovery = 0.5\nbits = 8",
];

pub(crate) fn run(config: Config, dir: &Path, seed: u64) -> Evaluation {
    let said = format!("{:?}", config.values);
    let job = Job {
        seed,
        ..job(config, dir)
    };
    evaluate(&job, &mut Silent).unwrap_or_else(|e| panic!("{e} of {said}"))
}

pub(crate) fn value(result: &Evaluation, metric: &str) -> f64 {
    let found = result.measurements.iter().find(|m| m.metric == metric);
    found.unwrap_or_else(|| panic!("no {metric}")).value
}

/// Trains a teacher; gives its folder.
pub(crate) fn teacher(data: &str, fixed: &str, dir: &Path) -> (PathBuf, Evaluation) {
    let result = run(config(data, fixed), dir, 1);
    (dir.join("bundle"), result)
}

pub(crate) fn taught_by(data: &str, teacher: &Path, fixed: &str) -> Config {
    config(
        &format!("{data}\n[teacher]\npath = \"{}\"", teacher.display()),
        fixed,
    )
}

/// Counted work is held against the formula, the teacher's passes included, wherever an evaluation succeeds.
#[test]
fn a_student_of_its_own_architecture_learns_in_every_way_and_is_smaller() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, whole) = teacher(MARKOV, "tokens = 3200\nlayers = 3", &dir.path().join("teacher"));
    for (i, method) in METHODS.iter().enumerate() {
        let students = if *method == "attention" {
            LOOKING_STUDENTS
        } else {
            STUDENTS
        };
        for (j, shape) in students.iter().enumerate() {
            let taught = taught_by(MARKOV, &folder, &format!("{shape}\ndistill = '{method}'"));
            let folders = Folders::of(None, taught.teacher.as_ref());
            let facts = inspect(&taught.data, folders, &DataAccess::anywhere(), 16).unwrap();
            let known = facts.known(&taught).unwrap();
            let result = run(taught, &dir.path().join(format!("{i}-{j}")), 1);
            assert_eq!(
                known["training_flops"],
                value(&result, "training_flops"),
                "{method} {shape}"
            );
            for metric in ["model_bytes", "parameters", "inference_flops_per_token"] {
                assert!(
                    value(&result, metric) < value(&whole, metric),
                    "{metric} of {shape}"
                );
            }
            let alone = facts.known(&config(MARKOV, shape)).unwrap();
            assert!(known["training_flops"] > alone["training_flops"]);
            assert_eq!(known["parameters"], alone["parameters"]);
        }
    }
}

#[test]
fn what_is_left_after_any_pruning_learns_in_every_way() {
    for fixed in [
        "layers = 3\nlayer_prune_ratio = 0.34\ndistill = 'hidden'",
        "width_prune_ratio = 0.25\ndistill = 'hidden'",
        "width_prune_ratio = 0.25\nlayer_prune_ratio = 0.5\ndistill = 'relation'",
        "head_prune_ratio = 0.5\ndistill = 'relation'\nattention = 'aft'\naft_variant = 'simple'",
        "prune_ratio = 0.5\nexperts = 2\ndistill = 'reverse_kl'\noptimizer = 'sgd'",
        "kind = 'encoder_decoder'\ncontext = 32\nwidth_prune_ratio = 0.25\ndistill = 'hidden'",
        "kind = 'encoder_decoder'\ncontext = 32\nhead_prune_ratio = 0.5\ndistill = 'relation'",
        "layers = 3\nlayer_prune_ratio = 0.34\nwidth_prune_ratio = 0.25\ndistill = 'attention'",
        "head_prune_ratio = 0.5\nkv_heads = 2\ndistill = 'attention'\nattention = 'sliding_window'\nwindow = 5",
        "kind = 'encoder_decoder'\ncontext = 32\nhead_prune_ratio = 0.5\ndistill = 'attention'",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let result = run(config(MARKOV, &format!("{fixed}\nrecovery = 0.5")), dir.path(), 1);
        assert!(result.activity["distilled_rows"] > 0, "{fixed}");
    }
}

#[test]
fn a_student_that_a_teacher_teaches_does_better_than_one_that_is_not_taught() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, _) = teacher(
        MARKOV,
        "tokens = 120_000\nbatch = 16\nlearning_rate = 5e-3",
        &dir.path().join("teacher"),
    );
    let student = "width = 16\nheads = 2\nlayers = 1\ntokens = 16_000\nbatch = 8\nlearning_rate = 5e-3";
    let differences: Vec<f64> = (0..6)
        .map(|seed| {
            let at = |name: &str| dir.path().join(format!("{name}-{seed}"));
            let alone = run(config(MARKOV, student), &at("alone"), seed);
            let fixed =
                format!("{student}\ndistill = 'logits'\ndistill_weight = 0.9\ndistill_temperature = 1.0");
            let taught = run(taught_by(MARKOV, &folder, &fixed), &at("taught"), seed);
            value(&alone, "validation_loss") - value(&taught, "validation_loss")
        })
        .collect();
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
    // one-sided, 95 %, five degrees of freedom
    let least = mean - 2.015 * (variance / n).sqrt();
    println!("better by {mean:.4} nats, at least {least:.4}: {differences:?}");
    assert!(least > 0.0, "{differences:?}");
}

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

#[test]
fn a_taught_training_that_is_stopped_goes_on_to_the_same_bits() {
    let spec = &config(MARKOV, "").data;
    let data = Dataset::load(spec, &DataAccess::anywhere()).unwrap();
    let of = |fixed: &str| {
        let plan = plan(fixed);
        let model = ModelPlan {
            vocabulary: data.vocab,
            ..plan.model.clone()
        };
        (plan, model)
    };
    let (_, whole) = of("layers = 3");
    let (lesson, student) = of("width = 16\nheads = 2");
    for (method, own_text) in [
        (Method::Logits, 0.0),
        (Method::Logits, 1.0),
        (Method::ReverseKl, 0.0),
        (Method::ReverseKl, 0.4),
        (Method::Hidden, 0.0),
        (Method::Relation, 0.0),
        (Method::Attention, 0.0),
    ] {
        let go = |dir: &Path, stop_after: u64| -> Result<(Model<A>, Record), EvaluationError> {
            let plan = DistillationPlan {
                method,
                temperature: 2.0,
                weight: 0.7,
                own_text,
            };
            let whole = Model::<Flex>::new(&whole, 5, &Default::default());
            let teacher = Teacher::new(whole, plan, &student, None);
            train(
                Model::new(&student, 1, &Default::default()),
                &stretch(&lesson, &data, dir),
                Some(&teacher),
                Checkpoint::find(dir, &Default::default()),
                energy::open(None).as_mut(),
                &mut StopAfter(Cell::new(stop_after)),
            )
        };
        let bits = |model: &Model<A>| -> Vec<u32> {
            let input = tokens::<Flex>(2, 16, 1).remainder_scalar(data.vocab as i32);
            let logits: Tensor<Flex, 3> = model.valid().forward(input).logits;
            logits.into_data().iter::<f32>().map(f32::to_bits).collect()
        };
        let dir = tempfile::tempdir().unwrap();
        let (model, record) = go(&dir.path().join("whole"), u64::MAX).unwrap();
        let part = dir.path().join("part");
        for _ in 0..2 {
            assert!(matches!(go(&part, 4), Err(EvaluationError::Cancelled)));
        }
        let (again, resumed) = go(&part, u64::MAX).unwrap();
        assert_eq!((resumed.steps, resumed.macs), (record.steps, record.macs));
        assert_eq!(bits(&again), bits(&model), "{method:?} {own_text}");
    }
}

#[test]
fn a_teacher_and_what_is_learnt_from_it_are_in_the_name_of_what_is_shared() {
    let dir = tempfile::tempdir().unwrap();
    let (one, _) = teacher(MARKOV, "layers = 1", &dir.path().join("one"));
    let (other, _) = teacher(
        MARKOV,
        "layers = 1\nlearning_rate = 1e-3",
        &dir.path().join("other"),
    );
    let shelf = Shelf {
        dir: dir.path().join("stages"),
        limit_bytes: 1 << 30,
    };
    let mut n = 0;
    let mut found = |teacher: &Path, more: &str| {
        n += 1;
        let job = Job {
            stages: Some(shelf.clone()),
            ..job(
                taught_by(
                    MARKOV,
                    teacher,
                    &format!("layers = 1\ndistill = 'logits'\n{more}"),
                ),
                &dir.path().join(n.to_string()),
            )
        };
        let result = evaluate(&job, &mut Silent).unwrap();
        result.provenance.contains_key("trained_by")
    };
    assert!(!found(&one, ""));
    assert!(found(&one, "bits = 8"));
    assert!(!found(&one, "distill_weight = 0.25"));
    assert!(!found(&other, ""));
}

#[test]
fn what_cannot_be_taught_is_told_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, _) = teacher(MARKOV, "layers = 1", &dir.path().join("teacher"));
    let (reader, _) = teacher(
        &text_data(dir.path(), 4000),
        "layers = 1",
        &dir.path().join("reader"),
    );
    let packed = teacher(MARKOV, "layers = 1\nbits = 8", &dir.path().join("packed")).0;
    let refused = |config: Config| {
        let job = job(config, &dir.path().join("refused"));
        match evaluate(&job, &mut Silent) {
            Err(EvaluationError::Invalid(message)) => message,
            other => panic!("{other:?}"),
        }
    };
    for (more, remedy) in [
        ("distill = 'logits'", "[teacher]"),
        (
            "distill = 'hidden'\nprune_ratio = 0.5\nrecovery = 0.0",
            "recovery above 0",
        ),
        (
            "kind = 'encoder_decoder'\ncontext = 32\nprune_ratio = 0.5\ndistill = 'logits'\ndistill_own_text = 0.5",
            "kind = 'decoder'",
        ),
        (
            "distill = 'relation'\nprune_ratio = 0.5\noptimizer = 'lomo'",
            "distill = 'logits'",
        ),
        (
            "distill = 'hidden'\nprune_ratio = 0.5\nreversible = true",
            "reversible = false",
        ),
        (
            "distill = 'attention'\nprune_ratio = 0.5\nattention = 'linear'",
            "attention = 'full'",
        ),
        (
            "distill = 'attention'\nprune_ratio = 0.5\noptimizer = 'lomo'",
            "distill = 'logits'",
        ),
    ] {
        let message = refused(config(MARKOV, more));
        assert!(message.contains(remedy), "{message}");
    }
    for (teacher, more, remedy) in [
        (&folder, "context = 32\ndistill = 'logits'", "context = 16"),
        (
            &folder,
            "context = 16\nkind = 'encoder_decoder'\ndistill = 'logits'",
            "kind = 'decoder'",
        ),
        (
            &folder,
            "distill = 'attention'\nattention = 'sliding_window'\nwindow = 4",
            "the same attention and window",
        ),
        (&reader, "distill = 'logits'", "tokenizer"),
        (&packed, "distill = 'logits'", "32-bit"),
    ] {
        let message = refused(taught_by(MARKOV, teacher, more));
        assert!(message.contains(remedy), "{message}");
    }
    let told = format!("{}\ntokenizer = \"char\"", text_data(dir.path(), 4000));
    let message = refused(taught_by(&told, &reader, "distill = 'logits'"));
    assert!(message.contains("the teacher brings its tokenizer"), "{message}");
}

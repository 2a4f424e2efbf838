//! Fine-tuning that trains the head of a classifier first.

use std::path::Path;

use burn::tensor::backend::Backend;
use evaluator::{
    EvaluationError, Silent,
    data::{DataAccess, Dataset},
    evaluate, inspect,
    model::{Model, TensorMut, each_tensor},
    plan::Plan,
    training::Record,
};
use spaces::Config;

use crate::{
    evaluation::values,
    listops::LISTOPS,
    resume::go_on,
    support::{A, config, job, stretch},
};

/// A configuration that starts from this base, with ten steps of four examples of 20 tokens.
fn adapted(base: &Path, tuning: &str) -> Config {
    let text = format!(
        "{LISTOPS}\n[base]\npath = \"{}\"\n[fixed]\ncontext = 20\nbatch = 4\ntokens = 800\nlearning_rate = 3e-3\n\
         validation_tokens = 4000\n{tuning}\n",
        base.display()
    );
    spaces::study::config_from_toml(&text, &evaluator::catalog()).unwrap_or_else(|e| panic!("{e:?}\n{text}"))
}

/// The plan of such a base.
fn base_plan(fixed: &str, data: &Dataset) -> Plan {
    let config = config(LISTOPS, &format!("context = 20\n{fixed}"));
    Plan::read(&config, data.facts(), None).unwrap()
}

fn tensors<B: Backend>(model: &mut Model<B>) -> Vec<(String, Vec<u32>)> {
    let mut all = vec![];
    each_tensor(model, &mut |name, tensor| {
        let data = match tensor {
            TensorMut::Matrix(param) => param.val().into_data(),
            TensorMut::Vector(param) => param.val().into_data(),
        };
        all.push((name, data.iter::<f32>().map(f32::to_bits).collect()));
    });
    all
}

/// What a training gives.
type Outcome = Result<(Model<A>, Record), EvaluationError>;

/// Trains a base of random weights, and gives it as it was and as it is.
fn trained(dir: &Path, tuning: &str, stop_after: u64) -> (Model<A>, Outcome) {
    let data = Dataset::load(&config(LISTOPS, "").data, &DataAccess::anywhere()).unwrap();
    let base = base_plan("kind = 'encoder'\npooling = 'cls'", &data);
    let plan = Plan::read(
        &adapted(Path::new("base"), tuning),
        data.facts(),
        Some(&base.model),
    )
    .unwrap();
    let model = Model::<A>::new(&base.model, 1, &Default::default());
    let start = model.clone();
    (start, go_on(model, &stretch(&plan, &data, dir), stop_after))
}

#[test]
fn the_head_is_trained_alone_and_then_all_weights_are() {
    let dir = tempfile::tempdir().unwrap();
    let tuning = "fine_tune = 'full'\nlp_first = 0.4";
    // the checkpoint of the fourth of ten steps, and the end
    let first = dir.path().join("first");
    let (mut start, stopped) = trained(&first, tuning, 4);
    assert!(matches!(stopped, Err(EvaluationError::Cancelled)));
    let bytes = std::fs::read(first.join("state.safetensors")).unwrap();
    let state = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, before) in tensors(&mut start) {
        let now = state.tensor(&format!("w.{name}")).unwrap();
        let words = now.data().as_chunks::<4>().0.iter();
        let same = words.map(|b| u32::from_le_bytes(*b)).eq(before.iter().copied());
        assert_eq!(same, name != "score.weight", "{name}");
        let remembered = state.tensor(&format!("m.{name}")).is_ok();
        assert_eq!(remembered, name == "score.weight", "{name}");
    }
    let (mut start, end) = trained(&dir.path().join("all"), tuning, u64::MAX);
    let (mut end, record) = end.unwrap();
    let both = tensors(&mut start).into_iter().zip(tensors(&mut end));
    for ((name, before), (_, after)) in both {
        assert_ne!(before, after, "{name}");
    }
    // stopped in each part, it goes on to the same bits
    let mut parts = None;
    for stop in [2, 4, u64::MAX] {
        parts = trained(&dir.path().join("parts"), tuning, stop).1.ok();
    }
    let (mut parts, resumed) = parts.unwrap();
    assert_eq!((resumed.steps, resumed.macs), (record.steps, record.macs));
    assert_eq!(tensors(&mut parts), tensors(&mut end));
}

/// Counted work is held against the formula wherever an evaluation succeeds.
#[test]
fn the_work_of_both_parts_is_known_and_less_than_that_of_all_steps() {
    let dir = tempfile::tempdir().unwrap();
    for kind in [
        "kind = 'encoder'",
        "kind = 'encoder'\nearly_exit = 'entropy'\nlayers = 3",
        "kind = 'encoder'\nexperts = 4\nrouter = 'gshard'",
    ] {
        let base = dir.path().join(kind.len().to_string());
        let fixed = format!("context = 20\nvalidation_tokens = 4000\n{kind}");
        evaluate(&job(config(LISTOPS, &fixed), &base), &mut Silent).unwrap();
        let bundle = base.join("bundle");
        let run = |name: &str, more: &str| {
            let exits = kind
                .lines()
                .find(|line| line.contains("early_exit"))
                .unwrap_or("");
            let config = adapted(&bundle, &format!("fine_tune = 'full'\n{more}\n{exits}"));
            let facts = inspect(&config.data, Some(bundle.as_path()), &DataAccess::anywhere(), 20).unwrap();
            let known = facts.known(&config).unwrap();
            let result = evaluate(&job(config, &base.join(name)), &mut Silent).unwrap();
            let flops = values(&result)["training_flops"];
            if let Some(formula) = known.get("training_flops") {
                assert_eq!(flops, *formula, "{kind} {more}");
            }
            flops
        };
        let all = run("all", "");
        let first = run("first", "lp_first = 0.5\noptimizer = 'sgd'");
        // both look for how sure an exit must be
        let most = if kind.contains("early_exit") { 0.9 } else { 0.75 };
        assert!(first < most * all, "{kind}: {first} {all}");
    }
}

#[test]
fn what_has_no_head_or_another_order_is_refused_in_one_sentence() {
    let data = Dataset::load(&config(LISTOPS, "").data, &DataAccess::anywhere()).unwrap();
    for (kind, more, part) in [
        ("decoder", "", "the head of kind 'decoder' is its embedding"),
        (
            "encoder",
            "\noptimizer = 'lomo'",
            "use lp_first = 0, or optimizer",
        ),
        (
            "encoder",
            "\noptimizer = 'badam'",
            "use lp_first = 0, or optimizer",
        ),
    ] {
        let base = base_plan(&format!("kind = '{kind}'"), &data);
        let tuning = format!("fine_tune = 'full'\nlp_first = 0.3{more}");
        let config = adapted(Path::new("base"), &tuning);
        let error = Plan::read(&config, data.facts(), Some(&base.model)).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

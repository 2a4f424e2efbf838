//! Training with weights as they will be packed.

use std::{fs, path::Path, time::Duration};

use burn::{backend::Flex, module::AutodiffModule, tensor::Tolerance};
use evaluator::{
    EvaluationError, Events, Silent,
    data::{DataAccess, Dataset},
    energy, evaluate, inspect,
    model::Model,
    plan::{Budget, Plan},
    techniques::quantization::{qat, quantize_unseen},
    training::{Record, Stretch, train},
};
use spaces::{
    Measurement,
    protocol::{Evaluation, Progress},
};

use crate::{
    evaluation::values,
    resume::go_on,
    support::{A, config, job, plan_for, recall, stretch, text_data, tokens},
};

fn markov() -> Dataset {
    Dataset::load(&config(recall(), "").data, &DataAccess::anywhere()).unwrap()
}

/// The stretch with rounded weights that follows a main training of the plan.
fn rounded<'a>(plan: &'a Plan, data: &'a Dataset, dir: &'a Path, earlier: Record) -> Stretch<'a> {
    let Budget::Steps(steps) = plan.training.budget else {
        panic!("the budget is in tokens")
    };
    Stretch {
        phase: "train rounded",
        budget: Budget::Steps(plan.rounded_steps(steps)),
        rounding: plan.quantization,
        earlier,
        ..stretch(plan, data, dir)
    }
}

fn bits_of(model: &Model<Flex>) -> Vec<u32> {
    let vocabulary = model.embedding.dims()[0] as i32;
    let logits = model
        .forward(tokens(2, 16, 1).remainder_scalar(vocabulary))
        .logits;
    logits.into_data().iter::<f32>().map(f32::to_bits).collect()
}

#[test]
fn few_bits_lose_less_where_training_has_met_them() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 20_000);
    let loss = |fixed: &str| {
        let config = config(&data, &format!("width = 64\n{fixed}"));
        let work = dir.path().join(fixed.replace(['\n', ' '], ""));
        values(&evaluate(&job(config, &work), &mut Silent).unwrap())["validation_loss"]
    };
    // as many steps in all
    let exact = loss("tokens = 38400");
    let plain = loss("tokens = 38400\nbits = 2");
    let trained = loss("tokens = 25600\nbits = 2\nqat = 0.5");
    println!("{exact} in 32 bits; 2 bits: {plain} rounded after training, {trained} trained rounded");
    assert!(trained < plain - 0.01, "{exact} {plain} {trained}");
}

/// Counted work is held against the formula wherever an evaluation succeeds.
#[test]
fn every_kind_of_model_is_trained_rounded_and_its_work_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 8000);
    for (i, more) in [
        "bits = 2\nbits_layer_1 = 8\nbits_layer_2 = 32",
        "bits = 8\nactivation_bits = 8\nbits_layer_2 = 4\noptimizer = 'sgd'",
        "bits = 3\nprune_ratio = 0.5\nrecovery = 0.2\nlayer_prune_ratio = 0.5",
        "bits = 3\nwidth_prune_ratio = 0.25\nrecovery = 0",
        "bits = 4\nreversible = true\nfeed_forward = 'channel_mix'",
        "bits = 4\nexperts = 4\nrouter = 'switch'\ncapacity_factor = 1.0\ncache_bits = 8",
        "bits = 4\nkind = 'encoder_decoder'\ncorruption_rate = 0.3",
    ]
    .into_iter()
    .enumerate()
    {
        let run = |qat: &str| {
            let config = config(&data, &format!("{more}{qat}"));
            let facts = inspect(&config.data, None, &DataAccess::anywhere(), 16).unwrap();
            let known = facts.known(&config).unwrap();
            let work = dir.path().join(format!("{i}{}", qat.trim()));
            (known, evaluate(&job(config, &work), &mut Silent).unwrap())
        };
        let (_, plain) = run("");
        let before = plain.activity.get(ACTIVITY).copied().unwrap_or(0);
        let (known, trained) = run("\nqat = 0.3");
        assert!(trained.activity[ACTIVITY] > before, "{more}");
        let measured = values(&trained);
        for (metric, value) in &known {
            assert_eq!(measured[metric.as_str()], *value, "{more}: {metric}");
        }
        // three steps more, of what is served
        let steps = |result: &Evaluation| result.provenance["training_steps"].parse::<u64>().unwrap();
        assert_eq!(steps(&trained), steps(&plain) + 3, "{more}");
        assert!(measured["training_flops"] > values(&plain)["training_flops"]);
        assert_eq!(measured["model_bytes"], values(&plain)["model_bytes"]);
    }
}

const ACTIVITY: &str = "weights_rounded_in_training";

#[test]
fn what_is_served_is_what_the_last_rounded_pass_gave() {
    let data = markov();
    for more in [
        "bits = 2",
        "bits = 3\nquant_group = 32\nbits_layer_1 = 8",
        "bits = 4\nexperts = 2",
    ] {
        let plan = plan_for(data.vocab, &format!("{more}\nqat = 1.0")).unwrap();
        let packing = plan.quantization.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let model = Model::<A>::new(&plan.model, 1, &Default::default());
        let folder = dir.path().join("c");
        let stretch = rounded(&plan, &data, &folder, Record::default());
        let (model, _) = go_on(model, &stretch, u64::MAX).unwrap();
        let mut rounded = model.valid();
        let mut packed = rounded.clone();
        qat::round(&mut rounded, packing);
        quantize_unseen(&mut packed, packing);
        assert_ne!(bits_of(&rounded), bits_of(&model.valid()));
        let logits = |model: &Model<Flex>| {
            let tokens = tokens(2, 16, 1).remainder_scalar(data.vocab as i32);
            model.forward(tokens).logits.into_data()
        };
        logits(&packed).assert_approx_eq::<f32>(&logits(&rounded), Tolerance::rel_abs(1e-4, 1e-4));
    }
}

#[test]
fn a_stretch_that_is_stopped_goes_on_to_the_same_bits() {
    let data = markov();
    let plan = plan_for(data.vocab, "bits = 3\nexperts = 2\nqat = 1.0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let run = |folder: &str, stop: u64| {
        let folder = dir.path().join(folder);
        let model = Model::<A>::new(&plan.model, 1, &Default::default());
        go_on(model, &rounded(&plan, &data, &folder, Record::default()), stop)
    };
    let (whole, record) = run("a", u64::MAX).unwrap();
    assert_eq!(record.steps, 10);
    assert!(matches!(run("b", 4), Err(EvaluationError::Cancelled)));
    let (parts, record) = run("b", u64::MAX).unwrap();
    assert_eq!(record.steps, 10);
    assert_eq!(bits_of(&parts.valid()), bits_of(&whole.valid()));
}

/// Wants to be stopped at its first question.
struct Stopped;

impl Events for Stopped {
    fn progress(&mut self, _: Progress) {}

    fn report(&mut self, _: Vec<Measurement>) {}

    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn an_evaluation_goes_on_from_a_checkpoint_of_rounded_training() {
    let dir = tempfile::tempdir().unwrap();
    let fixed = "bits = 2\nqat = 0.5";
    let whole = evaluate(&job(config(recall(), fixed), &dir.path().join("a")), &mut Silent).unwrap();

    // an evaluation that has only begun, and what it would have left half-way through the rounded training
    let work = dir.path().join("b");
    let job = job(config(recall(), fixed), &work);
    assert!(evaluate(&job, &mut Stopped).is_err());
    let data = markov();
    let plan = plan_for(data.vocab, fixed).unwrap();
    let (apart, checkpoints) = (dir.path().join("apart"), work.join("checkpoint"));
    let model = Model::<A>::new(&plan.model, 1, &Default::default());
    let main = Stretch {
        checkpoint_every: Duration::MAX,
        ..stretch(&plan, &data, &apart)
    };
    let (model, record) = train(model, &main, None, None, energy::open(None).as_mut(), &mut Silent).unwrap();
    let stopped = go_on(model, &rounded(&plan, &data, &checkpoints, record), 3);
    assert!(matches!(stopped, Err(EvaluationError::Cancelled)));
    assert!(fs::exists(checkpoints.join("state.json")).unwrap());

    let result = evaluate(&job, &mut Silent).unwrap();
    assert_eq!(result.provenance["resumed_at_step"], "13");
    assert_eq!(result.provenance["training_steps"], "15");
    for metric in ["validation_loss", "training_flops", "training_tokens"] {
        assert_eq!(values(&result)[metric], values(&whole)[metric], "{metric}");
    }
}

#[test]
fn what_cannot_be_trained_rounded_is_refused_before_training() {
    let refused = |fixed: &str| plan_for(19, fixed).unwrap_err();
    for optimizer in ["lomo", "mezo"] {
        let error = refused(&format!(
            "fine_tune = 'full'\noptimizer = '{optimizer}'\nbits = 4\nqat = 0.5"
        ));
        assert!(
            error.contains(&format!("optimizer = '{optimizer}'")) && error.contains("use qat = 0"),
            "{error}"
        );
    }
    let error = refused("fine_tune = 'none'\nbits = 4\nqat = 0.5");
    assert!(error.contains("fine_tune = 'none' has none"), "{error}");
    for other in ["bits = 4\nquant_method = 'gptq'", "bits = 32"] {
        let text = format!("{}\n[fixed]\n{other}\nqat = 0.5\n", recall());
        let error = spaces::study::config_from_toml(&text, &evaluator::catalog()).unwrap_err();
        let error = format!("{error:?}");
        assert!(error.contains("'qat' has a meaning only when"), "{error}");
    }
}

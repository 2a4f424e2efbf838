//! Known answers of encoder-decoders and span corruption, and what has no meaning for them.

use burn::tensor::{Tensor, TensorData};
use evaluator::{
    data::Symbols,
    model::{Model, Trainable},
    plan::Plan,
};

use crate::{
    encoder_decoder::{batch, corruption, gradients, inputs, loss, read},
    kinds::values,
    kinds_oracles::low_rank_is_counted_and_merges,
    support::{A, VOCABULARY, config, random_weights, recall},
};

/// Golden numbers: width 64, 2 + 2 layers, 4 heads, context 64 at 15 % in spans of 3: 10 tokens of noise in 3 spans, 57 read
/// and 14 written; 256 tokens of text, 4 sentinels and the one that writing begins with.
#[test]
fn the_known_costs_of_a_small_model_come_out() {
    let config = config(
        recall(),
        "kind = 'encoder_decoder'\nwidth = 64\nheads = 4\ncontext = 64",
    );
    let plan = Plan::read(&config, 256, None).unwrap();
    let model = &plan.model;
    let shape = corruption(&plan);
    assert_eq!(
        (shape.noise(64), shape.read(64), shape.written(64)),
        ((10, 3), 57, 14)
    );
    assert_eq!(model.vocabulary, 261);
    assert_eq!(model.capacity(), 14);
    let (attention, network) = (4 * 64 * 64, 3 * 64 * 192);
    let block = attention + network;
    // embedding; two blocks and two with a cross attention; norms: 2 and 3 for each, and one at each end
    let parameters = 261 * 64 + 2 * block + 2 * (block + attention) + 64 * (2 * 2 + 2 * 3 + 2);
    assert_eq!(model.parameters(), parameters as u64);

    let reading = 57 * (2 * block + 2 * 2 * 57 * 64) + 57 * 2 * (attention / 2);
    let pairs = 14 * 15 / 2;
    let cross = 2 * (attention / 2 * 14 + 2 * 14 * 57 * 64);
    let writing = 14 * 2 * block + 2 * 2 * pairs * 64 + cross + 14 * 261 * 64;
    assert_eq!(model.serving_macs(), (reading + writing) as u64);
    let step = model.training_pass(1, 64, Trainable::All);
    assert_eq!(
        step.forward,
        (reading + writing) as u64,
        "the same products, all at once"
    );
    assert_eq!(step.total(), 3 * step.forward);
    // keys and values of 2 layers, 4 heads of 16: of 14 tokens written and 57 read, 4 bytes
    assert_eq!(model.state_bytes(), 2 * 2 * 64 * (14 + 57) * 4);
    assert!(plan.training_flops_are_exact(), "no row of a training is padded");
}

#[test]
fn an_untrained_model_knows_nothing() {
    let plan = read("").unwrap();
    let model = Model::<A>::new(&plan.model, 3, &Default::default());
    let found = f64::from(loss(&model, &batch(&plan, 16, &[16; 64])).into_scalar());
    let expected = (plan.model.vocabulary as f64).ln();
    assert!((found / expected - 1.0).abs() < 0.03, "{found} {expected}");
}

#[test]
fn nothing_of_the_gradient_comes_from_what_is_not_scored() {
    for block in [
        "attention = 'full'",
        "attention = 'tiled'",
        "attention = 'sliding_window'\nwindow = 5",
    ] {
        let plan = read(block).unwrap();
        let mut model = Model::<A>::new(&plan.model, 3, &Default::default());
        random_weights(&mut model);
        let padded = batch(&plan, 16, &[16, 7]);
        let (read, written) = (padded.context, padded.written.len() / 2);
        let scored = corruption(&plan).written(7);
        assert_eq!(padded.scored(), written + scored);
        let mut other = padded.clone();
        other.inputs[read + padded.lengths[1]..].fill(11);
        other.written[written + scored..].fill(13);
        assert_eq!(
            loss(&model, &padded).into_data(),
            loss(&model, &other).into_data(),
            "{block}"
        );
        assert_eq!(
            gradients(&mut model, &padded),
            gradients(&mut model, &other),
            "{block}"
        );
        // an unscored position moves nothing, a scored one does
        let logits = model.forward(inputs(&padded)).logits.detach().require_grad();
        let n = 2 * written;
        let targets = TensorData::new(padded.targets.clone(), [n]);
        let targets = Tensor::from_data(targets, &Default::default());
        let flat = logits.clone().reshape([n, plan.model.vocabulary]);
        let gradients = evaluator::ops::cross_entropy(flat, targets).backward();
        let rows = values(logits.grad(&gradients).unwrap().into_data());
        for (row, target) in rows.chunks(plan.model.vocabulary).zip(&padded.targets) {
            assert_eq!(row.iter().all(|g| *g == 0.0), *target < 0, "{block}");
        }
    }
}

#[test]
fn low_rank_additions_cost_what_the_formula_says() {
    for (block, feed_forward) in [
        ("attention = 'full'", false),
        ("attention = 'tiled'", true),
        ("attention = 'linear'\nkv_heads = 2", true),
        ("attention = 'sliding_window'\nwindow = 5", true),
    ] {
        let plan = read(block).unwrap();
        let batch = batch(&plan, 16, &[16, 16]);
        low_rank_is_counted_and_merges(
            block,
            &plan,
            feed_forward,
            |model| model.forward(inputs(&batch)).logits,
            |model| model.forward(inputs(&batch)).logits,
        );
    }
}

#[test]
fn what_has_no_meaning_is_refused_in_one_sentence() {
    let message = read("attention = 'rwkv'").unwrap_err();
    assert!(
        message.starts_with(
            "attention 'rwkv' looks back only in this form, and kind 'encoder_decoder' looks both ways"
        ),
        "{message}"
    );
    let message = read("reversible = true").unwrap_err();
    assert!(
        message.starts_with("reversible = true goes back") && message.contains("use reversible = false"),
        "{message}"
    );
    let message = read("context = 1").unwrap_err();
    assert!(
        message.starts_with("context 1 leaves kind 'encoder_decoder' no token"),
        "{message}"
    );
    let examples = Symbols {
        answer_only: true,
        ..Symbols::from(VOCABULARY)
    };
    let of_examples = config(recall(), "kind = 'encoder_decoder'");
    assert_eq!(
        Plan::read(&of_examples, examples, None).unwrap_err(),
        "kind 'encoder_decoder' fills gaps in a text, and this data is examples with answers; use a corpus of text, or another kind"
    );
    let plan = read("").unwrap();
    let of_base = |context: usize, vocabulary: usize| {
        let config = config(recall(), &format!("context = {context}"));
        Plan::read(&config, vocabulary, Some(&plan.model))
    };
    assert_eq!(
        of_base(10, VOCABULARY).unwrap().model.vocabulary,
        plan.model.vocabulary
    );
    let message = of_base(64, VOCABULARY).unwrap_err();
    assert!(
        message.starts_with("context 64 has gaps for 14 sentinels and the model has 4"),
        "{message}"
    );
    let message = of_base(16, VOCABULARY + 1).unwrap_err();
    assert!(
        message.starts_with(&format!(
            "the data has {} tokens and the base {VOCABULARY}",
            VOCABULARY + 1
        )),
        "{message}"
    );
}

#[test]
fn a_study_does_not_compare_losses_of_different_tasks() {
    let opened = |space: &str, objective: &str| -> Vec<(String, String)> {
        let text = format!(
            "name = 'gaps'\n[data]\ncorpus = 'markov'\n[space]\n{space}\n[[objective]]\nmetric = '{objective}'\n\
             [[objective]]\nmetric = 'model_bytes'\n"
        );
        let mut catalog = evaluator::catalog();
        catalog.methods.push(spaces::MethodInfo {
            name: "auto".into(),
            doc: String::new(),
            paper: String::new(),
            needs: None,
        });
        let study = spaces::study::study_from_toml(&text, &catalog).unwrap();
        evaluator::plan::incomparable(&study)
    };
    let found = opened(
        "kind = ['decoder', 'encoder_decoder']\nmean_span = [2.0, 3.0]",
        "validation_loss",
    );
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["kind", "mean_span"]);
    assert_eq!(
        found[1].1,
        "'mean_span' changes what validation_loss is taken on, so that trials would not compare; choose one value in [fixed], and another study for each other"
    );
    assert!(opened("kind = ['decoder', 'encoder']", "validation_loss").is_empty());
    assert!(opened("kind = ['encoder_decoder']\nlayers = [1, 2]", "accuracy").is_empty());
    assert!(opened("kind = ['decoder', 'encoder_decoder']", "latency_ms_per_token").is_empty());
}

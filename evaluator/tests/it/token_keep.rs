//! Input pruning: later layers really read fewer tokens, and nothing else changes.

use burn::{
    backend::Flex,
    tensor::{Int, Tensor, TensorData},
};
use evaluator::{
    Silent,
    counter::{count_macs, count_skipped, without_backward},
    data::{Batch, DataAccess},
    device::DeviceChoice,
    evaluate, inspect,
    model::{Inputs, Model, ModelPlan, Trainable},
    remeasure,
    techniques::dynamic::token_keep::LayerKeeps,
    training::{Optimizer, gradients_of},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    listops::{LISTOPS, batch, ids, length, plan, random, read, texts},
    support::{A, config, job},
};

const MODELS: &[&str] = &[
    "token_keep = 0.7\nlayers = 4",
    "token_keep = 0.5\nlayers = 3\npooling = 'cls'\nkv_heads = 2",
    "token_keep = 0.8\nlayers = 3\nattention = 'linear'\nexperts = 2\ntop_k = 1",
    "token_keep = 0.6\nlayers = 3\nattention = 'tiled'\nattention_block_q = 4\nattention_block_k = 3",
    "token_keep = 0.6\nlayers = 3\nattention = 'sliding_window'\nwindow = 5\nbits = 8",
    "token_keep = 0.6\ntoken_score = 'attention'\nlayers = 3\nkv_heads = 2\npooling = 'cls'",
    "token_keep = 0.7\ntoken_score = 'attention'\nlayers = 3\nattention = 'tiled'\nattention_block_q = 4\nattention_block_k = 3",
    "token_keep = 0.9\ntoken_keep_layer_1 = 1\ntoken_keep_layer_2 = 0.5\nlayers = 4",
    "token_keep = 0.5\ntoken_keep_layer_2 = 1\ntoken_score = 'attention'\nlayers = 4",
    "token_keep = 0.5\ntoken_score = 'attention'\nlayers = 2\nattention = 'sliding_window'\nwindow = 5",
];

fn model(fixed: &str) -> (Model<Flex>, ModelPlan) {
    let plan = plan(fixed).served;
    (random(&plan), plan)
}

fn logits(model: &Model<Flex>, inputs: Inputs<Flex>) -> Vec<f32> {
    model.forward(inputs).logits.into_data().iter().collect()
}

#[test]
fn a_share_that_leaves_nothing_out_is_the_full_model_to_the_bit() {
    for fixed in MODELS {
        let (mut model, _) = model(fixed);
        let keep = model.tokens.as_mut().unwrap();
        (keep.share, keep.layers) = (0.9999, LayerKeeps::default());
        let kept = logits(&model, texts(5));
        model.tokens = None;
        assert_eq!(kept, logits(&model, texts(5)), "{fixed}");
    }
}

#[test]
fn work_is_that_of_shorter_rows_and_what_is_executed_is_the_formula() {
    for fixed in MODELS {
        let (model, plan) = model(fixed);
        let whole = ModelPlan {
            tokens: None,
            ..plan.clone()
        };
        for inputs in [
            texts(6),
            Inputs {
                lengths: None,
                ..texts(6)
            },
        ] {
            let work = || without_backward(|| count_macs(|| drop(model.forward(inputs))).1);
            let (macs, skipped) = count_skipped(work);
            assert_eq!(macs + skipped.total(), plan.forward_macs(6, 16), "{fixed}");
        }
        let (layers, keep) = (plan.layers.len(), plan.tokens.unwrap());
        let read_by = |layer| (0..layer).map(|before| keep.share_of(before)).product::<f64>();
        let read = (0..layers).map(read_by).sum::<f64>() / layers as f64;
        // a row is rounded up to whole tokens, and attention among fewer tokens costs less than their share
        let most = read + 1.0 / 16.0;
        let share = plan.forward_macs(6, 16) as f64 / whole.forward_macs(6, 16) as f64;
        assert!(share < most, "{fixed}: {share} {most}");
        let served = plan.inference_flops_per_token() / whole.inference_flops_per_token();
        assert!(served < most, "{fixed}: {served} {most}");
    }
}

#[test]
fn a_text_is_read_as_if_it_were_alone() {
    for fixed in MODELS {
        let (model, _) = model(fixed);
        let together = logits(&model, texts(5));
        let outputs = together.len() / 5;
        for row in 0..5 {
            let alone = Inputs {
                tokens: ids(5).slice([row..row + 1, 0..length(row)]),
                lengths: None,
                written: None,
            };
            let alone = logits(&model, alone);
            for (a, b) in alone.iter().zip(&together[row * outputs..]) {
                assert!((a - b).abs() < 1e-4, "{fixed}, row {row}: {a} {b}");
            }
        }
    }
}

#[test]
fn counted_work_of_training_is_the_formula_and_tokens_that_stay_get_gradients() {
    for fixed in MODELS {
        let plan = plan(fixed);
        let model = Model::<A>::new(&plan.model, 3, &Default::default());
        let work = || count_macs(|| gradients_of(&model, batch()));
        let (((_, gradients), macs), skipped) = count_skipped(work);
        let formula = plan.model.training_pass(3, 16, Trainable::All).total();
        assert_eq!(macs + skipped.total(), formula, "{fixed}");
        let embedding = model.embedding.as_dense().unwrap().grad(&gradients).unwrap();
        assert!(embedding.abs().sum().into_scalar() > 0.0, "{fixed}");
    }
}

#[test]
fn a_model_that_reads_less_is_trained_compressed_measured_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let fixed = "kind = 'encoder'\ncontext = 20\nbatch = 16\nwidth = 32\nlayers = 3\ntokens = 64000\n\
                 learning_rate = 5e-3\ntoken_keep = 0.7\ntoken_score = 'attention'\nprune_ratio = 0.25\nrecovery = 0.2\ndistill = 'logits'\nbits = 4\nquant_method = 'gptq'";
    let config = config(LISTOPS, fixed);
    let known = inspect(&config.data, None, &DataAccess::anywhere(), 20).unwrap();
    let known = known.known(&config).unwrap();
    let result = evaluate(&job(config, &dir.path().join("work")), &mut Silent).unwrap();
    let row = |metric: &str| result.measurements.iter().find(|m| m.metric == metric).unwrap();
    for (metric, value) in known {
        assert_eq!(row(&metric).value, value, "{metric}");
    }
    assert!(result.activity["tokens_left_out"] > 0);
    let bundle = dir.path().join("work/bundle");
    let again = remeasure(&bundle, &DataAccess::anywhere(), DeviceChoice::Cpu).unwrap();
    for metric in ["accuracy", "validation_loss", "inference_flops_per_token"] {
        let found = again.measurements.iter().find(|m| m.metric == metric).unwrap();
        assert_eq!(found.value, row(metric).value, "{metric}");
    }
}

/// Texts of 16 tokens without meaning but one, which stands anywhere and is the class; and where it stands.
fn needles(rows: usize, seed: usize) -> (Batch, Vec<usize>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed as u64);
    let mut batch = Batch {
        batch: rows,
        context: 16,
        inputs: vec![],
        lengths: vec![16; rows],
        written: vec![],
        targets: vec![],
    };
    let mut places = vec![];
    for _ in 0..rows {
        let (place, class) = (rng.random_range(0..16), rng.random_range(0..4));
        batch.inputs.extend((0..16).map(|i| {
            if i == place {
                class
            } else {
                rng.random_range(4..15)
            }
        }));
        batch.targets.push(class as i32);
        places.push(place);
    }
    (batch, places)
}

#[test]
fn tokens_that_decide_the_class_stay_more_often_than_chance() {
    let plan = plan("token_keep = 0.6\ntoken_score = 'attention'\nlayers = 3");
    let mut model = Model::<A>::new(&plan.model, 1, &Default::default());
    let mut optimizer = Optimizer::default();
    for step in 0..150 {
        let mut gradients = gradients_of(&model, needles(32, step).0).1;
        optimizer.step(&mut model, &mut gradients, 3e-3, &plan.training);
    }
    let (batch, places) = needles(400, 1000);
    let tokens = TensorData::new(batch.inputs, [400, 16]);
    let kept = model.tokens_kept(Tensor::<A, 2, Int>::from_data(tokens, &Default::default()));
    let pairs = kept.iter().zip(&places);
    let stay = pairs.filter(|(kept, place)| kept.contains(place)).count();
    assert!(kept.iter().all(|kept| kept.len() == 6 && kept.is_sorted()));
    // 6 of 16 tokens reach the last layer; four deviations above what chance gives. By norms 88 stay here, fewer than by chance
    let chance: f64 = 400.0 * 6.0 / 16.0;
    let deviation = (chance * 10.0 / 16.0).sqrt();
    assert!(stay as f64 > chance + 4.0 * deviation, "{stay} of 400");
}

#[test]
fn what_cannot_be_left_out_is_refused_in_one_sentence() {
    for (fixed, part) in [
        ("token_keep = 0.5", "kind 'decoder' needs all of them"),
        (
            "kind = 'encoder'\ntoken_keep = 0.5\nlayers = 1",
            "there is one layer",
        ),
        (
            "kind = 'encoder'\ntoken_keep = 0.5\nreversible = true",
            "reversible = true",
        ),
        (
            "kind = 'encoder'\ntoken_keep = 0.5\nearly_exit = 'entropy'",
            "an exit would see",
        ),
        (
            "kind = 'encoder'\ntoken_keep = 0.5\nattention = 'kde'\nkde_samples = 4\nkde_block = 4",
            "for each place",
        ),
        (
            "kind = 'encoder'\nlayers = 3\ntoken_keep = 0.99",
            "this share leaves none of a row of 16 tokens out in 3 layers",
        ),
        (
            "kind = 'encoder'\nlayers = 2\ntoken_keep = 0.5\ntoken_keep_layer_1 = 1",
            "every layer has a share of 1",
        ),
    ] {
        let message = read(fixed).unwrap_err();
        assert!(
            message.contains(part) && message.contains("use token_keep = 1"),
            "{message}"
        );
    }
    let last = "kind = 'encoder'\nlayers = 3\ntoken_keep = 0.5\ntoken_keep_layer_3 = 0.5";
    let message = read(last).unwrap_err();
    assert!(message.contains("use token_keep_layer_3 = 0"), "{message}");
    let unknown =
        "kind = 'encoder'\nlayers = 4\ntoken_keep = 0.5\ntoken_keep_layer_1 = 1\nlayer_prune_ratio = 0.5";
    let message = read(unknown).unwrap_err();
    assert!(message.contains("token_keep alone"), "{message}");
    let asked = "kind = 'encoder'\ntoken_keep = 0.5\ntoken_score = 'attention'\nattention = 'linear'";
    let message = read(asked).unwrap_err();
    assert!(
        message.contains("linear attention has none; use token_score = 'norm'"),
        "{message}"
    );
}

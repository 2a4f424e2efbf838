//! Tokens of a decoder that leave early: later layers remember them, what is left out is really left out, and what is scored is
//! what is written.

use burn::backend::Flex;
use evaluator::{
    Sampling, Silent,
    counter::count_macs,
    decoding::{DraftSource, Speculation},
    device::DeviceChoice,
    evaluate, generate,
    model::{Model, ModelPlan},
    speculate,
    techniques::dynamic::early_exit::Threshold,
};

use crate::early_exit::{comes_back, leaves_early};
use crate::support::{VOCABULARY, compress, config, job, plan, plan_for, random_weights, text_data, tokens};

const EXITS: &[&str] = &[
    "early_exit = 'max_prob'\nlayers = 4",
    "early_exit = 'entropy'\nlayers = 5\nexit_every = 2\nkv_heads = 2\nattention = 'tiled'\nattention_block_q = 4\nattention_block_k = 3",
    "early_exit = 'margin'\nlayers = 3\nattention = 'sliding_window'\nwindow = 5\ncache_bits = 8",
    "early_exit = 'state_similarity'\nlayers = 4\nexperts = 2\ntop_k = 1",
    "early_exit = 'patience'\nlayers = 6",
    "early_exit = 'max_prob'\nlayers = 3\nsparsity = 0.5",
    "early_exit = 'margin'\nlayers = 4\nexit_every = 2\nbits = 4\nwidth_prune_ratio = 0.25",
    "early_exit = 'entropy'\nlayers = 3\ncontext_keep = 0.5",
];

const THRESHOLDS: [&str; 8] = [
    "0.0000", "0.1000", "0.2000", "0.4000", "0.6000", "0.8000", "0.9500", "1.0001",
];

fn model(fixed: &str, threshold: Threshold) -> (Model<Flex>, ModelPlan) {
    let plan = plan(fixed);
    let mut model = Model::<Flex>::new(&plan.served, 3, &Default::default());
    random_weights(&mut model);
    compress(&mut model, &plan);
    model.exits.as_mut().unwrap().threshold = threshold;
    (model, plan.served)
}

fn without_exits(model: &Model<Flex>) -> Model<Flex> {
    let mut full = model.clone();
    full.exits = None;
    full
}

fn at(text: &str) -> Threshold {
    Threshold::try_from(text.to_owned()).unwrap()
}

/// Logits of a text's tokens one after the other, and where they left.
fn written(model: &Model<Flex>, plan: &ModelPlan, text: u32) -> (Vec<f32>, Vec<usize>) {
    let text = tokens::<Flex>(1, 16, text);
    let mut memory = model.memory(plan, 1, 16);
    let (mut logits, mut depths) = (vec![], vec![]);
    for position in 0..16 {
        let token = text.clone().narrow(1, position, 1);
        let exited = model.extend_until_sure(token, &mut memory);
        logits.extend(exited.logits.into_data().iter::<f32>());
        depths.extend(exited.depths);
    }
    (logits, depths)
}

#[test]
fn what_is_never_sure_enough_is_the_full_model_to_the_bit() {
    for fixed in EXITS {
        let (model, plan) = model(fixed, Threshold::NEVER);
        let full = without_exits(&model);
        let text = tokens::<Flex>(1, 16, 2);
        let mut memories = [model.memory(&plan, 1, 16), model.memory(&plan, 1, 16)];
        for position in 0..16 {
            let token = text.clone().narrow(1, position, 1);
            let [mine, expected] = [&model, &full];
            let [a, b] = &mut memories;
            let logits = mine.extend(token.clone(), a).into_data();
            assert_eq!(logits, expected.extend(token, b).into_data(), "{fixed}");
        }
        let (_, depths) = written(&model, &plan, 2);
        assert_eq!(depths, vec![plan.layers.len(); 16], "{fixed}");
    }
}

#[test]
fn what_is_always_sure_enough_is_the_first_layers_alone() {
    for fixed in EXITS {
        let (model, plan) = model(fixed, Threshold::ALWAYS);
        let every = plan.early_exit.unwrap().every;
        let (logits, depths) = written(&model, &plan, 2);
        assert_eq!(depths, vec![every; 16], "{fixed}");
        // a memory of the first layers alone: no exit is asked
        let mut first = model.memory(&plan, 1, 16).first(every);
        for position in 0..16 {
            let token = tokens::<Flex>(1, 16, 2).narrow(1, position, 1);
            let expected = model.extend(token, &mut first).into_data();
            let found = &logits[position * VOCABULARY..][..VOCABULARY];
            assert_eq!(expected.iter::<f32>().collect::<Vec<_>>(), found, "{fixed}");
        }
    }
}

#[test]
fn a_prompt_is_read_by_all_layers() {
    for fixed in EXITS {
        let (model, plan) = model(fixed, Threshold::ALWAYS);
        let full = without_exits(&model);
        let prompt = || tokens::<Flex>(1, 16, 2).narrow(1, 0, 9);
        let logits = |model: &Model<Flex>| {
            let mut memory = model.memory(&plan, 1, 16);
            model.extend(prompt(), &mut memory).into_data()
        };
        assert_eq!(logits(&model), logits(&full), "{fixed}");
    }
}

#[test]
fn depth_grows_with_the_threshold_and_what_is_executed_is_the_sum_over_depths() {
    for fixed in EXITS {
        let (mut before, mut mixed) = (0, 0);
        for threshold in THRESHOLDS {
            let (model, plan) = model(fixed, at(threshold));
            let mut sum = 0;
            for text in 0..4 {
                let ((_, depths), macs) = count_macs(|| written(&model, &plan, text));
                let formula = |(position, depth): (usize, &usize)| plan.leaving_macs(position, *depth);
                let formula: u64 = depths.iter().enumerate().map(formula).sum();
                assert_eq!(macs, formula, "{fixed} at {threshold}: {depths:?}");
                sum += depths.iter().sum::<usize>();
                mixed += usize::from(depths.iter().any(|depth| *depth != depths[0]));
            }
            assert!(sum >= before, "{fixed} at {threshold}");
            before = sum;
        }
        assert!(mixed > 0, "{fixed}: some tokens leave before others");
    }
}

/// The form that quality is measured in is the text as it is written, token after token with copied keys and values.
#[test]
fn what_is_scored_at_once_is_what_is_written_token_after_token() {
    for fixed in EXITS {
        let mut mixed = 0;
        // a last digit may decide which level a packed key is rounded to
        let most = if fixed.contains("cache_bits") { 5e-3 } else { 1e-4 };
        for threshold in THRESHOLDS {
            let (model, plan) = model(fixed, at(threshold));
            let rows = 3;
            let texts = tokens::<Flex>(rows, 16, 3);
            let at_once = model.serve_at_once(model.exits.unwrap(), texts.clone());
            let all: Vec<f32> = at_once.logits.into_data().iter().collect();
            for row in 0..rows {
                let mut memory = model.memory(&plan, 1, 16);
                for position in 0..16 {
                    let token = texts.clone().narrow(0, row, 1).narrow(1, position, 1);
                    let one = model.extend_until_sure(token, &mut memory);
                    let place = row * 16 + position;
                    assert_eq!(
                        one.depths,
                        [at_once.depths[place]],
                        "{fixed} at {threshold}, {place}"
                    );
                    let pairs = one.logits.into_data();
                    let pairs = pairs.iter::<f32>().zip(&all[place * VOCABULARY..]);
                    for (a, b) in pairs {
                        let apart = (a - b).abs() / (1.0 + b.abs());
                        assert!(apart < most, "{fixed} at {threshold}: {a} {b}");
                    }
                }
            }
            let first = at_once.depths[0];
            mixed += usize::from(at_once.depths.iter().any(|depth| *depth != first));
        }
        assert!(mixed > 0, "{fixed}: some tokens leave before others");
    }
}

#[test]
fn a_decoder_with_exits_is_calibrated_measured_exported_and_writes_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 20_000);
    let fixed = "context = 32\nlayers = 3\ntokens = 38400\nearly_exit = 'max_prob'\nexit_tolerance = 2";
    let config = config(&data, fixed);
    let (result, full) = leaves_early(&config, 32, &dir.path().join("work"), "held-out tokens");
    let row = |metric: &str| result.measurements.iter().find(|m| m.metric == metric).unwrap();
    let (depth, flops) = (row("mean_exit_layer"), row("inference_flops_per_token"));
    assert!(flops.value < full, "{} {full}", flops.value);
    // exits lose little, on text that the threshold was not found on
    let accuracy = row("accuracy");
    let of_all: f64 = {
        let said = accuracy.source.split("all layers ").nth(1).unwrap();
        said.split(',').next().unwrap().parse().unwrap()
    };
    eprintln!("{}: {} of {full} FLOPs", depth.source, flops.value);
    eprintln!("{}: {}", accuracy.value, accuracy.source);
    assert!(accuracy.value > of_all - 0.04, "{accuracy:?}");
    assert!(accuracy.source.contains("Clopper-Pearson"), "{accuracy:?}");
    assert!(row("bits_per_byte").value > 0.0);

    let bundle = dir.path().join("work/bundle");
    comes_back(&bundle, &result);

    // who uses the model has its tokens leave early: the same text each time, past the context too, for less work
    let sampling = Sampling {
        tokens: 60,
        temperature: 0.0,
        seed: 0,
    };
    let write = || {
        let mut text = String::new();
        let (written, macs) = count_macs(|| {
            generate(&bundle, "the cat ", sampling, DeviceChoice::Cpu, &mut |more| {
                text.push_str(more);
            })
            .unwrap()
        });
        assert_eq!((written.tokens, written.calls), (60, 60));
        (text, macs)
    };
    let (text, macs) = write();
    assert_eq!((text, macs), write());
    let file = bundle.join("config.json");
    let config = std::fs::read_to_string(&file).unwrap();
    assert!(config.contains("\"parsimony_decoder\""), "{config}");
    let from = config.split("\"threshold\": ").nth(1).unwrap();
    let found = from.split('\n').next().unwrap();
    std::fs::write(&file, config.replace(found, "\"1.0001\"")).unwrap();
    let (_, of_all_layers) = write();
    assert!(macs < of_all_layers, "{macs} {of_all_layers}");

    let guesses = Speculation {
        source: DraftSource::Ngram,
        guesses: 2,
    };
    let error = speculate(
        &bundle,
        "the cat ",
        sampling,
        &guesses,
        DeviceChoice::Cpu,
        &mut |_| (),
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("leave the draft out"), "{error}");
}

/// Counted work is held against the formula wherever an evaluation succeeds.
#[test]
fn exits_of_a_decoder_are_adapted_pruned_taught_and_packed() {
    let dir = tempfile::tempdir().unwrap();
    let text = text_data(dir.path(), 8000);
    let base = config(&text, "layers = 3");
    evaluate(&job(base, &dir.path().join("base")), &mut Silent).unwrap();
    let path = dir.path().join("base/bundle");
    let data = format!("{text}\n[base]\npath = '{}'", path.display());
    for (i, more) in [
        "early_exit = 'margin'\nfine_tune = 'lora'\nprune_ratio = 0.5\nrecovery = 0.3\ndistill = 'logits'\nbits = 4\nquant_method = 'gptq'",
        "early_exit = 'state_similarity'\nfine_tune = 'mask'\nmask = 'layer_subset'\nlayer_prune_ratio = 0.34\nrecovery = 0.3\ncontext_keep = 0.5",
        "early_exit = 'entropy'\nfine_tune = 'adapter'\nadapter_size = 4\nsparsity = 0.5\ncache_bits = 8",
    ]
    .into_iter()
    .enumerate()
    {
        let fixed = format!("context = 16\nbatch = 4\ntokens = 640\nexit_tolerance = 100\n{more}\n");
        let text = format!("{data}\n[fixed]\n{fixed}");
        let config = spaces::study::config_from_toml(&text, &evaluator::catalog()).unwrap();
        let result = evaluate(&job(config, &dir.path().join(i.to_string())), &mut Silent).unwrap();
        let depth = result.measurements.iter().find(|m| m.metric == "mean_exit_layer");
        // any accuracy is good enough
        assert_eq!(depth.unwrap().value, 1.0, "{more}");
    }
}

#[test]
fn what_leaves_a_gap_is_refused_in_one_sentence() {
    for (fixed, part) in [
        (
            "early_exit = 'max_prob'\nlayers = 3\nattention = 'linear'",
            "linear attention keeps none; use attention full, tiled or sliding_window",
        ),
        (
            "early_exit = 'margin'\nlayers = 3\nattention_layer_3 = 'rwkv'",
            "rwkv attention keeps none",
        ),
        (
            "early_exit = 'entropy'\nlayers = 3\nfeed_forward = 'channel_mix'",
            "use feed_forward = 'gated'",
        ),
        (
            "early_exit = 'state_similarity'\nlayers = 3\nreversible = true",
            "use reversible = false",
        ),
        (
            "early_exit = 'max_prob'\nlayers = 3\ndraft = 'first_layers'",
            "use draft = 'none', or early_exit = 'none'",
        ),
        (
            "early_exit = 'max_prob'\nkind = 'encoder_decoder'\ncontext = 40",
            "use kind = 'encoder' or 'decoder'",
        ),
        ("early_exit = 'max_prob'\nlayers = 1", "use layers = 2 or more"),
    ] {
        let message = plan_for(VOCABULARY, fixed).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
}

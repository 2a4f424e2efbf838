//! What every technique keeps: counted equals formula, causality, decoding equals training form, files come back.

use burn::{
    backend::Flex,
    module::AutodiffModule,
    tensor::{Int, Tensor, TensorData, Tolerance},
};
use evaluator::{
    bundle::{self, Served},
    counter::{count_macs, count_skipped},
    data::Batch,
    device::Device,
    model::{Model, Part, Parts, Pass, Trainable},
    ops::cross_entropy,
    plan::Plan,
    training::gradients_of,
};

use crate::support::{A, TECHNIQUES, VOCABULARY, compress, plan, tokens};

/// The served model of a plan: pruned in shape, packed where the plan says so, untrained.
fn served(plan: &Plan) -> Model<Flex> {
    let mut model = Model::<Flex>::new(&plan.served, 3, &Default::default());
    compress(&mut model, plan);
    model
}

fn close(a: TensorData, b: TensorData, what: &str) {
    let (x, y): (Vec<f32>, Vec<f32>) = (a.iter().collect(), b.iter().collect());
    let worst = x
        .iter()
        .zip(&y)
        .map(|(x, y)| (x - y).abs() / (1.0 + y.abs()))
        .fold(0.0, f32::max);
    assert!(x.len() == y.len() && worst < 1e-4, "{what}: differs by {worst}");
}

#[test]
fn parameters_are_the_sum_of_the_tensors() {
    for technique in TECHNIQUES {
        let plan = plan(technique);
        let mut sum = 0;
        served(&plan).each_part("", &mut |_, part| {
            sum += match part {
                Part::Matrix(m) | Part::Small(m) => m.weights() as u64,
                Part::Vector(v) => v.dims()[0] as u64,
            };
        });
        assert_eq!(plan.served.parameters(), sum, "{technique}");
        assert!(plan.served.active_parameters() <= sum, "{technique}");
    }
}

#[test]
fn counted_work_of_training_is_the_formula() {
    let mut left_out = 0;
    for technique in TECHNIQUES {
        let plan = plan(technique);
        let model = Model::<A>::new(&plan.model, 3, &Default::default());
        for (batch, n) in [(1, 1), (3, 16), (2, 11)] {
            let inputs = tokens::<A>(batch, n, 1);
            let targets = tokens::<A>(batch, n, 2).reshape([batch * n]);
            let formula = plan.model.training_pass(batch, n, Trainable::All);
            if plan.model.reversible.is_some() || plan.model.early_exit.is_some() {
                // the whole step: a way back with forward passes in it, or more heads than the last
                let data = |t: Tensor<A, 2, Int>| t.into_data().iter::<i64>().collect::<Vec<_>>();
                let step = Batch {
                    batch,
                    context: n,
                    lengths: vec![n; batch],
                    written: vec![],
                    inputs: data(inputs).into_iter().map(|t| t as u32).collect(),
                    targets: data(tokens::<A>(batch, n, 2))
                        .into_iter()
                        .map(|t| t as i32)
                        .collect(),
                };
                let ((_, macs), skipped) = count_skipped(|| count_macs(|| drop(gradients_of(&model, step))));
                assert_eq!(
                    macs + skipped.total(),
                    formula.total(),
                    "{technique} [{batch}, {n}]"
                );
                continue;
            }
            // what experts have no room for is left out, forward and backward
            let ((loss, forward), skipped) = count_skipped(|| {
                count_macs(|| {
                    let out = model.forward(inputs);
                    let loss = cross_entropy(out.logits.reshape([batch * n, VOCABULARY]), targets);
                    out.auxiliary.map_or(loss.clone(), |balance| loss + balance)
                })
            });
            let (_, backward) = count_macs(|| loss.backward());
            assert_eq!(
                (forward + skipped.forward, backward + skipped.backward),
                (formula.forward, formula.backward),
                "{technique} [{batch}, {n}]"
            );
            left_out += skipped.total();
            assert!(
                skipped == Pass::default() || !plan.training_flops_are_exact(),
                "{technique}"
            );
        }
    }
    assert!(left_out > 0, "some of these experts are short of room");
}

#[test]
fn counted_work_of_decoding_is_the_formula() {
    for technique in TECHNIQUES {
        let plan = plan(technique);
        let model = served(&plan);
        let mut memory = model.memory(&plan.served, 1, plan.served.context);
        for position in 0..plan.served.context {
            let (_, macs) = count_macs(|| model.extend(tokens::<Flex>(1, 1, position as u32), &mut memory));
            assert_eq!(
                macs,
                plan.served.decoding_macs(position),
                "{technique} at {position}"
            );
        }
    }
}

#[test]
fn counted_work_of_a_prompt_is_the_formula() {
    for technique in TECHNIQUES {
        let plan = plan(technique).model;
        let model = Model::<Flex>::new(&plan, 1, &Default::default());
        for n in [1, 2, 7, 16] {
            let mut memory = model.memory(&plan, 2, plan.context);
            let take = || model.extend(tokens::<Flex>(2, n, 3), &mut memory);
            let ((_, macs), skipped) = count_skipped(|| count_macs(take));
            assert_eq!(
                macs + skipped.forward,
                plan.prompt_macs(2, n),
                "{technique} of {n}"
            );
        }
    }
}

#[test]
fn later_tokens_never_change_earlier_logits() {
    for technique in TECHNIQUES {
        let plan = plan(technique);
        let model = served(&plan);
        let before = tokens::<Flex>(2, 16, 5);
        let change = tokens::<Flex>(2, 6, 9);
        let after = before.clone().slice_assign([0..2, 10..16], change);
        let logits = |t: Tensor<Flex, 2, Int>| model.forward(t).logits.slice([0..2, 0..10]);
        let changed = model
            .forward(after.clone())
            .logits
            .slice([0..2, 10..16])
            .into_data();
        assert_ne!(
            model
                .forward(before.clone())
                .logits
                .slice([0..2, 10..16])
                .into_data(),
            changed,
            "{technique}"
        );
        let (before, after) = (logits(before).into_data(), logits(after).into_data());
        if technique.contains("experts") {
            // how many rows an expert gets decides how its product is summed, so the last digits may differ
            close(before, after, technique);
        } else {
            assert_eq!(before, after, "{technique}");
        }
    }
}

#[test]
fn a_sequence_does_not_depend_on_its_companions() {
    for technique in TECHNIQUES {
        let model = served(&plan(technique));
        let both = tokens::<Flex>(2, 16, 5);
        let alone = both.clone().slice([0..1, 0..16]);
        let first = model.forward(both).logits.slice([0..1, 0..16]);
        close(
            model.forward(alone).logits.into_data(),
            first.into_data(),
            technique,
        );
    }
}

#[test]
fn decoding_equals_the_form_of_training() {
    for technique in TECHNIQUES {
        let plan = plan(technique);
        let model = served(&plan);
        let all = tokens::<Flex>(2, 16, 4);
        let expected = model.forward(all.clone()).logits;
        // token by token, and after prompts of several lengths, one of them in two pieces
        for pieces in [
            vec![1; 16],
            vec![9, 1, 1, 1, 1, 1, 1, 1],
            vec![4, 5, 1, 6],
            vec![16],
        ] {
            let mut memory = model.memory(&plan.served, 2, 16);
            let mut at = 0;
            for n in pieces {
                let logits = model.extend(all.clone().slice([0..2, at..at + n]), &mut memory);
                at += n;
                let last = expected.clone().slice([0..2, at - 1..at]).squeeze_dim::<2>(1);
                close(
                    logits.into_data(),
                    last.into_data(),
                    &format!("{technique} at {at}"),
                );
            }
        }
    }
}

#[test]
fn files_have_the_foretold_bytes_and_come_back_to_the_same_logits() {
    for technique in TECHNIQUES {
        let plan = plan(technique);
        let mut model = served(&plan);
        let shape = Served {
            model: plan.served.clone(),
            quantization: plan.quantization,
        };
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = byte_tokenizer();
        bundle::write_model(&mut model, &shape, &tokenizer, dir.path()).unwrap();
        let foretold =
            bundle::served_bytes(&plan.served, plan.quantization, tokenizer.to_json().len() as u64);
        let bytes = bundle::measured_bytes(dir.path()).unwrap();
        if technique.contains("int8_outlier") {
            // columns that inputs ask for stay in 32 bits
            assert!(bytes > foretold, "{technique}");
        } else {
            assert_eq!(bytes, foretold, "{technique}");
        }
        let (back, read) = bundle::read_model::<Flex>(dir.path(), &Default::default()).unwrap();
        assert_eq!(read, shape, "{technique}");
        let input = tokens::<Flex>(2, 16, 8);
        let (a, b) = (model.forward(input.clone()).logits, back.forward(input).logits);
        assert_eq!(a.into_data(), b.into_data(), "{technique}");
    }
}

fn byte_tokenizer() -> evaluator::data::Tokenizer {
    let spec = spaces::DataSpec {
        corpus: "markov".into(),
        options: Default::default(),
    };
    evaluator::data::Dataset::load(&spec, &evaluator::data::DataAccess::anywhere())
        .unwrap()
        .tokenizer
}

#[test]
fn a_state_takes_the_foretold_bytes_and_stops_growing_where_it_is_said_to() {
    let bytes = |technique: &str, context: usize| {
        plan(&format!("{technique}\ncontext = {context}"))
            .served
            .state_bytes()
    };
    let (linear, window) = ("attention = 'linear'", "attention = 'sliding_window'\nwindow = 8");
    assert_eq!(bytes(linear, 32), bytes(linear, 1024));
    let favor = "attention = 'linear'\nlinear_features = 'favor'\nlinear_random_features = 24";
    assert_eq!(bytes(favor, 32), bytes(favor, 1024));
    assert_eq!(bytes(window, 32), bytes(window, 1024));
    assert_eq!(
        bytes("attention = 'full'", 64),
        2 * bytes("attention = 'full'", 32)
    );
    assert_eq!(bytes("kv_heads = 1", 64), bytes("kv_heads = 4", 64) / 4);
    // 2 layers, keys and values, 4 heads of 8, 64 tokens, 4 bytes
    assert_eq!(bytes("attention = 'full'", 64), 2 * 2 * 4 * 8 * 64 * 4);
    // 2 layers, 4 heads of 8 x 8 sums and 8 normalisers, 4 bytes
    assert_eq!(bytes(linear, 64), 2 * 4 * (8 * 8 + 8) * 4);
    // of 24 features
    assert_eq!(bytes(favor, 64), 2 * 4 * (24 * 8 + 24) * 4);
}

/// Golden numbers of the cost model: width 64, 2 layers, 4 heads, vocabulary 256, context 64.
#[test]
fn the_known_costs_of_a_small_model_come_out() {
    let config = "width = 64\nheads = 4\ncontext = 64";
    let plan = Plan::read(
        &crate::support::config(crate::support::recall(), config),
        256,
        None,
    )
    .unwrap();
    let model = &plan.model;
    let matrices = 2 * (4 * 64 * 64 + 3 * 64 * 192) + 256 * 64;
    assert_eq!(model.parameters(), matrices as u64 + 64 * 5);
    // causal attention: 4 · 32.5 · 64 · 2 FLOPs for each token
    let attention = 16_640.0;
    assert_eq!(
        model.inference_flops_per_token(),
        2.0 * matrices as f64 + attention
    );
    let step = model.training_pass(1, 64, Trainable::All);
    assert_eq!(
        step.total(),
        3 * step.forward,
        "full attention keeps its probabilities: backward is twice forward"
    );
}

#[test]
fn every_technique_learns() {
    use evaluator::{Silent, evaluate};
    for technique in [
        "attention = 'full'",
        "attention = 'tiled'\nattention_block_q = 5",
        "attention = 'sliding_window'\nwindow = 5",
        "attention = 'linear'",
        "attention = 'linear'\nlinear_features = 'relu'",
        "attention = 'linear'\nlinear_features = 'favor'",
        "attention = 'rwkv'",
        "attention = 'rwkv'\nfeed_forward = 'channel_mix'",
        "attention = 'lsh'\nlsh_chunk = 4\nlsh_buckets = 4",
        "attention = 'aft'\naft_variant = 'local'\naft_window = 5\naft_rank = 8",
        "attention = 'kde'\nkde_leaf = 4\nkde_samples = 4",
        "experts = 4\ntop_k = 2",
        "experts = 4\nrouter = 'switch'\nrouter_z_loss = 1e-3",
        "experts = 4\nrouter = 'gshard'\nmoe_every = 2",
        "experts = 4\nrouter = 'noisy_top_k'\ntop_k = 2",
        "reversible = true\nff_chunks = 4",
        "reversible = true\nattention = 'lsh'\nlsh_chunk = 4\nlsh_buckets = 4",
        "reversible = true\nattention = 'rwkv'\nfeed_forward = 'channel_mix'",
        "reversible = true\nexperts = 4\nrouter = 'gshard'",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("text.txt");
        std::fs::write(&file, crate::support::prose(20_000)).unwrap();
        let data = format!("[data]\ncorpus = \"text\"\npath = \"{}\"", file.display());
        let config = crate::support::config(&data, &format!("{technique}\ntokens = 12800"));
        let result = evaluate(
            &crate::support::job(config, &dir.path().join("work")),
            &mut Silent,
        )
        .unwrap();
        let loss = result
            .measurements
            .iter()
            .find(|m| m.metric == "validation_loss")
            .unwrap()
            .value;
        // the best guess from letter frequencies alone is above 2.8 nats
        assert!(loss < 1.7, "{technique}: {loss}");
    }
}

#[test]
fn the_autodiff_model_is_the_same_model() {
    let plan = plan("experts = 2");
    let model = Model::<A>::new(&plan.model, 3, &Default::default());
    let plain = model.valid().forward(tokens::<Flex>(1, 9, 1)).logits.into_data();
    let tracked = model.forward(tokens::<A>(1, 9, 1)).logits.into_data();
    plain.assert_approx_eq::<f32>(&tracked, Tolerance::default());
}

#[test]
fn sixteen_bit_products_are_refused_on_a_processor_in_one_sentence() {
    let error = plan("precision = 'bf16'").prepare(&Device::Cpu).unwrap_err();
    assert!(
        error.starts_with("precision = 'bf16' needs a GPU") && error.contains("use precision = 'f32'"),
        "{error}"
    );
    plan("attention = 'lsh'\nlsh_chunk = 3")
        .prepare(&Device::Cpu)
        .unwrap();
}

#[test]
fn whole_numbers_are_refused_where_floats_would_take_their_place() {
    let gpu = Device::Cuda {
        index: 0,
        uuid: "GPU-0".into(),
    };
    let plan = plan("bits = 8\nactivation_bits = 8");
    let error = plan.prepare(&gpu).unwrap_err();
    assert!(
        error.contains("on processors alone yet") && error.contains("use activation_bits = 32"),
        "{error}"
    );
    plan.prepare(&Device::Cpu).unwrap();
}

//! Known answers of RWKV-4: its size, its start, its state, and what it refuses.

use evaluator::{
    model::{Model, Part, Parts, Trainable},
    plan::Plan,
};

use crate::support::{A, VOCABULARY, config, plan, recall, tokens};

const RWKV: &str = "attention = 'rwkv'\nfeed_forward = 'channel_mix'\nffn_ratio = 4";

#[test]
fn a_layer_has_thirteen_squares_of_weights_and_its_work_no_term_of_the_context() {
    let (d, layers) = (32, 2);
    let model = plan(RWKV).model;
    // three mixes, decay and bonus of the time mixing, two mixes of the channel mixing, two norms
    let vectors = 5 + 2 + 2;
    let others = VOCABULARY * d + d;
    assert_eq!(
        model.parameters(),
        (layers * (13 * d * d + vectors * d) + others) as u64
    );
    for position in [0, 1, 15] {
        let macs = model.decoding_macs(position);
        assert_eq!(macs, (layers * 13 * d * d + VOCABULARY * d) as u64);
    }
    let (one, many) = (
        model.training_pass(1, 1, Trainable::All).total(),
        model.training_pass(1, 16, Trainable::All).total(),
    );
    assert_eq!(many, 16 * one);
}

#[test]
fn the_state_is_five_numbers_for_each_channel_whatever_the_context() {
    for context in [16, 1024] {
        let bytes = plan(&format!("{RWKV}\ncontext = {context}")).served.state_bytes();
        // two layers: sums, exponent and last token of the time mixing, last token of the channel mixing
        assert_eq!(bytes, 2 * 5 * 32 * 4);
    }
    let pruned = plan("attention = 'rwkv'\nhead_prune_ratio = 0.5").served;
    assert_eq!(pruned.state_bytes(), 2 * (3 * 16 + 32) * 4);
}

#[test]
fn the_start_is_the_released_one() {
    let start = |layers: usize| {
        let plan = plan(&format!("{RWKV}\nlayers = {layers}"));
        let mut model = Model::<A>::new(&plan.model, 3, &Default::default());
        let mut found = std::collections::BTreeMap::<String, Vec<f32>>::new();
        model.each_part("", &mut |path, part| {
            if let Part::Small(matrix) = part {
                let values = matrix.as_dense().unwrap().into_data().iter().collect();
                found.insert(path.trim_start_matches("model.layers.").to_owned(), values);
            }
        });
        found
    };
    let near = |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-6, "{a} is not {b}");
    let two = start(2);
    let x = 8.0f64 / 32.0;
    for (layer, depth) in [(0, 0.0), (1, 1.0)] {
        let height = 1.0 - 0.5 * depth;
        let at = |name: &str, i: usize| two[&format!("{layer}.{name}")][i];
        near(at("self_attn.mix_k", 8), x.powf(height));
        near(at("self_attn.mix_v", 8), x.powf(height) + 0.3 * depth);
        near(at("self_attn.mix_r", 8), x.powf(0.5 * height));
        near(at("mlp.mix_k", 8), x.powf(height));
        near(at("mlp.mix_r", 8), x.powf(height));
        near(at("self_attn.decay", 0), -5.0);
        near(at("self_attn.decay", 31), 3.0);
        let along = (8.0f64 / 31.0).powf(0.7 + 1.3 * depth);
        near(at("self_attn.decay", 8), -5.0 + 8.0 * along);
        for (i, zigzag) in [(0, 0.0), (1, 0.5), (2, -0.5), (3, 0.0)] {
            near(at("self_attn.bonus", i), 0.3f64.ln() + zigzag);
        }
    }
    for (name, values) in start(1) {
        assert!(values.iter().all(|x| x.is_finite()), "{name}");
    }
}

/// The token before counts in channel mixing alone, and only that one.
#[test]
fn channel_mixing_sees_one_token_back() {
    let plan = plan("attention = 'sliding_window'\nwindow = 1\nfeed_forward = 'channel_mix'\nlayers = 1");
    let model = Model::<A>::new(&plan.model, 3, &Default::default());
    let before = tokens::<A>(1, 16, 5);
    let change = before.clone().slice([0..1, 4..5]).equal_elem(0).int();
    let after = before.clone().slice_assign([0..1, 4..5], change);
    let (a, b) = (model.forward(before).logits, model.forward(after).logits);
    for t in 0..16 {
        let at = |x: &burn::tensor::Tensor<A, 3>| x.clone().slice([0..1, t..t + 1]).into_data();
        assert_eq!(at(&a) == at(&b), t != 4 && t != 5, "token {t}");
    }
}

#[test]
fn what_has_no_meaning_beside_it_is_refused_in_one_sentence() {
    let read = |fixed: &str| Plan::read(&config(recall(), fixed), VOCABULARY, None);
    for (fixed, part) in [
        ("attention = 'rwkv'\nkv_heads = 2", "use kv_heads = 0"),
        (
            "feed_forward = 'channel_mix'\nexperts = 2",
            "use experts = 1 or feed_forward = 'gated'",
        ),
        (
            "feed_forward = 'channel_mix'\nprune_ratio = 0.5",
            "use prune_ratio = 0 or feed_forward = 'gated'",
        ),
    ] {
        let message = read(fixed).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
}

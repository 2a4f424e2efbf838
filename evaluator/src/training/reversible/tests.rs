//! Known answers: inputs come back to the bit, gradients are those of ordinary autodiff, memory does not grow with depth.

use burn::{
    backend::{Autodiff, Flex},
    tensor::TensorData,
};

use super::*;
use crate::{
    counter::{count_macs, count_skipped},
    memory::peak_bytes,
    model::{Initial, Matrix, TensorMut, Trainable, each_tensor},
    plan::Plan,
    techniques::fine_tuning::lora,
};

type A = Autodiff<Flex>;

const VOCABULARY: usize = 19;

/// Attentions that draw, hash, sort, look back; routers that draw noise and drop; feed-forward parts in uneven chunks.
const CASES: &[&str] = &[
    "attention = 'full'",
    "attention = 'full'\nff_chunks = 3",
    "attention = 'tiled'\nattention_block_q = 4\nkv_heads = 2\nff_chunks = 16",
    "attention = 'sliding_window'\nwindow = 5",
    "attention = 'linear'\nlinear_chunk = 5\nff_chunks = 2",
    "attention = 'lsh'\nlsh_chunk = 3\nlsh_buckets = 4",
    "attention = 'lsh'\nlsh_chunk = 3\nlsh_buckets = 8\nattention_layer_2 = 'full'\nff_chunks = 4",
    "attention = 'kde'\nkde_leaf = 2\nkde_samples = 3",
    "attention = 'aft'\naft_variant = 'conv'\naft_window = 5",
    "attention = 'rwkv'\nfeed_forward = 'channel_mix'",
    "attention = 'rwkv'\nfeed_forward = 'channel_mix'\nff_chunks = 5",
    "experts = 4\ntop_k = 2",
    "experts = 4\nrouter = 'switch'\ncapacity_factor = 1.0\nrouter_jitter = 0.1\nrouter_z_loss = 1e-3",
    "experts = 3\nrouter = 'gshard'\ncapacity_factor = 1.0\nattention = 'lsh'\nlsh_chunk = 4",
    "experts = 4\nrouter = 'noisy_top_k'\ntop_k = 2\nmoe_every = 2",
];

fn plan(fixed: &str) -> Plan {
    let mut text = "[data]\ncorpus = \"markov\"\n[fixed]\nreversible = true\n".to_owned();
    for line in [
        "context = 16",
        "layers = 3",
        "width = 32",
        "heads = 4",
        "batch = 4",
    ] {
        let name = line.split(' ').next().unwrap_or_default();
        if !fixed.lines().any(|l| l.starts_with(name)) {
            text += &format!("{line}\n");
        }
    }
    let config =
        spaces::study::config_from_toml(&(text + fixed), &crate::catalog()).expect("a configuration");
    Plan::read(&config, VOCABULARY, None).expect("a plan")
}

/// Random weights of some size, so that nothing is near zero by accident.
fn model(plan: &Plan) -> Model<A> {
    let mut model = Model::<A>::new(&plan.model, 3, &Default::default());
    let mut initial = Initial::<A>::new(7, 1, Default::default());
    each_tensor(&mut model, &mut |_, tensor| {
        if let TensorMut::Matrix(param) = tensor {
            let [out, input] = param.dims();
            *param = Param::from_tensor(initial.normal(out, input, 0.2));
        }
    });
    model
}

fn tokens(b: usize, n: usize) -> (Tensor<A, 2, Int>, Tensor<A, 1, Int>) {
    let draw = |salt: u32| -> Vec<i32> {
        let of = |i: u32| (i * 7 + salt * 13 + i * i) % VOCABULARY as u32;
        (0..(b * n) as u32).map(|i| of(i) as i32).collect()
    };
    let device = Default::default();
    (
        Tensor::from_data(TensorData::new(draw(1), [b, n]), &device),
        Tensor::from_data(TensorData::new(draw(2), [b * n]), &device),
    )
}

fn form(plan: &Plan) -> Reversible {
    plan.model.reversible.expect("reversible layers")
}

/// Every gradient by name.
fn named(model: &mut Model<A>, gradients: &<A as AutodiffBackend>::Gradients) -> Vec<(String, Vec<f32>)> {
    let mut all = vec![];
    each_tensor(model, &mut |name, tensor| {
        let values = match tensor {
            TensorMut::Matrix(p) => p.val().grad(gradients).map(|g| g.into_data()),
            TensorMut::Vector(p) => p.val().grad(gradients).map(|g| g.into_data()),
        };
        all.extend(values.map(|v| (name, v.iter().collect())));
    });
    all
}

/// Loss and gradients of the same network with everything kept.
fn ordinary(model: &mut Model<A>, b: usize, n: usize) -> (f32, Vec<(String, Vec<f32>)>) {
    let (inputs, targets) = tokens(b, n);
    let out = model.forward(inputs);
    let loss = cross_entropy(out.logits.reshape([b * n, VOCABULARY]), targets);
    let loss = out.auxiliary.map_or(loss.clone(), |more| loss + more);
    let gradients = loss.backward();
    (loss.into_scalar(), named(model, &gradients))
}

fn reversed(model: &mut Model<A>, form: Reversible, b: usize, n: usize) -> (f32, Vec<(String, Vec<f32>)>) {
    let (inputs, targets) = tokens(b, n);
    let (loss, weights) = gradients(model, form, inputs.into(), targets);
    (loss.into_scalar(), named(model, &weights))
}

fn assert_same(one: &[(String, Vec<f32>)], other: &[(String, Vec<f32>)], what: &str) {
    let names = |all: &[(String, Vec<f32>)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(one), names(other), "{what}");
    for ((name, a), (_, b)) in one.iter().zip(other) {
        let size = b.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
        let worst = a.iter().zip(b).fold(0.0, |m: f32, (a, b)| m.max((a - b).abs()));
        assert!(
            size > 0.0 && worst <= 1e-4 * size.max(1e-3),
            "{what}: {name} differs by {worst} of {size}"
        );
    }
}

#[test]
fn the_inputs_of_all_blocks_come_back_to_the_bit() {
    for case in CASES {
        let plan = plan(case);
        let model = model(&plan);
        let (inputs, targets) = tokens(3, 16);
        let (_, reversal) = reverse(&model, form(&plan), inputs.clone().into(), targets);
        let embedded = rounded(model.enter(inputs.into()).x).inner().into_data();
        for stream in reversal.streams {
            assert_eq!(stream.into_data(), embedded, "{case}");
        }
    }
}

#[test]
fn gradients_are_those_of_ordinary_autodiff() {
    for case in CASES {
        let plan = plan(case);
        let mut model = model(&plan);
        let (expected, (loss, all)) = (
            ordinary(&mut model, 3, 16),
            reversed(&mut model, form(&plan), 3, 16),
        );
        assert_eq!(loss, expected.0, "{case}");
        assert_same(&all, &expected.1, case);
        // an expert that got no token has none
        assert!(
            all.len() >= 3 * 9 + 2 || case.contains("lsh") || case.contains("experts"),
            "{case}"
        );
    }
}

#[test]
fn low_rank_additions_get_the_same_gradients_and_frozen_weights_none() {
    for (case, feed_forward) in [
        ("kv_heads = 2", false),
        (
            "attention = 'rwkv'\nfeed_forward = 'channel_mix'\nff_chunks = 3",
            true,
        ),
        ("experts = 4\nrouter = 'switch'\ncapacity_factor = 1.0", true),
    ] {
        let plan = plan(case);
        let mut model = model(&plan);
        let low_rank = lora::LoraPlan {
            rank: 3,
            alpha: 6.0,
            feed_forward,
            base: None,
        };
        lora::attach(&mut model, low_rank, &mut Initial::new(5, 2, Default::default()));
        let mut initial = Initial::<A>::new(9, 2, Default::default());
        crate::model::Parts::each_part(&mut model, "", &mut |_, part| {
            if let crate::model::Part::Matrix(Matrix::LowRank(low_rank)) = part {
                let [out, rank] = low_rank.b.dims();
                low_rank.b = Param::from_tensor(initial.normal(out, rank, 0.2));
            }
        });
        let (expected, (loss, all)) = (
            ordinary(&mut model, 2, 16),
            reversed(&mut model, form(&plan), 2, 16),
        );
        assert_eq!(loss, expected.0, "{case}");
        assert_same(&all, &expected.1, case);
        let (inputs, targets) = tokens(2, 16);
        let ((_, macs), skipped) =
            count_skipped(|| count_macs(|| drop(gradients(&model, form(&plan), inputs.into(), targets))));
        let formula = plan.model.training_pass(
            2,
            16,
            Trainable::LowRank {
                rank: 3,
                feed_forward,
            },
        );
        assert_eq!(macs + skipped.total(), formula.total(), "{case}");
    }
}

#[test]
fn chunks_change_nothing() {
    for case in [
        "attention = 'full'",
        "attention = 'rwkv'\nfeed_forward = 'channel_mix'",
    ] {
        let whole = plan(case);
        let mut model = model(&whole);
        let expected = reversed(&mut model, form(&whole), 3, 13);
        for ff_chunks in [2, 3, 8, 13] {
            let form = Reversible { ff_chunks };
            model.reversible = Some(form);
            // products of other shapes are summed up in another order on some processors
            let (loss, all) = reversed(&mut model, form, 3, 13);
            assert!(
                (loss - expected.0).abs() < 1e-5,
                "{case} {ff_chunks}: {loss} {}",
                expected.0
            );
            assert_same(&all, &expected.1, case);
        }
    }
}

/// Bytes of a step's forward and backward pass beyond the gradients of the weights, which it hands over.
fn activations(fixed: &str, keep: bool) -> u64 {
    let plan = plan(&format!("{fixed}\ncontext = 64"));
    let mut model = model(&plan);
    let (inputs, targets) = tokens(16, 64);
    let pass = |model: &Model<A>| {
        if keep {
            let logits = model
                .forward(inputs.clone())
                .logits
                .reshape([16 * 64, VOCABULARY]);
            cross_entropy(logits, targets.clone()).backward()
        } else {
            gradients(model, form(&plan), inputs.clone().into(), targets.clone()).1
        }
    };
    drop(pass(&model));
    let (all, bytes) = peak_bytes(|| pass(&model));
    let gradients: usize = named(&mut model, &all)
        .iter()
        .map(|(_, values)| 4 * values.len())
        .sum();
    bytes - gradients as u64
}

#[test]
fn memory_does_not_grow_with_the_number_of_blocks_and_shrinks_with_chunks() {
    for attention in [
        "attention = 'full'",
        "attention = 'lsh'\nlsh_chunk = 16",
        "attention = 'rwkv'",
    ] {
        let at = |layers: usize, keep| activations(&format!("{attention}\nlayers = {layers}"), keep);
        let (two, twelve) = (at(2, false), at(12, false));
        assert!(
            twelve as f64 <= 1.03 * two as f64,
            "{attention}: {two} to {twelve} bytes"
        );
        let (kept_two, kept_twelve) = (at(2, true), at(12, true));
        assert!(
            kept_twelve as f64 > 4.0 * kept_two as f64,
            "{attention}: {kept_two} to {kept_twelve} bytes"
        );
        assert!(two < kept_two);
    }
    // where the hidden activations are the most
    let chunked = |n: usize| {
        activations(
            &format!("attention = 'rwkv'\nffn_ratio = 16\nff_chunks = {n}"),
            false,
        )
    };
    let (one, four, sixteen) = (chunked(1), chunked(4), chunked(16));
    assert!(four < one / 2 && sixteen < four, "{one}, {four}, {sixteen} bytes");
}

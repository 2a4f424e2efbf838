//! Known answers of single techniques.

use burn::{
    backend::Flex,
    module::{AutodiffModule, Param},
    tensor::{Tensor, TensorData},
};
use evaluator::{
    counter::{count_macs, skipped},
    model::{Initial, Matrix, Model, Part, Parts, TensorMut, Trainable, each_tensor},
    ops::cross_entropy,
    techniques::{
        fine_tuning::lora,
        pruning::{self, Importance, LayerImportance},
    },
};

use crate::support::{A, VOCABULARY, compress, plan, random_weights, tokens};

pub(crate) fn logits(model: &Model<Flex>, seed: u32) -> Vec<f32> {
    model
        .forward(tokens::<Flex>(2, 16, seed))
        .logits
        .into_data()
        .iter()
        .collect()
}

pub(crate) fn worst(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A model with random weights of some size, so that nothing is near zero by accident.
pub(crate) fn random_model<B: evaluator::ops::Ops>(fixed: &str) -> (evaluator::plan::Plan, Model<B>) {
    let plan = plan(fixed);
    let mut model = Model::<B>::new(&plan.model, 3, &Default::default());
    random_weights(&mut model);
    (plan, model)
}

/// The central test of structured pruning: the smaller model is the larger one with the removed parts silenced.
#[test]
fn a_shrunk_model_equals_the_full_model_with_masked_structures() {
    for fixed in [
        "kv_heads = 2",
        "experts = 2\ntop_k = 2",
        "attention = 'rwkv'",
        "attention = 'aft'\naft_variant = 'conv'\naft_window = 5",
        "reversible = true\nff_chunks = 3",
    ] {
        let pruned = plan(&format!("{fixed}\nprune_ratio = 0.25\nhead_prune_ratio = 0.5"));
        let (full_plan, full) = random_model::<Flex>(fixed);
        let attention = full_plan.model.layers[0].attention;
        let (hidden, networks) = (
            full_plan.model.layers[0].feed_forward.hidden(),
            full_plan.model.layers[0].feed_forward.networks(),
        );
        let score = |n: usize, salt: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * 7919 + salt * 31) % 101) as f32).collect()
        };
        let importance = Importance {
            layers: (0..2)
                .map(|l| LayerImportance {
                    cross_heads: vec![],
                    influence: 0.0,
                    neurons: (0..networks).map(|e| score(hidden, l + 5 * e)).collect(),
                    heads: score(attention.kv_heads, l),
                })
                .collect(),
        };
        let mut small = full.clone();
        pruning::shrink(&mut small, &pruned.served, &importance);

        let mut masked = full.clone();
        let kept = |scores: &[f32], keep: usize| -> Vec<bool> {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
            (0..scores.len()).map(|i| order[..keep].contains(&i)).collect()
        };
        for (layer, block) in masked.blocks.iter_mut().enumerate() {
            let scores = &importance.layers[layer];
            let heads = kept(&scores.heads, pruned.served.layers[layer].attention.kv_heads);
            let width = attention.depth * attention.share();
            silence(
                &mut block.attention.output,
                &heads.iter().flat_map(|k| vec![*k; width]).collect::<Vec<_>>(),
            );
            for (network, scores) in block.feed_forward.networks_mut().into_iter().zip(&scores.neurons) {
                silence(
                    &mut network.down,
                    &kept(scores, pruned.served.layers[layer].feed_forward.hidden()),
                );
            }
        }
        assert!(worst(&logits(&small, 2), &logits(&masked, 2)) < 1e-3, "{fixed}");
        assert!(
            worst(&logits(&full, 2), &logits(&small, 2)) > 1e-2,
            "something was removed"
        );
        assert_eq!(
            small.blocks[0].feed_forward.networks_mut()[0].gate.dims()[0],
            hidden * 3 / 4
        );
        assert_eq!(
            small.blocks[0].attention.key.as_ref().unwrap().dims()[0],
            attention.depth * attention.kv_heads / 2
        );
        assert!(pruned.served.state_bytes() < full_plan.model.state_bytes());
        assert!(pruned.served.inference_flops_per_token() < full_plan.model.inference_flops_per_token());
    }
}

pub(crate) fn silence(matrix: &mut Matrix<Flex>, kept: &[bool]) {
    let mask: Vec<f32> = kept.iter().map(|k| f32::from(u8::from(*k))).collect();
    let mask = Tensor::<Flex, 2>::from_data(TensorData::new(mask, [1, kept.len()]), &Default::default());
    *matrix = Matrix::dense(matrix.as_dense().unwrap() * mask);
}

#[test]
fn shares_that_remove_nothing_or_everything_are_refused_before_training() {
    let read = |fixed: &str| {
        evaluator::plan::Plan::read(
            &crate::support::config(crate::support::recall(), fixed),
            VOCABULARY,
            None,
        )
    };
    let message = read("head_prune_ratio = 0.1").unwrap_err();
    assert!(
        message.contains("head_prune_ratio = 0.1 removes none of 4") && message.contains("0.250"),
        "{message}"
    );
    assert!(read("head_prune_ratio = 0.25").is_ok());
    for (fixed, part) in [
        ("heads = 5", "heads 5 does not divide width 32"),
        ("heads = 32", "rotary positions need an even number"),
        ("kv_heads = 3", "kv_heads 3 does not divide heads 4"),
        ("experts = 2\ntop_k = 3", "top_k 3 is above experts 2"),
        (
            "attention = 'sliding_window'\nwindow = 16",
            "it would be full attention",
        ),
        ("fine_tune = 'lora'", "needs a checkpoint"),
        (
            "reversible = true\nff_chunks = 16\ncontext = 8",
            "ff_chunks 16 is above context 8",
        ),
        (
            "reversible = true\nff_chunks = 2\nexperts = 4",
            "use ff_chunks = 1 or experts = 1",
        ),
    ] {
        let message = read(fixed).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn fewer_bits_are_further_away() {
    let (_, model) = random_model::<Flex>("layers = 2");
    let exact = logits(&model, 4);
    for method in ["rtn", "gptq", "awq"] {
        let errors = [8, 6, 5, 4, 3, 2].map(|bits| {
            let mut packed = model.clone();
            let fixed = format!("layers = 2\nbits = {bits}\nquant_method = '{method}'\nquant_group = 32");
            compress(&mut packed, &plan(&fixed));
            let off = exact.iter().zip(logits(&packed, 4)).map(|(a, b)| (a - b).powi(2));
            off.sum::<f32>()
        });
        // beyond 3 bits nothing is left of random weights that could be further away
        assert!(
            errors[..5].is_sorted() && errors[5] > errors[3] && errors[0] > 0.0,
            "{method}: {errors:?}"
        );
    }
}

fn lora_plan(feed_forward: bool) -> lora::LoraPlan {
    lora::LoraPlan {
        rank: 3,
        alpha: 6.0,
        feed_forward,
        base: None,
    }
}

#[test]
fn low_rank_additions_start_at_the_base_and_merge_to_the_same_model() {
    for feed_forward in [false, true] {
        let (_, base) = random_model::<A>("kv_heads = 2");
        let before = logits(&base.valid(), 6);
        let mut model = base.clone();
        lora::attach(
            &mut model,
            lora_plan(feed_forward),
            &mut Initial::new(5, 2, Default::default()),
        );
        assert_eq!(logits(&model.valid(), 6), before, "B starts at zero");

        // give B some value, as training would
        let mut initial = Initial::<A>::new(9, 2, Default::default());
        model.each_part("", &mut |_, part| {
            if let Part::Matrix(Matrix::LowRank(low_rank)) = part {
                let [out, rank] = low_rank.b.dims();
                low_rank.b = Param::from_tensor(initial.normal(out, rank, 0.2));
            }
        });
        let tuned = logits(&model.valid(), 6);
        assert!(worst(&tuned, &before) > 1e-2);
        lora::merge(&mut model);
        assert!(
            worst(&logits(&model.valid(), 6), &tuned) < 2e-3,
            "merged equals unmerged"
        );
    }
}

#[test]
fn only_low_rank_additions_get_gradients_and_the_work_is_the_formula() {
    for (fixed, feed_forward) in [
        ("kv_heads = 2", false),
        ("kv_heads = 1", true),
        ("attention = 'rwkv'\nfeed_forward = 'channel_mix'", true),
        ("attention = 'rwkv'", false),
        ("attention = 'linear'\nlinear_features = 'favor'", false),
        ("experts = 4\ntop_k = 2", true),
        ("experts = 4", false),
        ("experts = 4\ntop_k = 2\nrouter = 'noisy_top_k'", true),
        ("experts = 4\nrouter = 'switch'\ncapacity_factor = 1.0", true),
        ("experts = 4\nrouter = 'gshard'\ncapacity_factor = 1.0", false),
    ] {
        let (plan, mut model) = random_model::<A>(fixed);
        lora::attach(
            &mut model,
            lora_plan(feed_forward),
            &mut Initial::new(5, 2, Default::default()),
        );
        let skipped_before = skipped();
        let (loss, forward) = count_macs(|| {
            let out = model.forward(tokens::<A>(2, 16, 1));
            let loss = cross_entropy(
                out.logits.reshape([32, VOCABULARY]),
                tokens::<A>(2, 16, 2).reshape([32]),
            );
            out.auxiliary.map_or(loss.clone(), |b| loss + b)
        });
        let (grads, backward) = count_macs(|| loss.backward());
        let skipped = skipped() - skipped_before;
        let formula = plan.model.training_pass(
            2,
            16,
            Trainable::LowRank {
                rank: 3,
                feed_forward,
            },
        );
        assert_eq!(
            (forward + skipped.forward, backward + skipped.backward),
            (formula.forward, formula.backward),
            "{fixed} {feed_forward}"
        );
        let mut trained = vec![];
        each_tensor(&mut model, &mut |name, tensor| {
            let has = match tensor {
                TensorMut::Matrix(p) => p.val().grad(&grads).is_some(),
                TensorMut::Vector(p) => p.val().grad(&grads).is_some(),
            };
            if has {
                trained.push(name);
            }
        });
        assert!(
            !trained.is_empty()
                && trained
                    .iter()
                    .all(|n| n.ends_with("lora_a") || n.ends_with("lora_b")),
            "{trained:?}"
        );
    }
}

//! Known costs of kinds that look both ways, and what has no meaning for them.

use burn::{backend::Flex, module::AutodiffModule, tensor::Tensor};
use evaluator::{
    counter::count_macs,
    data::Symbols,
    model::{Initial, Model, Trainable},
    plan::Plan,
    techniques::fine_tuning::lora::{self, LoraPlan},
};

use crate::{
    kinds::{CLASSES, KINDS, read, symbols, values, worst},
    support::{A, VOCABULARY, config, recall, tokens},
};

/// Golden numbers: width 64, 2 layers, 4 heads, context 64; pairs in both directions cost 32,768 FLOPs for each token.
#[test]
fn the_known_costs_of_a_small_encoder_come_out() {
    let plan = |kind: &str| {
        let config = config(recall(), &format!("{kind}\nwidth = 64\nheads = 4\ncontext = 64"));
        Plan::read(
            &config,
            Symbols {
                vocabulary: 256,
                ..symbols()
            },
            None,
        )
        .unwrap()
    };
    let blocks = 2 * (4 * 64 * 64 + 3 * 64 * 192);
    let encoder = plan("kind = 'encoder'").model;
    assert_eq!(
        encoder.parameters(),
        (256 * 64 + blocks + 64 * 5 + CLASSES * 64) as u64
    );
    // the class is named once for all 64 tokens
    let flops = (2 * blocks + 32_768) as f64 + (2 * CLASSES * 64) as f64 / 64.0;
    assert_eq!(encoder.inference_flops_per_token(), flops);
    let step = encoder.training_pass(1, 64, Trainable::All);
    assert_eq!(step.total(), 3 * step.forward);
    let dual = plan("kind = 'dual_encoder'").model;
    let comparison = 4 * 64 * 64 + CLASSES * 64;
    assert_eq!(
        dual.parameters() - encoder.parameters(),
        (comparison - CLASSES * 64) as u64
    );
    let flops = (2 * blocks + 32_768) as f64 + (2 * comparison) as f64 / 128.0;
    assert_eq!(dual.inference_flops_per_token(), flops);
}

/// Low-rank additions to a model: their work on two examples of 16 tokens is the formula, and merged they give the same logits.
pub(crate) fn low_rank_is_counted_and_merges(
    what: &str,
    plan: &Plan,
    feed_forward: bool,
    trained: impl Fn(&Model<A>) -> Tensor<A, 3>,
    served: impl Fn(&Model<Flex>) -> Tensor<Flex, 3>,
) {
    let mut model = Model::<A>::new(&plan.model, 3, &Default::default());
    let lora = LoraPlan {
        rank: 3,
        alpha: 6.0,
        feed_forward,
        base: None,
    };
    lora::attach(&mut model, lora, &mut Initial::new(5, 2, Default::default()));
    let (loss, forward) = count_macs(|| trained(&model).square().sum());
    let (_, backward) = count_macs(|| loss.backward());
    let low_rank = Trainable::LowRank {
        rank: 3,
        feed_forward,
    };
    let formula = plan.model.training_pass(2, 16, low_rank);
    assert_eq!((forward, backward), (formula.forward, formula.backward), "{what}");
    let logits = |model: &Model<A>| values(served(&model.valid()).into_data());
    let before = logits(&model);
    lora::merge(&mut model);
    assert!(worst(&before, &logits(&model)) < 1e-5, "{what}");
}

#[test]
fn low_rank_additions_cost_what_the_formula_says() {
    for kind in KINDS {
        for (block, feed_forward) in [
            ("attention = 'full'", false),
            ("attention = 'linear'\nkv_heads = 2", true),
            ("attention = 'sliding_window'\nwindow = 5", true),
            ("experts = 4\nrouter = 'expert_choice'", true),
        ] {
            let plan = read(&format!("{kind}\n{block}")).unwrap();
            low_rank_is_counted_and_merges(
                &format!("{kind} {block}"),
                &plan,
                feed_forward,
                |model| {
                    let texts = 2 * plan.model.kind.form().texts();
                    model.forward(tokens::<A>(texts, 16, 1)).logits
                },
                |model| model.forward(tokens::<Flex>(2, 16, 2)).logits,
            );
        }
    }
}

#[test]
fn what_has_no_meaning_is_refused_in_one_sentence() {
    for (attention, settings) in [("rwkv", ""), ("lsh", "lsh_chunk = 3"), ("aft", "aft_rank = 8")] {
        let message = read(&format!(
            "kind = 'encoder'\nattention = '{attention}'\n{settings}"
        ))
        .unwrap_err();
        assert_eq!(
            message,
            format!(
                "attention '{attention}' looks back only in this form, and kind 'encoder' looks both ways; use full, \
                 tiled, sliding_window, linear, aft with aft_variant = 'simple', kde"
            )
        );
    }
    let single = "kind = 'encoder'\nattention_layer_2 = 'rwkv'";
    assert!(
        read(single)
            .unwrap_err()
            .starts_with("attention 'rwkv' looks back only")
    );
    let text = |kind: &str| {
        let config = config(recall(), &format!("kind = '{kind}'"));
        Plan::read(&config, VOCABULARY, None).unwrap_err()
    };
    assert!(text("encoder").contains("this data has no classes; use a corpus with one answer"));
    assert!(text("dual_encoder").contains("use corpus = \"retrieval\""));
    let plan = read("kind = 'encoder'").unwrap();
    let base = plan.model;
    let other = Symbols {
        classes: Some(2),
        ..symbols()
    };
    let message = Plan::read(&config(recall(), ""), other, Some(&base)).unwrap_err();
    assert!(
        message.starts_with("the model names 5 classes and the data has 2"),
        "{message}"
    );
}

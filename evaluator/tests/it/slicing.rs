//! A narrower residual stream: what it was with all of its components, and smaller everywhere with fewer.

use burn::{backend::Flex, module::AutodiffModule};
use evaluator::{
    Silent,
    data::{DataAccess, Dataset},
    evaluate,
    model::{Model, ModelPlan, Parts},
    plan::{Plan, TrainingPlan},
    techniques::pruning::{self},
    training::Batches,
};
use spaces::Config;

use crate::{
    encoder_decoder, kinds,
    oracles::{logits, worst},
    pruning::{elements, text, weights},
    support::{A, VOCABULARY, config, job, plan, random_weights, recall, tokens},
};

/// A model with random weights, and the same sliced as `plan` says.
fn sliced(model: &ModelPlan, plan: &ModelPlan, data: &Dataset, training: &TrainingPlan) -> [Model<Flex>; 2] {
    let mut full = Model::<A>::new(model, 3, &Default::default());
    random_weights(&mut full);
    let mut narrow = full.clone();
    pruning::slice(&mut narrow, plan, &Batches::new(data, 1, training));
    [full.valid(), narrow.valid()]
}

#[test]
fn a_model_turned_into_all_its_principal_components_is_what_it_was() {
    let listops = "[data]\ncorpus = 'listops'\nmax_depth = 3\nmax_args = 4\nmin_length = 4\nmax_length = 16\ntrain_examples = 400\nvalid_examples = 100";
    let listops = config(listops, "kind = 'encoder'").data;
    let (listops, markov) = (Dataset::load(&listops, &DataAccess::anywhere()).unwrap(), text());
    for (kind, fixed) in [
        ("decoder", "kv_heads = 2"),
        ("decoder", "experts = 4\nrouter = 'noisy_top_k'\ntop_k = 2"),
        (
            "decoder",
            "attention = 'linear'\nlinear_features = 'favor'\nlinear_random_features = 16",
        ),
        (
            "decoder",
            "attention = 'aft'\naft_variant = 'conv'\naft_window = 5\nattention_layer_2 = 'linear'",
        ),
        ("encoder", "pooling = 'cls'"),
        ("encoder", "attention = 'sliding_window'\nwindow = 5"),
        ("encoder_decoder", "corruption_rate = 0.4"),
    ] {
        let data = if kind == "encoder" { &listops } else { &markov };
        let config = config(recall(), &format!("kind = '{kind}'\n{fixed}"));
        let plan = Plan::read(&config, data.facts(), None).unwrap();
        let turned = ModelPlan {
            rotated: plan.model.kind.writes(),
            ..plan.model.clone()
        };
        let [full, mut narrow] = sliced(&plan.model, &turned, data, &plan.training);
        let (exact, found) = match kind {
            "encoder_decoder" => {
                let batch = encoder_decoder::batch(&plan, 16, &[16, 12]);
                let of = |model: &Model<Flex>| {
                    let logits = model.forward(encoder_decoder::inputs::<Flex>(&batch)).logits;
                    logits.into_data().iter().collect::<Vec<f32>>()
                };
                (of(&full), of(&narrow))
            }
            _ => {
                // tokens that both texts have
                let tokens = || tokens::<Flex>(2, 16, 2).remainder_scalar(15);
                let of = |model: &Model<Flex>| model.forward(tokens()).logits.into_data().iter().collect();
                (of(&full), of(&narrow))
            }
        };
        let most = exact.iter().fold(1.0, |most: f32, x| most.max(x.abs()));
        assert!(
            worst(&exact, &found) < 1e-4 * most,
            "{fixed}: {}",
            worst(&exact, &found)
        );
        assert_eq!(weights(&mut narrow), turned.parameters(), "{fixed}");
    }
}

#[test]
fn a_sliced_model_is_smaller_everywhere_and_nearer_the_more_is_kept() {
    let data = text();
    for fixed in ["kv_heads = 2", "experts = 2"] {
        let full_plan = plan(fixed).model;
        let off = [0.75, 0.5, 0.25].map(|ratio| {
            let plan = plan(&format!("{fixed}\nwidth_prune_ratio = {ratio}"));
            let kept = (32.0 * (1.0 - ratio)) as usize;
            assert_eq!(plan.served.width, kept);
            let [mut full, mut narrow] = sliced(&full_plan, &plan.served, &data, &plan.training);
            assert_eq!(weights(&mut narrow), plan.served.parameters(), "{fixed}");
            let mut shapes = vec![];
            full.each_part("", &mut |path, part| {
                shapes.push((path.to_owned(), elements(part)));
            });
            let mut at = 0;
            narrow.each_part("", &mut |path, part| {
                if path == "model.norm_scale" {
                    return;
                }
                assert_eq!(path, shapes[at].0);
                assert_eq!(elements(part) * 32, shapes[at].1 * kept, "{path}");
                at += 1;
            });
            assert_eq!(at, shapes.len());
            let (exact, found) = (logits(&full, 2), logits(&narrow, 2));
            exact
                .iter()
                .zip(&found)
                .map(|(a, b)| (a - b).powi(2))
                .sum::<f32>()
        });
        assert!(
            off[0] > off[1] && off[1] > off[2] && off[2] > 0.0,
            "{fixed}: {off:?}"
        );
    }
}

#[test]
fn widths_that_cannot_be_sliced_are_refused_before_training() {
    for (fixed, part) in [
        (
            "width_prune_ratio = 0.1",
            "removes none of width 32, since components come in multiples of 8; use 0 or at least 0.250",
        ),
        (
            "width_prune_ratio = 0.5\nwidth = 8",
            "cannot make width 8 smaller",
        ),
        (
            "width_prune_ratio = 0.5\nreversible = true",
            "use width_prune_ratio = 0 or reversible = false",
        ),
        (
            "width_prune_ratio = 0.5\nattention = 'rwkv'",
            "and rwkv has a weight for each of them",
        ),
        (
            "width_prune_ratio = 0.5\nfeed_forward = 'channel_mix'",
            "and channel_mix has a weight for each",
        ),
    ] {
        let message = Plan::read(&config(recall(), fixed), VOCABULARY, None).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
    let message = kinds::read("kind = 'dual_encoder'\nwidth_prune_ratio = 0.5").unwrap_err();
    assert!(message.contains("or another kind"), "{message}");
}

#[test]
fn a_sliced_model_can_be_adapted_and_not_sliced_again() {
    let dir = tempfile::tempdir().unwrap();
    let evaluated = |config: Config, folder: &str| {
        let work = dir.path().join(folder);
        let result = evaluate(&job(config, &work), &mut Silent);
        result.map(|result| (result, work.join("bundle")))
    };
    let fixed = "width_prune_ratio = 0.25\nlayer_prune_ratio = 0.5\nrecovery = 0.2";
    let (result, base) = evaluated(config(recall(), fixed), "base").unwrap();
    assert!(result.activity["sliced_components"] == 8 && result.activity["removed_layers"] == 1);
    let adapt = |fixed: &str| {
        let text = format!(
            "{}\n[base]\npath = \"{}\"\n[fixed]\ncontext = 16\nbatch = 4\ntokens = 640\n{fixed}\n",
            recall(),
            base.display()
        );
        spaces::study::config_from_toml(&text, &evaluator::catalog()).unwrap()
    };
    // work that was counted otherwise than the formula says would fail it
    evaluated(
        adapt("fine_tune = 'lora'\nlora_rank = 2\nprune_ratio = 0.5"),
        "lora",
    )
    .unwrap();
    let again = evaluated(adapt("fine_tune = 'full'\nwidth_prune_ratio = 0.5"), "again");
    let message = again.unwrap_err().to_string();
    assert!(
        message.contains("slices a base that was sliced before"),
        "{message}"
    );
}

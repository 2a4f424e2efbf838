//! Known answers of pruning to a latency target: what is left is the model without the rest, the layers that matter less keep
//! less, and what was found goes with the model. Times are those of a formula.

use std::cell::Cell;

use burn::{backend::Flex, module::AutodiffModule};
use evaluator::{
    EvaluationError,
    counter::count_macs,
    model::{Matrix, Model, ModelPlan},
    techniques::pruning::{
        self,
        latency::{FoundSizes, LayerSize, Losses, TimeTable, give, losses},
    },
    training::Batches,
};

use crate::{
    oracles::{logits, random_model, silence, worst},
    pruning::{text, weights},
    support::{A, plan, random_weights},
};

/// Times that add up: the work of a full-length example.
pub(crate) fn by_work(plan: &ModelPlan) -> f64 {
    plan.serving_macs() as f64
}

/// Other times that add up, in which heads take nearly all.
pub(crate) fn by_heads(plan: &ModelPlan) -> f64 {
    let heads: usize = plan.layers.iter().map(|layer| layer.attention.kv_heads).sum();
    plan.serving_macs() as f64 + 1e7 * heads as f64
}

pub(crate) fn sizes(plan: &ModelPlan) -> Vec<LayerSize> {
    let size = |layer: &evaluator::model::LayerPlan| LayerSize {
        neurons: layer.feed_forward.hidden(),
        kv_heads: layer.attention.kv_heads,
    };
    plan.layers.iter().map(size).collect()
}

/// The central test: layers of different sizes are the larger ones with the removed parts silenced.
#[test]
fn layers_of_different_sizes_equal_the_full_ones_with_masked_structures() {
    for fixed in [
        "kv_heads = 4",
        "kv_heads = 4\nexperts = 2\ntop_k = 2",
        "attention = 'rwkv'",
        "attention = 'aft'\naft_variant = 'conv'\naft_window = 5",
        "attention_layer_2 = 'linear'\nreversible = true",
    ] {
        let (full_plan, mut full) = random_model::<A>(&format!("{fixed}\nlayers = 3"));
        let kept = [(24, 3), (96, 1), (8, 4)].map(|(neurons, kv_heads)| LayerSize { neurons, kv_heads });
        let mut small_plan = full_plan.model.clone();
        give(&mut small_plan, &kept);
        let criterion = plan("prune_ratio = 0.5\nprune_criterion = 'magnitude'")
            .pruning
            .unwrap();
        let data = text();
        let importance = pruning::judge(
            &mut full,
            criterion,
            &full_plan.model,
            &Batches::new(&data, 1, &full_plan.training),
        );
        let (mut small, mut masked) = (full.valid(), full.valid());
        pruning::shrink(&mut small, &small_plan, &importance);
        let stay = |scores: &[f32], keep: usize| -> Vec<bool> {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
            (0..scores.len()).map(|i| order[..keep].contains(&i)).collect()
        };
        for ((block, scores), kept) in masked.blocks.iter_mut().zip(&importance.layers).zip(kept) {
            let attention = full_plan.model.layers[0].attention;
            let heads = stay(&scores.heads, kept.kv_heads);
            let each = attention.depth * attention.share();
            let columns: Vec<bool> = heads.iter().flat_map(|stays| vec![*stays; each]).collect();
            silence(&mut block.attention.output, &columns);
            for (network, scores) in block.feed_forward.networks_mut().into_iter().zip(&scores.neurons) {
                silence(&mut network.down, &stay(scores, kept.neurons));
            }
        }
        let (of_small, of_masked) = (logits(&small, 2), logits(&masked, 2));
        let largest = of_masked.iter().fold(1.0f32, |most, x| most.max(x.abs()));
        let off = worst(&of_small, &of_masked) / largest;
        println!("{fixed}: {off:e} of {largest}");
        assert!(off < 1e-5, "{fixed}: {off}");
        assert!(worst(&of_small, &logits(&full.valid(), 2)) > 1e-2, "{fixed}");
        // tensors are smaller, and all that follows from the shape is exact
        assert_eq!(weights(&mut small), small_plan.parameters(), "{fixed}");
        for (block, kept) in small.blocks.iter_mut().zip(kept) {
            let depth = small_plan.layers[0].attention.depth;
            assert_eq!(
                block.attention.value.dims(),
                [kept.kv_heads * depth, 32],
                "{fixed}"
            );
            for network in block.feed_forward.networks_mut() {
                assert_eq!(network.down.dims(), [32, kept.neurons], "{fixed}");
            }
        }
        let mut memory = small.memory(&small_plan, 1, 16);
        let ((), macs) = count_macs(|| {
            for token in 0..16 {
                let token = crate::support::tokens::<Flex>(1, 1, token);
                small.extend(token, &mut memory);
            }
        });
        assert_eq!(macs, small_plan.serving_macs(), "{fixed}");
        assert!(
            small_plan.state_bytes() < full_plan.model.state_bytes(),
            "{fixed}"
        );
    }
}

#[test]
fn a_layer_that_adds_next_to_nothing_is_cut_to_the_least_and_losses_cost_what_was_foretold() {
    let data = text();
    let fixed = "layers = 3\nkv_heads = 4";
    let plan = plan(&format!("{fixed}\nprune_latency = 0.75"));
    let shape = ModelPlan {
        vocabulary: data.vocab,
        ..plan.model.clone()
    };
    let mut model = Model::<A>::new(&shape, 3, &Default::default());
    random_weights(&mut model);
    let almost = |matrix: &Matrix<A>| Matrix::dense((matrix.as_dense().unwrap() * 1e-4).detach());
    let block = &mut model.blocks[1];
    block.attention.output = almost(&block.attention.output);
    for network in block.feed_forward.networks_mut() {
        network.down = almost(&network.down);
    }
    let batches = Batches::new(&data, 1, &plan.training);
    let importance = pruning::judge(&mut model, plan.pruning.unwrap(), &shape, &batches);
    let mut times = |cut: &ModelPlan| Ok::<_, EvaluationError>([by_work(&shape), by_work(cut)]);
    let table = TimeTable::measure(&shape, &mut times).unwrap();
    let asked = Cell::new(0);
    let mut go_on = || {
        asked.set(asked.get() + 1);
        Ok::<_, EvaluationError>(())
    };
    let reader = model.valid();
    let lost = losses((&reader, &shape), &importance, &table, &batches, &mut go_on).unwrap();
    // three smaller numbers of heads and seven of neurons
    assert_eq!(asked.get(), 3 * (3 + 7));
    for of_part in &lost {
        assert!(of_part[1].iter().all(|loss| loss.abs() < 1e-3), "{of_part:?}");
        // one of random weights gains as often as it loses
        assert!(
            of_part[0][0].abs() > 0.01 && of_part[2][0].abs() > 0.01,
            "{of_part:?}"
        );
    }
    let size = |sizes: &Vec<f64>| sizes.iter().map(|loss| loss.abs()).collect();
    let by_size = lost.iter().map(|part| part.iter().map(size).collect());
    let by_size: Losses = by_size.collect();
    let found = FoundSizes::find(&shape, &table, &by_size, 0.75, &mut times)
        .unwrap()
        .unwrap();
    println!("{found:?}");
    assert_eq!(
        found.layers[1],
        LayerSize {
            neurons: 16,
            kv_heads: 1
        }
    );
    assert!(found.layers[0].neurons > 16 && found.layers[2].neurons > 16);
    assert!(found.measured <= 0.75 && found.predicted <= 0.75);
    // the importance that chose, the same for every size
    let again = losses((&reader, &shape), &importance, &table, &batches, &mut go_on).unwrap();
    assert_eq!(lost, again);
}

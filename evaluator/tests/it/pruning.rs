//! Known answers of what structured pruning removes, and how it finds it.

use burn::{
    backend::Flex,
    module::AutodiffModule,
    tensor::{Tensor, TensorData},
};
use evaluator::{
    Job, Silent,
    data::{DataAccess, Dataset},
    evaluate,
    model::{Block, Matrix, Model, ModelPlan, Part, Parts},
    plan::Plan,
    techniques::pruning::{self, Importance, LayerImportance},
    training::Batches,
};
use spaces::DataSpec;

use crate::{
    encoder_decoder,
    evaluation::values,
    oracles::{logits, random_model, worst},
    support::{A, VOCABULARY, config, job, plan, random_weights, recall, text_data},
};

/// A text to judge on.
pub(crate) fn text() -> Dataset {
    let spec = DataSpec {
        corpus: "markov".into(),
        options: [("length".to_owned(), 4000i64.into())].into(),
    };
    Dataset::load(&spec, &DataAccess::anywhere()).unwrap()
}

/// Turns a block into one that adds nothing to the residual stream.
fn silence(block: &mut Block<Flex>) {
    block.each_part("", &mut |path, part| {
        let adds = ["o_proj", "down_proj", "w2", "mlp.v_proj"];
        if let Part::Matrix(matrix) = part
            && adds.iter().any(|name| path.ends_with(name))
        {
            *matrix = Matrix::dense(matrix.as_dense().unwrap() * 0.0);
        }
    });
}

fn by_influence(influences: &[f32]) -> Importance {
    let layer = |influence: &f32| LayerImportance {
        influence: *influence,
        ..LayerImportance::default()
    };
    Importance {
        layers: influences.iter().map(layer).collect(),
    }
}

pub(crate) fn elements(part: Part<'_, Flex>) -> usize {
    match part {
        Part::Matrix(m) | Part::Small(m) => m.weights(),
        Part::Vector(v) => v.dims()[0],
    }
}

pub(crate) fn weights(model: &mut Model<Flex>) -> u64 {
    let mut sum = 0;
    model.each_part("", &mut |_, part| sum += elements(part));
    sum as u64
}

#[test]
fn a_model_without_some_blocks_equals_the_full_one_in_which_they_do_nothing() {
    for fixed in [
        "kv_heads = 2",
        "attention = 'rwkv'\nfeed_forward = 'channel_mix'",
        "attention = 'linear'\nlinear_features = 'favor'\nexperts = 2\ntop_k = 2",
        "attention = 'lsh'\nlsh_chunk = 3\nlsh_buckets = 4",
        "reversible = true\nff_chunks = 3",
    ] {
        let fixed = format!("layers = 4\n{fixed}");
        let (full_plan, full) = random_model::<Flex>(&fixed);
        let pruned = plan(&format!("{fixed}\nlayer_prune_ratio = 0.5")).served;
        let mut small = full.clone();
        pruning::shrink(&mut small, &pruned, &by_influence(&[0.2, 0.9, 0.1, 0.5]));
        let mut silent = full.clone();
        for removed in [0, 2] {
            silence(&mut silent.blocks[removed]);
        }
        let (small_logits, silent_logits) = (logits(&small, 2), logits(&silent, 2));
        let off = worst(&small_logits, &silent_logits);
        assert!(off < 1e-5, "{fixed}: {off}");
        assert!(worst(&small_logits, &logits(&full, 2)) > 1e-2, "{fixed}");
        assert_eq!((small.blocks.len(), pruned.layers.len()), (2, 2));
        assert_eq!(weights(&mut small), pruned.parameters(), "{fixed}");
        // two of four blocks: all that is remembered and computed in blocks is half
        assert_eq!(2 * pruned.state_bytes(), full_plan.model.state_bytes(), "{fixed}");
        let head = (pruned.vocabulary * pruned.width) as u64;
        let blocks = |plan: &ModelPlan| plan.decoding_macs(3) - head;
        assert_eq!(2 * blocks(&pruned), blocks(&full_plan.model), "{fixed}");
    }
}

#[test]
fn blocks_are_removed_from_both_halves() {
    let of = |fixed: &str| encoder_decoder::read(&format!("layers = 3\n{fixed}")).unwrap();
    let (full_plan, pruned) = (of("").model, of("layer_prune_ratio = 0.34").served);
    assert_eq!((full_plan.layers.len(), full_plan.kind.reading()), (6, 3));
    assert_eq!((pruned.layers.len(), pruned.kind.reading()), (4, 2));
    let mut full = Model::<Flex>::new(&full_plan, 3, &Default::default());
    random_weights(&mut full);
    let mut small = full.clone();
    // the lowest of all is in the second half twice, yet each half loses one
    let importance = by_influence(&[0.5, 0.4, 0.6, 0.1, 0.3, 0.2]);
    pruning::shrink(&mut small, &pruned, &importance);
    for removed in [1, 3] {
        silence(&mut full.blocks[removed]);
    }
    let batch = encoder_decoder::batch(&of(""), 16, &[16, 12]);
    let logits = |model: &Model<Flex>| -> Vec<f32> {
        let logits = model.forward(encoder_decoder::inputs::<Flex>(&batch)).logits;
        logits.into_data().iter().collect()
    };
    assert!(worst(&logits(&small), &logits(&full)) < 1e-5);
    assert_eq!(weights(&mut small), pruned.parameters());
}

#[test]
fn removing_no_block_changes_nothing() {
    let (plan, full) = random_model::<Flex>("layers = 3\nkv_heads = 2");
    let mut same = full.clone();
    let layers = plan.model.layers.iter().map(|layer| LayerImportance {
        neurons: vec![vec![1.0; layer.feed_forward.hidden()]],
        heads: vec![1.0; layer.attention.kv_heads],
        ..LayerImportance::default()
    });
    let importance = Importance {
        layers: layers.collect(),
    };
    pruning::shrink(&mut same, &plan.model, &importance);
    assert_eq!(logits(&same, 2), logits(&full, 2));
}

#[test]
fn the_block_that_adds_next_to_nothing_has_the_least_influence() {
    let data = text();
    for (fixed, idle) in [
        ("layers = 3", 1),
        ("layers = 3\nexperts = 2", 0),
        ("layers = 4\nreversible = true", 2),
    ] {
        let plan = plan(&format!("{fixed}\nlayer_prune_ratio = 0.34"));
        let mut model = Model::<A>::new(&plan.model, 3, &Default::default());
        random_weights(&mut model);
        let block = &mut model.blocks[idle];
        let almost = |matrix: &Matrix<A>| Matrix::dense((matrix.as_dense().unwrap() * 1e-3).detach());
        block.attention.output = almost(&block.attention.output);
        for network in block.feed_forward.networks_mut() {
            network.down = almost(&network.down);
        }
        let batches = Batches::new(&data, 1, &plan.training);
        let importance = pruning::judge(&mut model, plan.pruning.unwrap(), &plan.model, &batches);
        let influences: Vec<f32> = importance.layers.iter().map(|l| l.influence).collect();
        let least = influences[idle];
        assert!((0.0..0.01).contains(&least), "{influences:?}");
        let others = influences.iter().enumerate().filter(|(i, _)| *i != idle);
        assert!(
            others.into_iter().all(|(_, other)| *other > 10.0 * least),
            "{influences:?}"
        );

        let mut small = model.valid();
        pruning::shrink(&mut small, &plan.served, &importance);
        if fixed.contains("experts") {
            // next to nothing is enough to send a token to another expert
            continue;
        }
        assert!(
            worst(&logits(&small, 2), &logits(&model.valid(), 2)) < 0.1,
            "{fixed}"
        );
    }
}

#[test]
fn neurons_and_heads_that_put_out_nothing_go_first() {
    let data = text();
    for fixed in ["kv_heads = 2", "experts = 2", "reversible = true\nff_chunks = 2"] {
        let plan = plan(&format!(
            "{fixed}\nprune_ratio = 0.25\nhead_prune_ratio = 0.5\nprune_criterion = 'activation'"
        ));
        let layer = &plan.model.layers[0];
        let (groups, depth) = (layer.attention.kv_heads, layer.attention.depth);
        let hidden = layer.feed_forward.hidden();
        let mut model = Model::<A>::new(&plan.model, 3, &Default::default());
        random_weights(&mut model);
        let of_kept = |kept: Vec<bool>| {
            let kept: Vec<f32> = kept.into_iter().map(|k| f32::from(u8::from(k))).collect();
            Tensor::<A, 2>::from_data(
                TensorData::new(kept.clone(), [kept.len(), 1]),
                &Default::default(),
            )
        };
        // every fourth neuron and every other group of heads, by weights that come before what they put out
        let neurons = of_kept((0..hidden).map(|i| i % 4 != 1).collect());
        let heads = of_kept((0..groups * depth).map(|i| (i / depth) % 2 == 0).collect());
        let silenced = |matrix: &Matrix<A>, kept: &Tensor<A, 2>| {
            Matrix::dense((matrix.as_dense().unwrap() * kept.clone()).detach())
        };
        for block in &mut model.blocks {
            block.attention.value = silenced(&block.attention.value, &heads);
            for network in block.feed_forward.networks_mut() {
                network.up = silenced(&network.up, &neurons);
            }
        }
        let batches = Batches::new(&data, 1, &plan.training);
        let importance = pruning::judge(&mut model, plan.pruning.unwrap(), &plan.model, &batches);
        for layer in &importance.layers {
            let silent = |scores: &[f32]| scores.iter().filter(|score| **score == 0.0).count();
            assert_eq!(silent(&layer.heads), groups / 2, "{fixed}: {:?}", layer.heads);
            assert!(
                layer.neurons.iter().all(|scores| silent(scores) == hidden / 4),
                "{fixed}"
            );
        }
        let mut small = model.valid();
        pruning::shrink(&mut small, &plan.served, &importance);
        assert!(
            worst(&logits(&small, 2), &logits(&model.valid(), 2)) < 1e-3,
            "{fixed}"
        );
    }
}

#[test]
fn layers_that_cannot_be_removed_are_refused_before_training() {
    let read = |fixed: &str| Plan::read(&config(recall(), fixed), VOCABULARY, None).unwrap_err();
    for (fixed, part) in [
        (
            "layer_prune_ratio = 0.25",
            "removes none of 2 layers; use 0 or at least 0.500",
        ),
        ("layer_prune_ratio = 0.5\nlayers = 1", "use layer_prune_ratio = 0"),
        (
            "layer_prune_ratio = 0.5\nattention_layer_2 = 'linear'",
            "attention_layer_1 and so on 'same'",
        ),
        (
            "layer_prune_ratio = 0.5\nexperts = 2\nmoe_every = 2",
            "or layers alike: attention_layer_1 and so on 'same', moe_every = 1",
        ),
    ] {
        let message = read(fixed);
        assert!(
            message.contains(part) && message.contains("layer_prune_ratio = 0."),
            "{message}"
        );
    }
}

#[test]
fn training_recovers_what_removed_layers_and_components_cost() {
    let dir = tempfile::tempdir().unwrap();
    for pruned in ["layer_prune_ratio = 0.5", "width_prune_ratio = 0.5"] {
        let loss = |recovery: f64| {
            let fixed = format!("tokens = 12800\nrecovery = {recovery}\n{pruned}");
            let work = dir.path().join(format!("{pruned} {recovery}"));
            let result = evaluate(&job(config(recall(), &fixed), &work), &mut Silent).unwrap();
            let loss = result.measurements.iter().find(|m| m.metric == "validation_loss");
            loss.unwrap().value
        };
        let (without, with) = (loss(0.0), loss(0.3));
        assert!(with < without, "{pruned}: {with} {without}");
    }
}

#[test]
fn a_base_that_is_not_trained_recovers_for_a_share_of_its_budget() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 8000);
    let base = dir.path().join("base");
    evaluate(&job(config(&data, "tokens = 640"), &base), &mut Silent).unwrap();
    for (name, target, steps) in [("whole", 1.0, 4.0), ("part", 0.5, 2.0)] {
        let text = format!(
            "{data}\n[base]\npath = \"{}\"\n[fixed]\ncontext = 16\nbatch = 4\ntokens = 1280\nrecovery = 0.2\nfine_tune = 'none'\nprune_ratio = 0.5\n",
            base.join("bundle").display()
        );
        let config = spaces::study::config_from_toml(&text, &evaluator::catalog()).unwrap();
        let job = Job {
            target,
            ..job(config, &dir.path().join(name))
        };
        let result = evaluate(&job, &mut Silent).unwrap();
        assert_eq!(values(&result)["training_tokens"], steps * 64.0, "{name}");
    }
}

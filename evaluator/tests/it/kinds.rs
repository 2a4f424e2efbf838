//! What every kind of model that names a class keeps with every attention that it can have.

use std::collections::BTreeMap;

use burn::{
    backend::Flex,
    module::Param,
    tensor::{Int, Tensor, TensorData},
};
use evaluator::{
    bundle::{self, Served},
    counter::{count_macs, count_skipped},
    data::{Batch, Symbols},
    model::{Inputs, Model, Part, Parts, TensorMut, Trainable, each_tensor},
    ops::{Lengths, cross_entropy},
    plan::Plan,
    training::gradients_of,
};

use crate::support::{A, VOCABULARY, compress, config, random_weights, recall, tokens};

pub(crate) const CLASSES: usize = 5;

pub(crate) const KINDS: &[&str] = &[
    "kind = 'encoder'",
    "kind = 'encoder'\npooling = 'cls'",
    "kind = 'dual_encoder'",
    "kind = 'dual_encoder'\npooling = 'cls'",
];

/// Attentions that see both ways, and what else a block can be made of.
pub(crate) const BLOCKS: &[&str] = &[
    "attention = 'full'",
    "kv_heads = 2\nhead_prune_ratio = 0.5",
    "attention = 'tiled'\nattention_block_q = 4\nattention_block_k = 3",
    "attention = 'sliding_window'\nwindow = 5",
    "attention = 'sliding_window'\nwindow = 2\nkv_heads = 1",
    "attention = 'linear'",
    "attention = 'linear'\nkv_heads = 2\nprune_ratio = 0.5\nbits = 8",
    "attention = 'aft'\naft_variant = 'simple'",
    "attention = 'kde'\nkde_samples = 4\nkde_block = 3\nkde_bits = 2",
    "attention = 'kde'\nkde_samples = 6\nkde_block = 0\nhead_prune_ratio = 0.5\nbits = 8",
    "attention_layer_2 = 'linear'\nbits = 4\nquant_group = 32",
    "layer_prune_ratio = 0.5\nprune_ratio = 0.25\nexperts = 2",
    "experts = 4\ntop_k = 2",
    "experts = 3\nrouter = 'switch'\ncapacity_factor = 1.0",
    "feed_forward = 'channel_mix'",
    "sparsity = 0.5\nsparsity_pattern = '2:4'\nkv_heads = 2",
    "sparsity = 0.8\nexperts = 2",
];

/// What only kinds that write nothing can have.
const READING_BLOCKS: &[&str] = &[
    "experts = 4\nrouter = 'expert_choice'",
    "experts = 3\nrouter = 'expert_choice'\ncapacity_factor = 2.0\nrouter_z_loss = 1e-3\nattention = 'linear'",
    "experts = 2\nrouter = 'expert_choice'\nmoe_every = 2\nprune_ratio = 0.5\nbits = 8",
];

pub(crate) fn symbols() -> Symbols {
    Symbols {
        vocabulary: VOCABULARY,
        classes: Some(CLASSES),
        pairs: true,
        answer_only: true,
    }
}

pub(crate) fn read(fixed: &str) -> Result<Plan, String> {
    Plan::read(&config(recall(), fixed), symbols(), None)
}

/// Every kind with every block.
pub(crate) fn each(mut check: impl FnMut(&str, Plan)) {
    for kind in KINDS {
        for block in BLOCKS.iter().chain(READING_BLOCKS) {
            let fixed = format!("{kind}\n{block}");
            check(&fixed, read(&fixed).unwrap());
        }
    }
}

pub(crate) fn served(plan: &Plan) -> Model<Flex> {
    let mut model = Model::<Flex>::new(&plan.served, 3, &Default::default());
    random_weights(&mut model);
    compress(&mut model, plan);
    model
}

fn rows<B: burn::tensor::backend::Backend>(tokens: Tensor<B, 2, Int>, lengths: &[usize]) -> Inputs<B> {
    Inputs {
        tokens,
        lengths: Some(Lengths::new(lengths.to_vec())),
        written: None,
    }
}

pub(crate) fn values(data: TensorData) -> Vec<f32> {
    data.iter().collect()
}

pub(crate) fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs() / (1.0 + b.abs()))
        .fold(0.0, f32::max)
}

/// Writes the served model of a plan, reads it again and compares bytes, shape and logits; gives the names of its weights.
pub(crate) fn come_back_from_files(
    fixed: &str,
    plan: &Plan,
    dims: [usize; 3],
    logits: impl Fn(&Model<Flex>) -> Tensor<Flex, 3>,
) -> Vec<String> {
    let spec = config(recall(), "").data;
    let data = evaluator::data::Dataset::load(&spec, &evaluator::data::DataAccess::anywhere()).unwrap();
    let mut model = served(plan);
    let (mut sum, mut names) = (0, vec![]);
    model.each_part("", &mut |name, part| {
        names.push(name.to_owned());
        sum += match part {
            Part::Matrix(m) | Part::Small(m) => m.weights() as u64,
            Part::Vector(v) => v.dims()[0] as u64,
        };
    });
    assert_eq!(plan.served.parameters(), sum, "{fixed}");
    let shape = Served {
        model: plan.served.clone(),
        quantization: plan.quantization,
    };
    assert_eq!(shape.standard_architecture(), None);
    let dir = tempfile::tempdir().unwrap();
    bundle::write_model(&mut model, &shape, &data.tokenizer, dir.path()).unwrap();
    let tokenizer = data.tokenizer.to_json().len() as u64;
    let foretold = bundle::served_bytes(&plan.served, plan.quantization, tokenizer);
    assert_eq!(bundle::measured_bytes(dir.path()).unwrap(), foretold, "{fixed}");
    let (back, read) = bundle::read_model::<Flex>(dir.path(), &Default::default()).unwrap();
    assert_eq!(read, shape, "{fixed}");
    let (a, b) = (logits(&model), logits(&back));
    assert_eq!(a.dims(), dims, "{fixed}");
    assert_eq!(a.into_data(), b.into_data(), "{fixed}");
    names
}

#[test]
fn parameters_bytes_and_logits_come_back_from_files() {
    each(|fixed, plan| {
        let examples = 4 / plan.model.kind.form().texts();
        come_back_from_files(fixed, &plan, [examples, 1, CLASSES], |model| {
            model
                .forward(rows(tokens::<Flex>(4, 16, 8), &[16, 3, 9, 1]))
                .logits
        });
    });
}

#[test]
fn counted_work_of_training_and_serving_is_the_formula() {
    let mut left_out = 0;
    each(|fixed, plan| {
        let model = Model::<A>::new(&plan.model, 3, &Default::default());
        let texts = plan.model.kind.form().texts();
        for (examples, n, lengths) in [
            (1, 1, [1, 1].as_slice()),
            (2, 16, &[16, 16, 16, 16]),
            (2, 11, &[11, 4, 1, 7]),
        ] {
            let inputs = rows(tokens::<A>(examples * texts, n, 1), &lengths[..examples * texts]);
            let classes = (0..examples as i32).collect::<Vec<_>>();
            let classes = TensorData::new(classes, [examples]);
            let classes = Tensor::<A, 1, Int>::from_data(classes, &Default::default());
            let ((loss, forward), skipped) = count_skipped(|| {
                count_macs(|| {
                    let out = model.forward(inputs);
                    let loss = cross_entropy(out.logits.reshape([examples, CLASSES]), classes);
                    out.auxiliary.map_or(loss.clone(), |balance| loss + balance)
                })
            });
            let (_, backward) = count_macs(|| loss.backward());
            let formula = plan.model.training_pass(examples, n, Trainable::All);
            assert_eq!(
                (forward + skipped.forward, backward + skipped.backward),
                (formula.forward, formula.backward),
                "{fixed} [{examples}, {n}]"
            );
            left_out += skipped.total();
        }
        let model = served(&plan);
        let example = tokens::<Flex>(texts, plan.served.context, 1);
        let (_, macs) = count_macs(|| model.forward(example));
        assert_eq!(macs, plan.served.serving_macs(), "{fixed}");
        let per_token = 2.0 * macs as f64 / (texts * plan.served.context) as f64;
        assert_eq!(plan.served.inference_flops_per_token(), per_token);
        assert_eq!(plan.served.state_bytes(), 0);
    });
    assert!(left_out > 0, "some of these rows are padded");
}

#[test]
fn padding_changes_nothing_whatever_it_holds_and_however_long_it_is() {
    each(|fixed, plan| {
        let model = served(&plan);
        let all = tokens::<Flex>(2, 16, 5);
        let text = |n: usize| all.clone().slice([0..2, 0..n]);
        let logits = |inputs: Inputs<Flex>| values(model.forward(inputs).logits.into_data());
        let alone = logits(text(6).into());
        for (n, lengths) in [(9, [6, 6]), (16, [6, 6])] {
            let padded = logits(rows(text(n), &lengths));
            assert!(worst(&padded, &alone) < 1e-5, "{fixed} padded to {n}");
        }
        let other = text(16).slice_assign([0..2, 6..16], tokens::<Flex>(2, 10, 77));
        assert!(worst(&logits(rows(other, &[6, 6])), &alone) < 1e-5, "{fixed}");
        // the first position of two layers sees a few tokens only
        if !(fixed.contains("cls") && fixed.contains("window")) {
            assert!(
                worst(&logits(text(16).into()), &alone) > 1e-3,
                "{fixed}: it is not deaf"
            );
        }
    });
}

/// The class is read from the first position, which a later token reaches only where attention looks ahead.
#[test]
fn earlier_outputs_depend_on_later_tokens() {
    for block in BLOCKS.iter().chain(READING_BLOCKS) {
        for kind in ["encoder", "dual_encoder"] {
            let fixed = format!("kind = '{kind}'\npooling = 'cls'\n{block}");
            let plan = read(&fixed).unwrap();
            let model = served(&plan);
            let before = tokens::<Flex>(2, 16, 5);
            let change = tokens::<Flex>(2, 1, 9);
            let after = before.clone().slice_assign([0..2, 1..2], change);
            let logits = |t| values(model.forward(t).logits.into_data());
            let moved = worst(&logits(before), &logits(after));
            assert!(moved > 1e-4, "{fixed}: {moved}");
        }
    }
}

#[test]
fn without_positions_the_order_of_tokens_says_nothing() {
    let model = served(&read("kind = 'encoder'\nattention = 'aft'\naft_variant = 'simple'").unwrap());
    let x = tokens::<Flex>(3, 16, 5);
    let logits = |t| values(model.forward(t).logits.into_data());
    assert!(worst(&logits(x.clone()), &logits(x.flip([1]))) < 1e-5);
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    for kind in KINDS {
        for block in &BLOCKS[..8] {
            let fixed = format!("{kind}\n{block}");
            let plan = read(&fixed).unwrap();
            let mut model = Model::<A>::new(&plan.model, 3, &Default::default());
            random_weights(&mut model);
            let examples = 4 / plan.model.kind.form().texts();
            let loss = |model: &Model<A>| {
                let logits = model.forward(rows(tokens::<A>(4, 11, 1), &[11, 4, 1, 7])).logits;
                let classes = TensorData::new((0..examples as i32).collect(), [examples]);
                let classes = Tensor::<A, 1, Int>::from_data(classes, &Default::default());
                cross_entropy(logits.reshape([examples, CLASSES]), classes)
            };
            let gradients = loss(&model).backward();
            let mut found: BTreeMap<String, Vec<f32>> = BTreeMap::new();
            let mut square = 0.0;
            each_tensor(&mut model, &mut |name, tensor| {
                let gradient = match tensor {
                    TensorMut::Matrix(p) => p.val().grad(&gradients).map(|g| values(g.into_data())),
                    TensorMut::Vector(p) => p.val().grad(&gradients).map(|g| values(g.into_data())),
                };
                let gradient = gradient.unwrap_or_else(|| panic!("{fixed}: nothing reaches {name}"));
                square += gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
                found.insert(name, gradient);
            });
            // along its gradient the loss changes by the gradient's square
            let moved = |by: f64| {
                let mut model = model.clone();
                each_tensor(&mut model, &mut |name, tensor| {
                    let step = |shape: &[usize]| {
                        let values: Vec<f32> = found[&name].iter().map(|g| g * by as f32).collect();
                        TensorData::new(values, shape.to_vec())
                    };
                    match tensor {
                        TensorMut::Matrix(p) => {
                            let step = Tensor::from_data(step(&p.dims()), &Default::default());
                            *p = Param::from_tensor((p.val() + step).detach());
                        }
                        TensorMut::Vector(p) => {
                            let step = Tensor::from_data(step(&p.dims()), &Default::default());
                            *p = Param::from_tensor((p.val() + step).detach());
                        }
                    }
                });
                f64::from(loss(&model).into_scalar())
            };
            let by = 3e-3 / square;
            let slope = (moved(by) - moved(-by)) / (2.0 * by);
            assert!((slope / square - 1.0).abs() < 0.03, "{fixed}: {slope} {square}");
        }
    }
}

#[test]
fn reversible_layers_give_the_gradients_of_the_same_network_with_everything_kept() {
    for kind in KINDS {
        for block in [
            "attention = 'full'\nff_chunks = 3",
            "attention = 'linear'",
            "experts = 4\ntop_k = 2",
            "experts = 4\nrouter = 'expert_choice'\nrouter_z_loss = 1e-3",
        ] {
            let fixed = format!("{kind}\nreversible = true\n{block}");
            let plan = read(&fixed).unwrap();
            let mut model = Model::<A>::new(&plan.model, 3, &Default::default());
            random_weights(&mut model);
            let (examples, lengths) = (4 / plan.model.kind.form().texts(), vec![11, 4, 1, 7]);
            let ids = tokens::<A>(4, 11, 1);
            let step = Batch {
                batch: 4,
                context: 11,
                inputs: ids.to_data().iter::<u32>().collect(),
                lengths: lengths.clone(),
                written: vec![],
                targets: (0..examples as i32).collect(),
            };
            let out = model.forward(rows(ids, &lengths));
            let classes = TensorData::new(step.targets.clone(), [examples]);
            let classes = Tensor::<A, 1, Int>::from_data(classes, &Default::default());
            let kept = cross_entropy(out.logits.reshape([examples, CLASSES]), classes);
            let kept = out.auxiliary.map_or(kept.clone(), |more| kept + more).backward();
            let (_, reversed) = gradients_of(&model, step);
            each_tensor(&mut model, &mut |name, tensor| {
                let [kept, reversed] = [&kept, &reversed].map(|gradients| match &tensor {
                    TensorMut::Matrix(p) => p.val().grad(gradients).map(|g| values(g.into_data())),
                    TensorMut::Vector(p) => p.val().grad(gradients).map(|g| values(g.into_data())),
                });
                let (kept, reversed) = (kept.unwrap(), reversed.unwrap());
                let size = kept.iter().fold(0.0f32, |m, g| m.max(g.abs()));
                assert!(
                    worst(&kept, &reversed) <= 1e-4 * size.max(1e-3),
                    "{fixed}: {name}"
                );
            });
        }
    }
}

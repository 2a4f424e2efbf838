//! What an encoder-decoder keeps with every attention that it can have.

use std::collections::BTreeMap;

use burn::{
    backend::Flex,
    module::Param,
    tensor::{Int, Tensor, TensorData, backend::Backend},
};
use evaluator::{
    counter::{count_macs, count_skipped},
    data::{Batch, Corruption, Form},
    model::{Inputs, Model, TensorMut, Trainable, each_tensor},
    ops::{Lengths, Ops, cross_entropy},
    plan::Plan,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    kinds::{BLOCKS, come_back_from_files, served, values, worst},
    support::{A, VOCABULARY, config, random_weights, recall, tokens},
};

pub(crate) fn read(fixed: &str) -> Result<Plan, String> {
    let fixed = format!("kind = 'encoder_decoder'\ncorruption_rate = 0.4\nmean_span = 2\n{fixed}");
    Plan::read(&config(recall(), &fixed), VOCABULARY, None)
}

pub(crate) fn each(mut check: impl FnMut(&str, Plan)) {
    for block in BLOCKS {
        check(block, read(block).unwrap());
    }
}

pub(crate) fn corruption(plan: &Plan) -> Corruption {
    let Form::Spans(corruption) = plan.model.kind.form() else {
        panic!("an encoder-decoder fills gaps");
    };
    corruption
}

/// Corrupted texts of these lengths, in rows for texts of `longest`.
pub(crate) fn batch(plan: &Plan, longest: usize, lengths: &[usize]) -> Batch {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let corruption = corruption(plan);
    let texts: Vec<_> = lengths
        .iter()
        .map(|n| {
            let text: Vec<u32> = (0..*n).map(|_| rng.random_range(0..VOCABULARY as u32)).collect();
            corruption.corrupt(&text, &mut rng)
        })
        .collect();
    Batch::of_spans(&texts, longest, corruption)
}

fn ids<B: Backend>(ids: &[u32], rows: usize) -> Tensor<B, 2, Int> {
    let shape = [rows, ids.len() / rows];
    let ids: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
    Tensor::from_data(TensorData::new(ids, shape), &Default::default())
}

pub(crate) fn inputs<B: Backend>(batch: &Batch) -> Inputs<B> {
    Inputs {
        tokens: ids(&batch.inputs, batch.batch),
        lengths: Some(Lengths::new(batch.lengths.clone())),
        written: Some(ids(&batch.written, batch.batch)),
    }
}

pub(crate) fn loss<B: Ops>(model: &Model<B>, batch: &Batch) -> Tensor<B, 1> {
    let out = model.forward(inputs(batch));
    let [rows, n, outputs] = out.logits.dims();
    let targets = TensorData::new(batch.targets.clone(), [rows * n]);
    let targets = Tensor::<B, 1, Int>::from_data(targets, &Default::default());
    let loss = cross_entropy(out.logits.reshape([rows * n, outputs]), targets);
    out.auxiliary.map_or(loss.clone(), |balance| loss + balance)
}

/// The gradient of every tensor.
pub(crate) fn gradients(model: &mut Model<A>, batch: &Batch) -> BTreeMap<String, Vec<f32>> {
    let gradients = loss(model, batch).backward();
    let mut all = BTreeMap::new();
    each_tensor(model, &mut |name, tensor| {
        let gradient = match tensor {
            TensorMut::Matrix(p) => p.val().grad(&gradients).map(|g| values(g.into_data())),
            TensorMut::Vector(p) => p.val().grad(&gradients).map(|g| values(g.into_data())),
        };
        all.insert(name, gradient.unwrap_or_default());
    });
    all
}

#[test]
fn parameters_bytes_and_logits_come_back_from_files() {
    each(|fixed, plan| {
        let batch = batch(&plan, 16, &[16, 5]);
        let dims = [2, corruption(&plan).written(16), plan.model.vocabulary];
        let logits = |model: &Model<Flex>| model.forward(inputs(&batch)).logits;
        let names = come_back_from_files(fixed, &plan, dims, logits);
        let last = plan.served.kind.reading() - 1;
        for name in [
            format!("model.encoder.layers.{last}.self_attn.q_proj"),
            "model.encoder.norm".into(),
            "model.decoder.layers.0.encoder_attn.k_proj".into(),
            format!("model.decoder.layers.{last}.encoder_attn_layer_norm"),
            "model.norm".into(),
        ] {
            assert!(names.contains(&name), "{fixed}: {name} of {names:?}");
        }
    });
}

#[test]
fn counted_work_of_training_and_serving_is_the_formula() {
    let mut left_out = 0;
    each(|fixed, plan| {
        let model = Model::<A>::new(&plan.model, 3, &Default::default());
        for (n, lengths) in [(2, [2].as_slice()), (16, &[16, 16]), (11, &[11, 4, 2, 7])] {
            let batch = batch(&plan, n, lengths);
            let ((loss, forward), skipped) = count_skipped(|| count_macs(|| loss(&model, &batch)));
            let (_, backward) = count_macs(|| loss.backward());
            let formula = plan.model.training_pass(batch.batch, n, Trainable::All);
            assert_eq!(
                (forward + skipped.forward, backward + skipped.backward),
                (formula.forward, formula.backward),
                "{fixed} {lengths:?}"
            );
            let is_padded = lengths.iter().any(|length| *length < n);
            assert!(
                skipped.total() == 0 || is_padded || fixed.contains("capacity"),
                "{fixed}: rows of a training are not padded"
            );
            left_out += skipped.total();
        }
        let model = served(&plan);
        let written = plan.served.capacity();
        let mut memory = model.memory(&plan.served, 1, written);
        let text = tokens::<Flex>(1, corruption(&plan).read(16), 1);
        let (_, mut all) = count_macs(|| model.read(text, &mut memory));
        for position in 0..written {
            let (_, macs) = count_macs(|| model.extend(tokens::<Flex>(1, 1, position as u32), &mut memory));
            assert_eq!(macs, plan.served.decoding_macs(position), "{fixed} at {position}");
            all += macs;
        }
        assert_eq!(all, plan.served.serving_macs(), "{fixed}");
        let per_token = 2.0 * all as f64 / written as f64;
        assert_eq!(plan.served.inference_flops_per_token(), per_token);
    });
    assert!(left_out > 0, "some of these rows are padded");
}

#[test]
fn later_tokens_never_change_what_was_written_before_them() {
    each(|fixed, plan| {
        let model = served(&plan);
        let batch = batch(&plan, 16, &[16, 16]);
        let n = corruption(&plan).written(16);
        let logits = |written: &[u32], from: usize, to: usize| {
            let inputs = Inputs {
                written: Some(ids::<Flex>(written, 2)),
                ..inputs(&batch)
            };
            values(model.forward(inputs).logits.slice([0..2, from..to]).into_data())
        };
        let mut changed = batch.written.clone();
        (0..2).for_each(|row| changed[row * n + 6..(row + 1) * n].fill(7));
        assert_ne!(logits(&batch.written, 6, n), logits(&changed, 6, n), "{fixed}");
        let (before, after) = (logits(&batch.written, 0, 6), logits(&changed, 0, 6));
        if fixed.contains("experts") {
            // how many rows an expert gets decides how its product is summed, so the last digits may differ
            assert!(worst(&before, &after) < 1e-4, "{fixed}");
        } else {
            assert_eq!(before, after, "{fixed}");
        }
    });
}

#[test]
fn the_first_token_that_is_written_depends_on_the_last_one_that_is_read() {
    each(|fixed, plan| {
        let model = served(&plan);
        let batch = batch(&plan, 16, &[16]);
        let logits = |read: &[u32]| {
            let inputs = Inputs {
                tokens: ids::<Flex>(read, 1),
                ..inputs(&batch)
            };
            values(model.forward(inputs).logits.slice([0..1, 0..1]).into_data())
        };
        let mut changed = batch.inputs.clone();
        *changed.last_mut().unwrap() = 5;
        let moved = worst(&logits(&batch.inputs), &logits(&changed));
        assert!(moved > 1e-4, "{fixed}: {moved}");
    });
}

#[test]
fn padding_changes_nothing_whatever_it_holds_and_however_long_it_is() {
    each(|fixed, plan| {
        let model = served(&plan);
        let (short, padded) = (batch(&plan, 7, &[7]), batch(&plan, 16, &[7]));
        let n = corruption(&plan).written(7);
        assert!(padded.context > short.context && padded.written.len() > short.written.len());
        let logits = |batch: &Batch| {
            let logits = model.forward(inputs::<Flex>(batch)).logits;
            values(logits.slice([0..1, 0..n]).into_data())
        };
        let alone = logits(&short);
        let mut other = padded.clone();
        other.inputs[padded.lengths[0]..].fill(11);
        other.written[n..].fill(13);
        for batch in [&padded, &other] {
            let differs = worst(&logits(batch), &alone);
            // how many rows a product has decides how it is summed up
            let least = if fixed.contains("experts") { 1e-4 } else { 5e-5 };
            assert!(differs < least, "{fixed}: {differs}");
        }
        // rows of the same length are computed the same, whatever padding holds
        if !fixed.contains("experts") {
            assert_eq!(logits(&padded), logits(&other), "{fixed}");
        }
        let mut seen = padded.clone();
        seen.lengths[0] += 1;
        assert!(worst(&logits(&seen), &alone) > 1e-4, "{fixed}: it is not deaf");
    });
}

#[test]
fn a_text_does_not_depend_on_its_companions() {
    each(|fixed, plan| {
        let model = served(&plan);
        let both = batch(&plan, 16, &[16, 9]);
        let alone = batch(&plan, 16, &[16]);
        let logits = |batch: &Batch| {
            let logits = model.forward(inputs::<Flex>(batch)).logits;
            values(logits.narrow(0, 0, 1).into_data())
        };
        assert!(worst(&logits(&both), &logits(&alone)) < 1e-4, "{fixed}");
    });
}

#[test]
fn decoding_with_what_is_remembered_equals_the_form_of_training() {
    each(|fixed, plan| {
        let model = served(&plan);
        let batch = batch(&plan, 16, &[16, 9]);
        let Inputs {
            tokens,
            lengths,
            written,
        } = inputs::<Flex>(&batch);
        let (written, n) = (written.unwrap(), batch.written.len() / 2);
        let expected = model.forward(inputs(&batch)).logits;
        for pieces in [vec![1; n], vec![n], vec![3, 1, n - 4]] {
            let mut memory = model.memory(&plan.served, 2, n);
            let read = Inputs {
                tokens: tokens.clone(),
                lengths: lengths.clone(),
                written: None,
            };
            model.read(read, &mut memory);
            let mut at = 0;
            for piece in pieces {
                let logits = model.extend(written.clone().slice([0..2, at..at + piece]), &mut memory);
                at += piece;
                let last = expected.clone().slice([0..2, at - 1..at]);
                let differs = worst(&values(logits.into_data()), &values(last.into_data()));
                assert!(differs < 1e-4, "{fixed} at {at}: {differs}");
            }
            assert_eq!(memory.position(), n);
        }
    });
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    for block in &BLOCKS[..8] {
        let plan = read(block).unwrap();
        let mut model = Model::<A>::new(&plan.model, 3, &Default::default());
        random_weights(&mut model);
        let batch = batch(&plan, 16, &[16, 9, 2]);
        let found = gradients(&mut model, &batch);
        assert!(
            found.values().all(|g| !g.is_empty()),
            "{block}: nothing reaches some weight"
        );
        let square: f64 = found.values().flatten().map(|g| f64::from(*g).powi(2)).sum();
        // of the cross attention alone, and of all: along its gradient the loss changes by the gradient's square
        for part in ["encoder_attn.", ""] {
            let of_part = |name: &str| name.contains(part);
            let square: f64 = if part.is_empty() {
                square
            } else {
                let some = found.iter().filter(|(name, _)| of_part(name));
                some.flat_map(|(_, g)| g).map(|g| f64::from(*g).powi(2)).sum()
            };
            let moved = |by: f64| {
                let mut model = model.clone();
                each_tensor(&mut model, &mut |name, tensor| {
                    let by = if of_part(&name) { by } else { 0.0 };
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
                f64::from(loss(&model, &batch).into_scalar())
            };
            let by = 3e-3 / square;
            let slope = (moved(by) - moved(-by)) / (2.0 * by);
            assert!(
                (slope / square - 1.0).abs() < 0.03,
                "{block} {part}: {slope} {square}"
            );
        }
    }
}

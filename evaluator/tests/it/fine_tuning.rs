//! Known answers of fine-tuning: starts at the base, changes what it says, costs what it says, merges to the same model.

use std::{cell::Cell, collections::BTreeMap, path::Path, time::Duration};

use burn::{
    backend::Flex,
    module::{AutodiffModule, Param},
    tensor::{Distribution, Tensor},
};
use evaluator::{
    EvaluationError,
    counter::{count_macs, count_skipped},
    data::{Batch, DataAccess, Dataset},
    energy,
    model::{Dense, Initial, Matrix, Model, ModelPlan, Part, Parts, TensorMut, each_tensor},
    ops::{AdamWStep, adamw},
    plan::Plan,
    techniques::{
        fine_tuning::{
            FineTuning,
            dylora::use_rank,
            lora::{Base, LowRank},
            mask::kept_weights,
        },
        quantization::{self, Method, QuantizationPlan},
    },
    training::{Batches, Checkpoint, Record, Stretch, gradients_of, train},
};

use crate::{
    oracles::{logits, worst},
    resume::StopAfter,
    support::{A, TUNINGS, VOCABULARY, config, plan, plan_for, random_weights, recall, tokens},
};

/// The plan of the base that a plan adapts.
pub(crate) fn base_plan(plan: &Plan) -> ModelPlan {
    let mut base = plan.model.clone();
    for layer in &mut base.layers {
        layer.adapters = None;
    }
    base
}

fn method(plan: &Plan) -> FineTuning {
    plan.fine_tuning.unwrap()
}

/// A random base, as it is and ready to be trained as the plan says.
fn tuned(plan: &Plan) -> (Model<A>, Model<A>) {
    let mut base = Model::<A>::new(&base_plan(plan), 3, &Default::default());
    random_weights(&mut base);
    let mut model = base.clone();
    method(plan).attach(&mut model, &plan.model, 5);
    (base, model)
}

fn leaf<const D: usize>(values: Tensor<A, D>) -> Param<Tensor<A, D>> {
    Param::from_tensor(Tensor::from_inner(values.inner()))
}

/// Gives what starts at zero some value, as training would.
fn moved(model: &mut Model<A>) {
    let mut initial = Initial::<A>::new(9, 2, Default::default());
    each_tensor(model, &mut |name, tensor| {
        let starts_without_effect = ["lora_b", "ia3", "up.weight", "_bias.weight"];
        if !starts_without_effect.iter().any(|end| name.ends_with(end)) {
            return;
        }
        match tensor {
            TensorMut::Matrix(param) if param.val().is_require_grad() => {
                let [out, input] = param.dims();
                *param = leaf(param.val() + initial.normal(out, input, 0.1));
            }
            TensorMut::Vector(param) if param.val().is_require_grad() => {
                let noise = initial.normal(1, param.dims()[0], 0.1).squeeze_dim::<1>(0);
                *param = leaf(param.val() + noise);
            }
            _ => {}
        }
    });
}

/// The bits of every tensor, packed ones included, by name, and whether it is trained.
fn bits(model: &mut Model<A>) -> BTreeMap<String, (Vec<u32>, bool)> {
    let mut all = BTreeMap::new();
    each_tensor(model, &mut |name, tensor| {
        let (data, trained) = match tensor {
            TensorMut::Matrix(p) => (p.val().into_data(), p.val().is_require_grad()),
            TensorMut::Vector(p) => (p.val().into_data(), p.val().is_require_grad()),
        };
        all.insert(name, (data.iter::<f32>().map(f32::to_bits).collect(), trained));
    });
    model.each_part("", &mut |path, part| {
        let packed = match part {
            Part::Matrix(Matrix::Packed(packed)) => packed,
            Part::Matrix(Matrix::LowRank(LowRank {
                base: Base::Packed(packed),
                ..
            })) => packed,
            _ => return,
        };
        let words = packed.to_host().words.into_iter().map(|word| word as u32);
        all.insert(format!("{path}.codes"), (words.collect(), false));
    });
    all
}

fn batch(rows: usize, n: usize) -> Batch {
    let ids = |seed: u32| {
        tokens::<Flex>(rows, n, seed)
            .into_data()
            .iter::<i64>()
            .collect::<Vec<_>>()
    };
    Batch {
        batch: rows,
        context: n,
        lengths: vec![n; rows],
        written: vec![],
        inputs: ids(1).into_iter().map(|t| t as u32).collect(),
        targets: ids(2).into_iter().map(|t| t as i32).collect(),
    }
}

#[test]
fn every_method_starts_at_the_base_to_the_bit() {
    for base in [
        "kv_heads = 2",
        "attention = 'rwkv'\nfeed_forward = 'channel_mix'",
        "experts = 2",
    ] {
        for tuning in TUNINGS {
            let plan = plan(&format!("{base}\n{tuning}"));
            let (base_model, model) = tuned(&plan);
            let mut base_model = base_model.valid();
            if let FineTuning::Lora(lora) = method(&plan)
                && let Some(packing) = lora.base
            {
                quantization::quantize_unseen(&mut base_model, packing);
            }
            assert_eq!(
                logits(&model.valid(), 6),
                logits(&base_model, 6),
                "{base} {tuning}"
            );
        }
    }
}

#[test]
fn only_what_is_trained_gets_a_gradient_and_the_work_is_the_formula() {
    let mut seen = 0;
    for base in [
        "kv_heads = 2\nlayers = 3",
        "attention = 'rwkv'\nfeed_forward = 'channel_mix'",
        "attention = 'aft'\naft_variant = 'full'\naft_rank = 8",
        "attention = 'linear'\nlinear_features = 'favor'\nlayers = 1",
        "attention = 'lsh'\nlsh_chunk = 3\nlsh_buckets = 4",
        "experts = 4\ntop_k = 2\nrouter = 'noisy_top_k'",
        "experts = 4\nrouter = 'switch'\ncapacity_factor = 1.0",
        "reversible = true\nff_chunks = 3",
    ] {
        for tuning in TUNINGS {
            let what = format!("{base}\n{tuning}");
            let plan = match plan_for(VOCABULARY, &what) {
                Ok(plan) => plan,
                Err(error) => {
                    let refused = error.contains("reversible layers") || error.contains("is all of the base");
                    assert!(refused, "{what}: {error}");
                    continue;
                }
            };
            seen += 1;
            let (_, mut model) = tuned(&plan);
            moved(&mut model);
            method(&plan).begin_step(&mut model, 1, 1);
            let ((result, macs), skipped) =
                count_skipped(|| count_macs(|| gradients_of(&model, batch(3, 16))));
            let formula = plan.model.training_pass(3, 16, plan.trainable().unwrap());
            assert_eq!(macs + skipped.total(), formula.total(), "{what}");
            each_tensor(&mut model, &mut |name, tensor| {
                let (trained, has) = match tensor {
                    TensorMut::Matrix(p) => (p.val().is_require_grad(), p.val().grad(&result.1).is_some()),
                    TensorMut::Vector(p) => (p.val().is_require_grad(), p.val().grad(&result.1).is_some()),
                };
                // an expert that no token reached has none
                assert!(
                    has == trained || (trained && base.contains("experts")),
                    "{what}: {name}"
                );
            });
        }
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn merged_is_the_same_model() {
    for base in [
        "kv_heads = 2",
        "attention = 'rwkv'\nfeed_forward = 'channel_mix'",
        "experts = 2",
    ] {
        for tuning in TUNINGS {
            let plan = plan(&format!("{base}\n{tuning}"));
            let mut model = Model::<A>::new(&base_plan(&plan), 3, &Default::default());
            method(&plan).attach(&mut model, &plan.model, 5);
            let before = logits(&model.valid(), 6);
            moved(&mut model);
            let unmerged = logits(&model.valid(), 6);
            method(&plan).finish(&mut model);
            let difference = worst(&logits(&model.valid(), 6), &unmerged);
            assert!(difference <= 1e-5, "{base} {tuning}: {difference}");
            let adds = ["lora", "ia3", "adapter"]
                .iter()
                .any(|name| tuning.contains(name));
            assert_eq!(worst(&before, &unmerged) > 1e-4, adds, "{base} {tuning}");
            let mut sum = 0;
            model.each_part("", &mut |_, part| {
                sum += match part {
                    Part::Matrix(m) | Part::Small(m) => {
                        assert!(m.as_dense().is_some(), "{tuning}");
                        m.dims().iter().product::<usize>()
                    }
                    Part::Vector(v) => v.dims()[0],
                };
            });
            assert_eq!(sum as u64, plan.model.parameters(), "{base} {tuning}");
        }
    }
}

#[test]
fn trained_weights_are_as_many_as_the_formulas_say() {
    // width 32, 2 layers, 4 heads of 8, hidden 96
    let count = |tuning: &str| -> usize {
        let plan = plan(tuning);
        let (_, mut model) = tuned(&plan);
        bits(&mut model)
            .into_values()
            .filter(|(_, trained)| *trained)
            .map(|(values, _)| values.len())
            .sum()
    };
    let (d, h, l, r, m) = (32, 96, 2, 3, 5);
    assert_eq!(count("fine_tune = 'lora'\nlora_rank = 3"), l * 4 * r * (d + d));
    assert_eq!(
        count("fine_tune = 'lora'\nlora_rank = 3\nlora_targets = 'all'"),
        l * (4 * r * (d + d) + 3 * r * (d + h))
    );
    assert_eq!(count("fine_tune = 'ia3'"), l * (d + d + h));
    assert_eq!(
        count("fine_tune = 'adapter'\nadapter_size = 5"),
        l * 2 * (2 * d * m + d + m)
    );
    assert_eq!(
        count("fine_tune = 'adapter'\nadapter_kind = 'parallel'\nadapter_size = 5"),
        l * (2 * d * m + d + m)
    );
    assert_eq!(count("fine_tune = 'mask'"), (2 * l + 1) * d);
    assert_eq!(
        count("fine_tune = 'mask'\nmask = 'layer_subset'"),
        4 * d * d + 3 * d * h + 2 * d + d
    );
}

/// One matrix.
struct One(Matrix<A>);

impl Parts<A> for One {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, A>)) {
        visitor(path, Part::Matrix(&mut self.0));
    }
}

fn normal(rows: usize, columns: usize) -> Tensor<A, 2> {
    Tensor::random(
        [rows, columns],
        Distribution::Normal(0.0, 1.0),
        &Default::default(),
    )
}

fn low_rank(weight: Tensor<A, 2>, a: Tensor<A, 2>, b: Tensor<A, 2>) -> One {
    let weight = Param::from_tensor(weight).set_require_grad(false);
    One(Matrix::LowRank(LowRank::new(
        Base::Dense(Dense { weight }),
        a,
        b,
        6.0,
    )))
}

#[test]
fn a_drawn_rank_is_a_module_of_the_first_rows_and_columns() {
    let (w, a, b, x) = (normal(7, 5), normal(4, 5), normal(7, 4), normal(3, 5));
    for rank in 1..=4 {
        let mut whole = low_rank(w.clone(), a.clone(), b.clone());
        use_rank(&mut whole, rank);
        let part = low_rank(
            w.clone(),
            a.clone().narrow(0, 0, rank),
            b.clone().narrow(1, 0, rank),
        );
        let [of_whole, of_part] = [whole, part].map(|one| one.0.apply(x.clone()).into_data());
        assert_eq!(of_whole, of_part, "{rank}");
    }
    let FineTuning::Dylora(dylora) =
        method(&plan("fine_tune = 'dylora'\nlora_rank = 5\ndylora_min_rank = 2"))
    else {
        panic!("it is dylora");
    };
    let mut ranks: Vec<usize> = (0..200).map(|step| dylora.rank(1, step)).collect();
    ranks.sort_unstable();
    ranks.dedup();
    assert_eq!(ranks, [2, 3, 4, 5]);
}

#[test]
fn an_addition_of_full_rank_can_be_any_change() {
    let (n, w) = (6, normal(6, 6));
    let change = normal(n, n);
    let (mut a, mut b) = (normal(n, n) * 0.5, normal(n, n) * 0.1);
    let eye = Tensor::<A, 2>::eye(n, &Default::default());
    let target = (w.clone() + change.clone()).transpose();
    let zeros = || Tensor::<Flex, 1>::zeros([n * n], &Default::default());
    let mut moments = [(); 2].map(|()| [zeros(), zeros()]);
    let steps = 6000;
    let residual = |a: &Tensor<A, 2>, b: &Tensor<A, 2>| {
        low_rank(w.clone(), a.clone(), b.clone()).0.apply(eye.clone()) - target.clone()
    };
    for step in 0..steps {
        // as parameters of a module, so that the gradient goes through the product as in a training
        let one = low_rank(w.clone(), a.clone(), b.clone());
        let Matrix::LowRank(module) = &one.0 else {
            panic!("it is one")
        };
        let grads = (one.0.apply(eye.clone()) - target.clone())
            .square()
            .sum()
            .backward();
        let gradients = [&module.a, &module.b].map(|p| p.val().grad(&grads).unwrap().reshape([n * n]));
        let numbers = AdamWStep {
            learning_rate: 0.02 * (1.0 - step as f32 / steps as f32),
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            gradient_scale: 1.0,
            step: step + 1,
        };
        let state = [&a, &b].map(|t| t.clone().inner().reshape([n * n]));
        let tensors = state.into_iter().zip(moments).zip(gradients);
        let updated = adamw(
            tensors.map(|((w, [m, v]), g)| ([w, m, v], g, 0.0)).collect(),
            numbers,
        );
        let mut updated = updated
            .into_iter()
            .map(|[w, m, v]| (Tensor::<A, 2>::from_inner(w.reshape([n, n])), [m, v]));
        let ((next_a, m_a), (next_b, m_b)) = (updated.next().unwrap(), updated.next().unwrap());
        (a, b, moments) = (next_a, next_b, [m_a, m_b]);
    }
    let left = f64::from(residual(&a, &b).abs().max().into_scalar());
    assert!(left <= 1e-4, "{left}");
}

/// What a training gives, or why it stopped.
type Trained = Result<(Model<A>, Record), EvaluationError>;

/// A base as it is before the first step, and what comes of its training.
fn trained(fixed: &str, dir: &Path, stop_after: u64) -> (Model<A>, Trained) {
    let data = Dataset::load(&config(recall(), "").data, &DataAccess::anywhere()).unwrap();
    let plan = plan_for(data.vocab, fixed).unwrap();
    let base = Model::<A>::new(&base_plan(&plan), 1, &Default::default());
    let mut model = base.clone();
    method(&plan).attach(&mut model, &plan.model, 1);
    let start = model.clone();
    let stretch = Stretch {
        phase: "train",
        plan: &plan.training,
        budget: plan.training.budget,
        tuning: plan.fine_tuning,
        batches: Batches::new(&data, 1, &plan.training),
        checkpoints: dir,
        checkpoint_every: Duration::ZERO,
        earlier: Record::default(),
        stop: None,
    };
    let found = Checkpoint::find(dir, &Default::default());
    let result = train(
        model,
        &stretch,
        None,
        found,
        energy::open(None).as_mut(),
        &mut StopAfter(Cell::new(stop_after)),
    );
    (start, result)
}

#[test]
fn frozen_weights_keep_their_bits_and_all_others_change() {
    let dir = tempfile::tempdir().unwrap();
    for (i, tuning) in TUNINGS.iter().enumerate() {
        let (mut start, result) = trained(tuning, &dir.path().join(i.to_string()), u64::MAX);
        let (before, after) = (bits(&mut start), bits(&mut result.unwrap().0));
        let (mut changed, mut all) = (0, 0);
        for (name, (values, trained)) in &before {
            let now = &after[name].0;
            let differ = values.iter().zip(now).filter(|(a, b)| a != b).count();
            assert!(*trained || differ == 0, "{tuning}: {name} is frozen");
            assert!(!trained || differ > 0, "{tuning}: {name} is trained");
            (changed, all) = (changed + differ, all + values.len());
        }
        let fraction = tuning
            .lines()
            .find_map(|line| line.strip_prefix("mask_fraction = "));
        if let Some(fraction) = fraction {
            let kept = kept_weights(all, before.len(), fraction.parse().unwrap());
            assert!(
                (kept * 3 / 4..=kept).contains(&changed),
                "{tuning}: {changed} of {kept}"
            );
        }
    }
}

#[test]
fn a_stopped_training_goes_on_to_the_same_bits() {
    let mezo = "fine_tune = 'full'\noptimizer = 'mezo'\nmezo_epsilon = 0.01";
    let lomo = "fine_tune = 'full'\noptimizer = 'lomo'\nlearning_rate = 0.5";
    for tuning in TUNINGS.iter().chain([&mezo, &lomo]) {
        let (whole, part) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut start, result) = trained(tuning, &whole.path().join("c"), u64::MAX);
        let (mut model, record) = result.unwrap();
        let expected = bits(&mut model);
        assert_ne!(bits(&mut start), expected, "{tuning}");
        let dir = part.path().join("c");
        for stop in [3, 4] {
            assert!(matches!(
                trained(tuning, &dir, stop).1,
                Err(EvaluationError::Cancelled)
            ));
        }
        let (mut model, resumed) = trained(tuning, &dir, u64::MAX).1.unwrap();
        assert_eq!(
            (resumed.steps, resumed.macs),
            (record.steps, record.macs),
            "{tuning}"
        );
        assert_eq!(bits(&mut model), expected, "{tuning}");
    }
}

#[test]
fn changes_on_the_way_back_are_those_of_gradient_descent() {
    for base in [
        "kv_heads = 2",
        "experts = 4\nrouter = 'switch'\ncapacity_factor = 1.0\nrouter_jitter = 0.0",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let run = |rule: &str| {
            let fixed = format!("{base}\nfine_tune = 'full'\noptimizer = '{rule}'\nlearning_rate = 0.1");
            let (mut model, _) = trained(&fixed, &dir.path().join(rule), u64::MAX).1.unwrap();
            bits(&mut model)
        };
        let (sgd, lomo) = (run("sgd"), run("lomo"));
        for (name, (values, _)) in &sgd {
            for (a, b) in values.iter().zip(&lomo[name].0) {
                let (a, b) = (f32::from_bits(*a), f32::from_bits(*b));
                assert!((a - b).abs() <= 1e-6, "{base} {name}: {a} {b}");
            }
        }
    }
}

#[test]
fn what_cannot_be_done_is_said_in_one_sentence() {
    for (fixed, part) in [
        (
            "fine_tune = 'lora'\nlora_rank = 64",
            "lora_rank 64 is above width 32",
        ),
        (
            "fine_tune = 'dylora'\nlora_rank = 4\ndylora_min_rank = 4",
            "dylora_min_rank 4 is not below lora_rank 4",
        ),
        (
            "fine_tune = 'mask'\nmask = 'layer_subset'\nmask_blocks = 2",
            "mask_blocks 2 is all of the base's 2 blocks",
        ),
        (
            "reversible = true\nfine_tune = 'mask'\nmask = 'layer_subset'",
            "base of reversible layers",
        ),
        (
            "reversible = true\nfine_tune = 'adapter'",
            "base of reversible layers",
        ),
        ("optimizer = 'mezo'", "too little to train from scratch"),
        (
            "reversible = true\noptimizer = 'lomo'",
            "a model of reversible layers",
        ),
    ] {
        let error = plan_for(VOCABULARY, fixed).unwrap_err();
        assert!(error.contains(part) && error.contains("use "), "{error}");
    }
    let mut adapted = plan("fine_tune = 'adapter'").model;
    assert!(adapted.layers.iter().all(|layer| layer.adapters.is_some()));
    adapted.layers.truncate(1);
    let text = format!(
        "{}\n[base]\npath = 'base'\n[fixed]\ncontext = 16\nfine_tune = 'adapter'\n",
        recall()
    );
    let again = spaces::study::config_from_toml(&text, &evaluator::catalog()).unwrap();
    let error = Plan::read(&again, VOCABULARY, Some(&adapted)).unwrap_err();
    assert!(error.contains("has adapters already"), "{error}");
}

#[test]
fn a_packed_base_is_the_plans() {
    for (bits, packing) in [(8, Method::Rtn), (4, Method::Nf4)] {
        let plan = plan(&format!("fine_tune = 'lora'\nbase_bits = {bits}"));
        let FineTuning::Lora(lora) = method(&plan) else {
            panic!("it is lora");
        };
        let expected = QuantizationPlan {
            bits,
            group: 64,
            method: packing,
            calibration_batches: 0,
        };
        assert_eq!(lora.base, Some(expected));
    }
}

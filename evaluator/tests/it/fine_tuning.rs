//! Known answers of fine-tuning: starts at the base, changes what it says, costs what it says, merges to the same model.

use std::collections::BTreeMap;

use burn::{
    backend::Flex,
    module::{AutodiffModule, Param},
    tensor::Tensor,
};
use evaluator::{
    counter::{count_macs, count_skipped},
    data::Batch,
    model::{Initial, Matrix, Model, ModelPlan, Part, Parts, TensorMut, each_tensor},
    plan::Plan,
    techniques::{
        fine_tuning::{
            FineTuning,
            lora::{Base, LowRank},
        },
        quantization::{self, Method, QuantizationPlan},
    },
    training::gradients_of,
};

use crate::{
    oracles::{logits, worst},
    support::{A, TUNINGS, VOCABULARY, plan, plan_for, random_weights, recall, tokens},
};

/// The plan of the base that a plan adapts.
pub(crate) fn base_plan(plan: &Plan) -> ModelPlan {
    let mut base = plan.model.clone();
    for layer in &mut base.layers {
        layer.adapters = None;
    }
    base
}

pub(crate) fn method(plan: &Plan) -> FineTuning {
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
pub(crate) fn bits(model: &mut Model<A>) -> BTreeMap<String, (Vec<u32>, bool)> {
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
        (
            "fine_tune = 'full'\noptimizer = 'mezo'\nlayerwise_lr_decay = 0.9",
            "layerwise_lr_decay = 0.9 gives each layer a rate of its own",
        ),
        ("optimizer = 'mezo'", "too little to train from scratch"),
        (
            "reversible = true\noptimizer = 'lomo'",
            "a model of reversible layers",
        ),
        (
            "reversible = true\noptimizer = 'badam'",
            "reversible layers go back through all",
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
fn rates_of_layers_are_asked_for_where_all_weights_of_a_base_are_trained() {
    let read = |base: &str, fixed: &str| {
        let text = format!("{}\n{base}\n[fixed]\n{fixed}\n", recall());
        spaces::study::config_from_toml(&text, &evaluator::catalog())
    };
    let (base, decay) = ("[base]\npath = 'base'", "layerwise_lr_decay = 0.8");
    let full = read(base, "fine_tune = 'full'").unwrap();
    assert_eq!(full.values["layerwise_lr_decay"], 1.0.into());
    assert!(read(base, &format!("fine_tune = 'full'\n{decay}")).is_ok());
    for (base, more) in [
        ("", ""),
        (base, "fine_tune = 'none'\n"),
        (base, "fine_tune = 'lora'\n"),
    ] {
        assert!(
            !read(base, more)
                .unwrap()
                .values
                .contains_key("layerwise_lr_decay")
        );
        let errors = read(base, &format!("{more}{decay}")).unwrap_err();
        assert!(errors[0].to_string().contains("layerwise_lr_decay"), "{errors:?}");
    }
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
            activation_bits: 32,
            layers: Default::default(),
        };
        assert_eq!(lora.base, Some(expected));
    }
}

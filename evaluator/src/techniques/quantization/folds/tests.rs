//! That scaling changes no output, whoever asks for it.

use burn::{backend::Flex, tensor::Int};
use spaces::study::config_from_toml;

use super::*;
use crate::{
    counter,
    data::{DataAccess, Dataset},
    model::{Initial, TensorMut, each_tensor},
    plan::Plan,
    techniques::{
        fine_tuning::adapter::{AdapterKind, AdapterPlan},
        quantization::{Method, awq, observe, smooth},
    },
    training::Batches,
};

#[test]
fn scaling_before_rounding_changes_no_output() {
    let methods = [
        "bits = 3\nquant_method = 'awq'",
        "bits = 8\nactivation_bits = 8\nquant_method = 'smooth'",
    ];
    for (fixed, method) in [
        "kv_heads = 4",
        "kv_heads = 2\nattention = 'sliding_window'\nwindow = 5",
        "attention = 'rwkv'\nfeed_forward = 'channel_mix'",
        "attention = 'kde'\nkde_leaf = 2\nkde_samples = 3",
        "attention = 'lsh'\nlsh_chunk = 3\nlsh_buckets = 4",
        "attention = 'linear'\nexperts = 4\nrouter = 'noisy_top_k'\ntop_k = 2",
        "attention = 'aft'\naft_variant = 'conv'\naft_window = 5\nreversible = true",
    ]
    .iter()
    .flat_map(|fixed| methods.map(|method| (*fixed, method)))
    {
        let text = format!(
            "[data]\ncorpus = \"markov\"\n[fixed]\ncontext = 16\nwidth = 32\nheads = 4\nbatch = 4\n{method}\n{fixed}\n"
        );
        let config = config_from_toml(&text, &crate::catalog()).unwrap();
        let data = Dataset::load(&config.data, &DataAccess::anywhere()).unwrap();
        let plan = Plan::read(&config, data.facts(), None).unwrap();
        let mut plan = plan;
        if fixed.contains("kv_heads = 4") {
            // one reads the norm that is scaled
            for layer in &mut plan.served.layers {
                layer.adapters = Some(AdapterPlan {
                    kind: AdapterKind::Parallel,
                    size: 5,
                });
            }
        }
        let mut model = Model::<Flex>::new(&plan.served, 3, &Default::default());
        let mut initial = Initial::<Flex>::new(7, 1, Default::default());
        each_tensor(&mut model, &mut |name, tensor| match tensor {
            // norms that differ from channel to channel give the search something to find
            TensorMut::Vector(norm) => {
                let n = norm.dims()[0];
                *norm = Param::from_tensor(initial.normal(1, n, 0.8).reshape([n]).exp());
            }
            TensorMut::Matrix(up) if name.ends_with("_adapter.up.weight") => {
                let [out, input] = up.dims();
                *up = Param::from_tensor(initial.normal(out, input, 0.1));
            }
            TensorMut::Matrix(_) => {}
        });
        let packing = plan.quantization.unwrap();
        let batches = Batches::new(&data, 1, &plan.training);
        let inputs = observe(&mut model, packing, &batches);
        let logits = |model: &Model<Flex>| -> Vec<f32> {
            let tokens = Tensor::<Flex, 1, Int>::arange(0..16, &Default::default()).reshape([1, 16]);
            model.forward(tokens % 7).logits.into_data().iter().collect()
        };
        let before = logits(&model);
        let weight = |model: &Model<Flex>| model.blocks[0].attention.query.as_dense().unwrap().into_data();
        let weight_before = weight(&model);
        let work = || {
            counter::count_macs(|| match packing.method {
                Method::Smooth { alpha } => {
                    smooth::scale(&mut model, &plan.served, (packing, alpha), &inputs);
                }
                _ => awq::scale(&mut model, &plan.served, packing, &inputs),
            })
            .1
        };
        let (macs, skipped) = counter::count_skipped(work);
        let formula = match packing.method {
            Method::Awq => awq::macs(&plan.served, packing),
            _ => 0,
        };
        assert_eq!(macs + skipped.total(), formula, "{fixed} {method}");
        assert_ne!(
            weight(&model),
            weight_before,
            "{fixed} {method}: something was scaled"
        );
        let worst = before.iter().zip(logits(&model)).map(|(a, b)| (a - b).abs());
        let worst = worst.fold(0.0, f32::max);
        assert!(worst < 2e-3, "{fixed} {method}: {worst}");
    }
}

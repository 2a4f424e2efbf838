//! Known answers, and that scaling changes no output.

use burn::{
    backend::Flex,
    tensor::{Int, Tensor},
};
use spaces::study::config_from_toml;

use super::*;
use crate::{
    data::{DataAccess, Dataset},
    model::{Initial, TensorMut, each_tensor},
    plan::Plan,
    techniques::{
        fine_tuning::adapter::{AdapterKind, AdapterPlan},
        quantization::{fixture::Fixture, observe},
    },
    training::Batches,
};

#[test]
fn the_error_on_outlier_channels_is_the_known_one_and_never_above_that_of_rounding() {
    let fixture = Fixture::new();
    for (bits, golden) in [(8, 0.0032), (4, 0.055), (3, 0.116), (2, 0.267)] {
        let shape = fixture.shape(bits);
        let data = TensorData::new(fixture.weights.clone(), [shape.rows, shape.columns]);
        let weight = Tensor::<Flex, 2>::from_data(data, &Default::default());
        let judged = Judged::new(&weight, &fixture.inputs, shape);
        let mean = mean([&fixture.inputs].into_iter()).unwrap();
        let ((scales, power), macs) = counter::count_macs(|| search(&mean, |scales| judged.lost(scales)));
        assert_eq!(macs, (GRID * shape.rows * shape.columns * shape.columns) as u64);
        assert!(power > 0.0);
        let rounded = |scales: &[f32]| -> Vec<f32> {
            let scales = || scales.iter().cycle();
            let mut w: Vec<f32> = fixture.weights.iter().zip(scales()).map(|(w, s)| w * s).collect();
            rtn::round(&mut w, shape);
            w.iter().zip(scales()).map(|(w, s)| w / s).collect()
        };
        let error = fixture.error(&rounded(&scales));
        fixture.assert_error(&rounded(&scales), golden, bits);
        assert!(
            error <= fixture.error(&rounded(&vec![1.0; scales.len()])),
            "{bits} bits"
        );
        // what the second moments tell is what the inputs give
        let whole = f64::from(
            matmul(weight.clone(), judged.second_moment.clone())
                .mul(weight)
                .sum()
                .into_scalar(),
        );
        assert!((error - (judged.lost(&scales) / whole).sqrt()).abs() < 0.01 * error);
    }
}

#[test]
fn scaling_before_rounding_changes_no_output() {
    for fixed in [
        "kv_heads = 4",
        "kv_heads = 2\nattention = 'sliding_window'\nwindow = 5",
        "attention = 'rwkv'\nfeed_forward = 'channel_mix'",
        "attention = 'kde'\nkde_leaf = 2\nkde_samples = 3",
        "attention = 'lsh'\nlsh_chunk = 3\nlsh_buckets = 4",
        "attention = 'linear'\nexperts = 4\nrouter = 'noisy_top_k'\ntop_k = 2",
        "attention = 'aft'\naft_variant = 'conv'\naft_window = 5\nreversible = true",
    ] {
        let text = format!(
            "[data]\ncorpus = \"markov\"\n[fixed]\ncontext = 16\nwidth = 32\nheads = 4\nbatch = 4\nbits = 3\nquant_method = 'awq'\n{fixed}\n"
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
        let work = || counter::count_macs(|| scale(&mut model, &plan.served, packing, &inputs)).1;
        let (macs, skipped) = counter::count_skipped(work);
        assert_eq!(
            macs + skipped.total(),
            super::macs(&plan.served, plan.quantization.unwrap()),
            "{fixed}"
        );
        assert_ne!(weight(&model), weight_before, "{fixed}: something was scaled");
        let worst = before.iter().zip(logits(&model)).map(|(a, b)| (a - b).abs());
        let worst = worst.fold(0.0, f32::max);
        assert!(worst < 2e-3, "{fixed}: {worst}");
    }
}

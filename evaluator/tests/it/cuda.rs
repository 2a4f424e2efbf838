//! The contracts of techniques on a GPU: the same model as on the processor, and decoding equals the form of training.
//!
//! Few tests, so that a process compiles each kernel once.

use std::collections::BTreeMap;

use burn::{
    backend::{Autodiff, Cuda, Flex},
    tensor::{Int, Tensor, TensorData, backend::AutodiffBackend},
};
use evaluator::{
    device::DeviceChoice,
    model::{Inputs, Model, TensorMut, each_tensor},
    ops::{Lengths, Ops, cross_entropy},
    plan::Plan,
    techniques::quantization,
};

use crate::support::{A, TECHNIQUES, plan, tokens};

/// Products of 32-bit matrices may go through 19-bit inputs (TF32) there.
const TOLERANCE: f32 = 2e-2;

fn values(data: TensorData) -> Vec<f32> {
    data.iter().collect()
}

/// Largest difference over the largest value.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let size = b.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    if a.len() == b.len() && a.iter().all(|x| x.is_finite()) {
        worst / size
    } else {
        f32::INFINITY
    }
}

/// Logits and the gradient of every tensor; of kinds that look both ways on a padded row and a whole one.
fn trained<D: AutodiffBackend + Ops>(plan: &Plan) -> (Vec<f32>, BTreeMap<String, Vec<f32>>)
where
    D::InnerBackend: Ops,
{
    let mut model = Model::<D>::new(&plan.model, 3, &Default::default());
    let inputs = Inputs {
        tokens: tokens::<D>(2, 16, 1),
        lengths: (plan.model.kind.sees_both_ways()).then(|| Lengths::new(vec![16, 5])),
        written: None,
    };
    let logits = model.forward(inputs).logits;
    let [examples, scored, outputs] = logits.dims();
    let n = examples * scored;
    let targets = tokens::<D>(1, n, 2).remainder_scalar(outputs as i32).reshape([n]);
    let loss = cross_entropy(logits.clone().reshape([n, outputs]), targets);
    let gradients = loss.backward();
    let mut all = BTreeMap::new();
    each_tensor(&mut model, &mut |name, tensor| {
        let gradient = match tensor {
            TensorMut::Matrix(param) => param.val().grad(&gradients).map(|g| values(g.into_data())),
            TensorMut::Vector(param) => param.val().grad(&gradients).map(|g| values(g.into_data())),
        };
        all.extend(gradient.map(|g| (name, g)));
    });
    (values(logits.into_data()), all)
}

fn decoded<B: Ops>(plan: &Plan) -> (Vec<f32>, Vec<f32>) {
    let mut model = Model::<B>::new(&plan.served, 3, &Default::default());
    if let Some(packing) = plan.quantization {
        quantization::quantize(&mut model, packing);
    }
    let all: Tensor<B, 2, Int> = tokens(2, 16, 4);
    let expected = model.forward(all.clone()).logits.slice([0..2, 15..16]);
    let mut memory = model.memory(&plan.served, 2, 16);
    let mut last = vec![];
    for (from, to) in [(0, 9), (9, 10), (10, 16)] {
        last = values(
            model
                .extend(all.clone().slice([0..2, from..to]), &mut memory)
                .into_data(),
        );
    }
    (last, values(expected.into_data()))
}

/// Whether training draws numbers from the bits of activations, which differ from those of the processor.
fn is_random(technique: &str) -> bool {
    ["gshard", "noisy_top_k", "router_jitter"]
        .iter()
        .any(|name| technique.contains(name))
}

fn agree(techniques: impl Iterator<Item = &'static &'static str>) {
    if let Err(reason) = "cuda:0".parse::<DeviceChoice>().unwrap().find() {
        eprintln!("skipped: {reason}");
        return;
    }
    let mut wrong = vec![];
    for technique in techniques {
        let started = std::time::Instant::now();
        let plan = plan(technique);
        if let Err(refused) = plan.check_gpu() {
            eprintln!("{technique:?}: skipped: {refused}");
            continue;
        }
        let (served, expected) = decoded::<Cuda>(&plan);
        let decoding = distance(&served, &expected);
        let (_, processor) = decoded::<Flex>(&plan);
        let mut worst = distance(&expected, &processor);
        if !is_random(technique) {
            let (logits, gradients) = trained::<Autodiff<Cuda>>(&plan);
            let (expected, expected_gradients) = trained::<A>(&plan);
            worst = worst.max(distance(&logits, &expected));
            assert!(gradients.keys().eq(expected_gradients.keys()), "{technique}");
            for (name, gradient) in &gradients {
                worst = worst.max(distance(gradient, &expected_gradients[name]));
            }
        }
        eprintln!(
            "{technique:?}: {worst:.1e} from the processor, decoding {decoding:.1e} from the form of training, {:.1} s",
            started.elapsed().as_secs_f64()
        );
        if worst.max(decoding) > TOLERANCE {
            wrong.push(*technique);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Kinds that look both ways are refused there until this was seen to pass on one.
#[test]
fn every_kind_is_the_same_model_on_a_gpu() {
    if let Err(reason) = "cuda:0".parse::<DeviceChoice>().unwrap().find() {
        eprintln!("skipped: {reason}");
        return;
    }
    let mut wrong = vec![];
    crate::kinds::each(|fixed, plan| {
        let (logits, gradients) = trained::<Autodiff<Cuda>>(&plan);
        let (expected, expected_gradients) = trained::<A>(&plan);
        let of = |name: &String| distance(&gradients[name], &expected_gradients[name]);
        let worst = expected_gradients.keys().map(of).fold(0.0, f32::max);
        let worst = worst.max(distance(&logits, &expected));
        eprintln!("{fixed:?}: {worst:.1e} from the processor");
        if worst > TOLERANCE {
            wrong.push(fixed.to_owned());
        }
    });
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn every_attention_is_the_same_model_on_a_gpu() {
    agree(
        TECHNIQUES
            .iter()
            .filter(|technique| !technique.contains("experts")),
    );
}

#[test]
fn every_mixture_is_the_same_model_on_a_gpu() {
    agree(
        TECHNIQUES
            .iter()
            .filter(|technique| technique.contains("experts")),
    );
}

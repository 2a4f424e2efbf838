//! The contracts of techniques on a GPU: the same model as on the processor, and decoding equals the form of training.
//!
//! Few tests, so that a process compiles each kernel once.

#![expect(clippy::print_stderr, reason = "how far apart they are is worth reading")]

use std::collections::BTreeMap;

use burn::{
    backend::{Autodiff, Cuda, Flex},
    tensor::{Int, Tensor, TensorData, backend::AutodiffBackend},
};
use evaluator::{
    device::DeviceChoice,
    model::{Inputs, Model, TensorMut, each_tensor},
    ops::{
        AdamWStep, Band, Lengths, Ops, Precision, Tiles, adamw, attention, cross_entropy, linear, rms_norm,
        rope, rope_tables, set_precision, swiglu, tiled_attention, total_norm,
    },
    plan::Plan,
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    encoder_decoder,
    support::{A, TECHNIQUES, compress, plan, tokens},
};

/// Products of 32-bit matrices may go through 19-bit inputs (TF32) there.
const TOLERANCE: f32 = 2e-2;

/// Says why the test is skipped where there is none.
pub(crate) fn there_is_a_gpu() -> bool {
    let found = DeviceChoice::Cuda(0).find();
    if let Err(reason) = &found {
        eprintln!("skipped: {reason}");
    }
    found.is_ok()
}

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
    let inputs = if plan.model.kind.name() == "encoder_decoder" {
        encoder_decoder::inputs(&encoder_decoder::batch(plan, 16, &[16, 5]))
    } else {
        Inputs {
            tokens: tokens::<D>(2, 16, 1),
            lengths: (plan.model.kind.sees_both_ways()).then(|| Lengths::new(vec![16, 5])),
            written: None,
        }
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
    compress(&mut model, plan);
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
    if !there_is_a_gpu() {
        return;
    }
    let mut wrong = vec![];
    for technique in techniques {
        let started = std::time::Instant::now();
        let plan = plan(technique);
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
                let apart = distance(gradient, &expected_gradients[name]);
                if apart > TOLERANCE {
                    eprintln!("{technique:?}: gradient of {name}: {apart:.1e}");
                }
                worst = worst.max(apart);
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

#[test]
fn every_kind_is_the_same_model_on_a_gpu() {
    if !there_is_a_gpu() {
        return;
    }
    let mut wrong = vec![];
    let mut check = |fixed: &str, plan: Plan| {
        let (logits, gradients) = trained::<Autodiff<Cuda>>(&plan);
        let (expected, expected_gradients) = trained::<A>(&plan);
        let of = |name: &String| distance(&gradients[name], &expected_gradients[name]);
        let worst = expected_gradients.keys().map(of).fold(0.0, f32::max);
        let worst = worst.max(distance(&logits, &expected));
        eprintln!("{fixed:?}: {worst:.1e} from the processor");
        if worst > TOLERANCE {
            wrong.push(format!("{} {fixed}", plan.model.kind.name()));
        }
    };
    crate::kinds::each(&mut check);
    encoder_decoder::each(&mut check);
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

/// What each operation gives and its gradients, on one backend.
fn operations<D: AutodiffBackend + Ops>() -> Vec<(String, Vec<f32>)>
where
    D::InnerBackend: Ops,
{
    let device = Default::default();
    let random = |shape: &[usize], seed: u64| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let n = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..n).map(|_| rng.random_range(-1.5..1.5)).collect();
        Tensor::<D, 1>::from_data(TensorData::new(values, [n]), &device)
    };
    let mut all = vec![];
    let mut keep = |name: String, y: Tensor<D, 1>, inputs: &[&Tensor<D, 1>]| {
        // a gradient that differs everywhere
        let gradients = (y.clone() * random(&[y.dims()[0]], 9)).sum().backward();
        for (i, x) in inputs.iter().enumerate() {
            let gradient = x.grad(&gradients).unwrap().into_data();
            all.push((format!("{name}, gradient {i}"), values(gradient)));
        }
        all.push((name, values(y.into_data())));
    };
    for [m, k, n] in [
        [128, 128, 256],
        [130, 72, 96],
        [70, 65, 33],
        [1, 40, 24],
        [300, 2056, 264],
        [65, 1032, 70],
    ] {
        let (x, w) = (
            random(&[m, k], 1).require_grad(),
            random(&[n, k], 2).require_grad(),
        );
        let y = linear(x.clone().reshape([m, k]), w.clone().reshape([n, k]));
        keep(format!("linear {m} {k} {n}"), y.reshape([m * n]), &[&x, &w]);
    }
    for (rows, width) in [(5, 3), (300, 130)] {
        let (x, w) = (
            random(&[rows, width], 1).require_grad(),
            random(&[width], 2).require_grad(),
        );
        let y = rms_norm(x.clone().reshape([rows, width]), w.clone(), 1e-5);
        keep(
            format!("norm {rows} {width}"),
            y.reshape([rows * width]),
            &[&x, &w],
        );
        let y = swiglu(
            x.clone().reshape([rows, width]),
            x.clone().reshape([rows, width]).neg(),
        );
        keep(format!("swiglu {rows} {width}"), y.reshape([rows * width]), &[&x]);
        let targets = (0..rows as i32)
            .map(|i| if i % 3 == 0 { -1 } else { i % width as i32 })
            .collect();
        let targets = Tensor::<D, 1, Int>::from_data(TensorData::new::<i32, _>(targets, [rows]), &device);
        keep(
            format!("cross entropy {rows} {width}"),
            cross_entropy(x.clone().reshape([rows, width]), targets),
            &[&x],
        );
    }
    let step = AdamWStep {
        learning_rate: 0.01,
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        gradient_scale: 0.5,
        step: 3,
    };
    let plain = |n: usize, seed: u64| random(&[n], seed).inner();
    // more than one launch takes, long ones and short ones
    let tensors: Vec<_> = (0..19)
        .map(|i| {
            let n = if i == 3 { 300_000 } else { 5 + 100 * i };
            let state = [plain(n, 1), plain(n, 2), plain(n, 3).abs()];
            (state, plain(n, 4), 0.1 * i as f32)
        })
        .collect();
    let norm = total_norm(tensors.iter().map(|(_, gradient, _)| gradient)) as f32;
    let norm = Tensor::from_data([norm], &device);
    keep("norm of many".into(), norm.require_grad(), &[]);
    for (i, state) in adamw(tensors, step).into_iter().enumerate() {
        for (name, x) in ["w", "m", "v"].iter().zip(state) {
            keep(
                format!("adamw {name} {i}"),
                Tensor::from_inner(x).require_grad(),
                &[],
            );
        }
    }
    for (n, keys, h, g, d, band) in [
        (70, 70, 4, 2, 32, Band::causal(70)),
        (33, 33, 2, 2, 16, Band::whole(33, Some(Lengths::new(vec![33, 9])))),
        (
            130,
            130,
            2,
            1,
            64,
            Band {
                window: 9,
                ..Band::causal(130)
            },
        ),
        (
            20,
            90,
            2,
            1,
            128,
            Band {
                offset: 60,
                ..Band::causal(80)
            },
        ),
        (
            80,
            80,
            1,
            1,
            64,
            Band {
                window: 5,
                ahead: 7,
                ..Band::causal(80)
            },
        ),
        (
            20,
            40,
            2,
            1,
            32,
            Band::across(40, Some(Lengths::new(vec![40, 7]))),
        ),
        (
            90,
            17,
            2,
            2,
            64,
            Band::across(17, Some(Lengths::new(vec![1, 17]))),
        ),
        (17, 17, 2, 2, 24, Band::causal(17)),
    ] {
        let size = |n: usize, h: usize| [2, n, h, d];
        let q = random(&size(n, h), 1).require_grad();
        let (k, v) = (
            random(&size(keys, g), 2).require_grad(),
            random(&size(keys, g), 3).require_grad(),
        );
        let of = |x: &Tensor<D, 1>, n, h| x.clone().reshape(size(n, h));
        let tables = rope_tables::<D>(n, d, 100.0, &device);
        let turned = || rope(of(&q, n, h), tables.clone());
        // a graph anew for each: going back through one uses it up
        let others = || (of(&k, keys, g), of(&v, keys, g));
        let name = format!("attention {n} {keys} {h} {g} {d}");
        let (k4, v4) = others();
        let y = attention(turned(), k4, v4, band.clone());
        keep(name.clone(), y.reshape([2 * n * h * d]), &[&q, &k, &v]);
        let tiles = Tiles {
            queries: 16,
            keys: 32,
        };
        let (k4, v4) = others();
        let y = tiled_attention(turned(), k4, v4, band, tiles);
        keep(format!("tiled {name}"), y.reshape([2 * n * h * d]), &[&q, &k, &v]);
    }
    all
}

#[test]
fn every_operation_is_the_same_on_a_gpu_in_both_precisions() {
    if !there_is_a_gpu() {
        return;
    }
    let expected = operations::<A>();
    let mut wrong = vec![];
    for precision in [Precision::F32, Precision::Bf16] {
        set_precision(precision);
        for ((name, got), (_, expected)) in operations::<Autodiff<Cuda>>().iter().zip(&expected) {
            let apart = distance(got, expected);
            eprintln!("{precision:?} {name}: {apart:.1e}");
            if apart > TOLERANCE {
                wrong.push(format!("{precision:?} {name}: {apart:.1e}"));
            }
        }
    }
    set_precision(Precision::F32);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

use burn::tensor::Tolerance;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{projections::draw, *};
use crate::ops::{Band, FeatureMap, attention, linear_attention};

type A = Autodiff<Flex>;

fn close(a: TensorData, b: TensorData) {
    a.assert_approx_eq::<f32>(&b, Tolerance::rel_abs(1e-3, 1e-4));
}

/// The same numbers each time: a gradient whose parts nearly cancel would now and then be off by more than a test allows.
fn random<B: Backend>(n: usize, h: usize, d: usize) -> Tensor<B, 4> {
    let shape = [2, n, h, d];
    let values = normal(shape.iter().product(), shape.iter().sum::<usize>() as u64);
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

fn drawn<B: Backend>(d: usize, m: usize) -> Tensor<B, 2> {
    Tensor::from_data(TensorData::new(draw(d, m, 5), [d, m]), &Default::default())
}

fn normal(count: usize, seed: u64) -> Vec<f32> {
    let random = ChaCha8Rng::seed_from_u64(seed);
    StandardNormal.sample_iter(random).take(count).collect()
}

/// A query and a key, near enough to zero that estimates have no heavy tail.
fn pair(d: usize, seed: u64) -> Vec<f32> {
    normal(2 * d, seed).into_iter().map(|x: f32| x / 2.0).collect()
}

#[test]
fn kernel_and_reference_are_the_formula_with_its_gradient() {
    for (d, m) in [(4, 16), (8, 20), (40, 16)] {
        let w = drawn::<A>(d, m);
        for side in [Side::Query, Side::Key] {
            let x = random::<A>(5, 3, d).require_grad();
            let expected = reference::features(x.clone(), w.clone(), side);
            let ours = wrap::<A, 4>(A::favor_features(unwrap(x.clone()), unwrap(w.clone()), side));
            close(ours.to_data(), expected.to_data());
            let loss = |f: Tensor<A, 4>| (f.clone() * (f * 3.0).sin()).sum();
            let gradient = |f: Tensor<A, 4>| x.grad(&loss(f).backward()).unwrap().into_data();
            let of_burn = gradient(expected.clone());
            close(gradient(ours), of_burn.clone());
            let f = expected.inner();
            let of_features = (f.clone() * 3.0).sin() + f.clone() * 3.0 * (f.clone() * 3.0).cos();
            let plain = reference::backward(x.clone().inner(), w.clone().inner(), f, of_features);
            close(plain.into_data(), of_burn);
        }
    }
}

#[test]
fn projections_are_orthogonal_in_turns_and_as_long_as_normal_vectors() {
    let (d, m) = (16, 40);
    let w = draw(d, m, 1);
    let product = |a: usize, b: usize| -> f32 { (0..d).map(|c| w[c * m + a] * w[c * m + b]).sum() };
    for (a, b) in (0..m).flat_map(|a| (0..a).map(move |b| (a, b))) {
        let cosine = product(a, b) / (product(a, a) * product(b, b)).sqrt();
        assert_eq!(cosine.abs() < 1e-5, a / d == b / d, "{a} {b}: {cosine}");
    }
    let squares: Vec<f32> = (0..200)
        .map(|seed| draw(d, 1, seed).iter().map(|x| x * x).sum())
        .collect();
    let mean = squares.iter().sum::<f32>() / 200.0;
    let variance = squares.iter().map(|s| (s - mean).powi(2)).sum::<f32>() / 200.0;
    // a sum of 16 squares of normal numbers has mean 16 and variance 32
    assert!(
        (mean - 16.0).abs() < 1.5 && (20.0..48.0).contains(&variance),
        "{mean} {variance}"
    );
}

/// Mean and variance of `φ(q)·φ(k)` over draws of the projections.
fn estimates(q: &[f32], k: &[f32], draws: u64, projections: impl Fn(u64) -> Vec<f32>) -> (f64, f64) {
    let (d, pair) = (q.len(), [q, k].concat());
    let (mut sum, mut squares) = (0.0, 0.0);
    for seed in 0..draws {
        let w = projections(seed);
        let m = w.len() / d;
        let mut features = vec![0.0; 2 * m];
        features_of_rows(&pair, &w, d, Side::Key, &mut features);
        let product: f64 = (0..m)
            .map(|r| f64::from(features[r]) * f64::from(features[m + r]))
            .sum();
        sum += product;
        squares += product * product;
    }
    let mean = sum / draws as f64;
    (mean, squares / draws as f64 - mean * mean)
}

#[test]
fn the_mean_over_draws_is_the_softmax_kernel() {
    let (d, draws) = (8, 10_000);
    for seed in 0..6 {
        let x = pair(d, seed);
        let (q, k) = x.split_at(d);
        let exact = f64::from(simd::dot(q, k) / (d as f32).sqrt()).exp();
        let (mean, variance) = estimates(q, k, draws, |seed| draw(d, 16, seed));
        let error = (variance / draws as f64).sqrt();
        assert!(
            (mean - exact).abs() < 3.0 * error,
            "{mean} +- {error}, not {exact}"
        );
        assert!(error < 0.05 * exact, "{error}");
    }
}

#[test]
fn orthogonal_projections_spread_less_than_independent_ones() {
    let d = 8;
    let x = pair(d, 3);
    let (q, k) = x.split_at(d);
    let orthogonal = estimates(q, k, 4000, |seed| draw(d, d, seed)).1;
    let independent = estimates(q, k, 4000, |seed| normal(d * d, seed)).1;
    assert!(orthogonal < 0.95 * independent, "{orthogonal} {independent}");
}

#[test]
fn a_querys_features_are_those_of_a_key_up_to_one_factor() {
    let x = random::<Flex>(6, 2, 8);
    let of = |side| favor_features(x.clone(), 32, side);
    let ratio = of(Side::Key) / of(Side::Query);
    let first = ratio.clone().narrow(3, 0, 1).expand([2, 6, 2, 32]);
    close(ratio.into_data(), first.into_data());
    let largest: Vec<f32> = of(Side::Query).max_dim(3).into_data().iter().collect();
    assert!(largest.iter().all(|f| *f == 1.0));
}

fn attend<B: crate::ops::Ops>([q, k, v]: [Tensor<B, 4>; 3], m: usize) -> Tensor<B, 4> {
    let (q, k) = (favor_features(q, m, Side::Query), favor_features(k, m, Side::Key));
    linear_attention(q, k, v, FeatureMap::Given, 4)
}

#[test]
fn more_features_are_nearer_to_softmax_attention() {
    let (n, h, d) = (24, 2, 8);
    let input = |seed| {
        let values = TensorData::new(normal(2 * n * h * d, seed), [2, n, h, d]);
        Tensor::<Flex, 4>::from_data(values, &Default::default())
    };
    let x = [input(1) * 0.5, input(2) * 0.5, input(3)];
    let [q, k, v] = x.clone();
    let exact = attention(q, k, v, Band::causal(n));
    let error = |m: usize| {
        let off = attend(x.clone(), m) - exact.clone();
        off.square().mean().into_scalar().sqrt()
    };
    let [few, some, many] = [16, 64, 256].map(error);
    assert!(many < 0.6 * some && some < 0.6 * few, "{few} {some} {many}");
}

#[test]
fn queries_and_keys_of_any_size_give_finite_outputs_and_gradients() {
    for d in [8, 128] {
        let m = 64;
        // keys that are a projection, the largest features there are
        let w: Vec<f32> = (0..d).map(|c| projections(d, m)[c * m]).collect();
        let w = Tensor::<A, 1>::from_data(TensorData::new(w, [d]), &Default::default());
        let peak = (w / scale(d)).reshape([1, 1, 1, d]).expand([2, 9, 2, d]);
        for keys in [
            peak,
            random(9, 2, d) * 0.0,
            random(9, 2, d) * 30.0,
            random(9, 2, d) * 1e4,
        ] {
            let x = [random::<A>(9, 2, d) * 10.0, keys, random(9, 2, d)].map(|x| x.detach().require_grad());
            let o = attend(x.clone(), m);
            let grads = (o.clone() * o.clone().sin()).sum().backward();
            let all = x.each_ref().map(|x| x.grad(&grads).unwrap().into_data());
            for values in all.iter().chain([&o.into_data()]) {
                assert!(values.iter::<f32>().all(f32::is_finite), "{d}");
            }
        }
    }
}

use burn::{
    backend::Flex,
    tensor::{Distribution, TensorData, Tolerance},
};

use super::*;
use crate::counter::count_macs;

type A = Autodiff<Flex>;

const MAPS: [FeatureMap; 3] = [FeatureMap::Elu1, FeatureMap::Relu, FeatureMap::Given];

fn close(a: TensorData, b: TensorData) {
    a.assert_approx_eq::<f32>(&b, Tolerance::rel_abs(1e-3, 1e-4));
}

/// Queries, keys and values of depth 8; given features are positive and more than that.
fn inputs(n: usize, h: usize, g: usize, map: FeatureMap) -> [Tensor<A, 4>; 3] {
    let device = Default::default();
    let random =
        |heads, width| Tensor::<A, 4>::random([2, n, heads, width], Distribution::Normal(0.0, 1.0), &device);
    let rows = |heads| match map {
        FeatureMap::Given => random(heads, 12).abs() + 0.1,
        _ => random(heads, 8),
    };
    [rows(h), rows(g), random(g, 8)].map(|x| x.detach().require_grad())
}

fn no_past([_, k, v]: &[Tensor<Flex, 4>; 3]) -> (Tensor<Flex, 4>, Tensor<Flex, 3>) {
    let ([b, _, g, f], d, device) = (k.dims(), v.dims()[3], k.device());
    (
        Tensor::zeros([b, g, f, d], &device),
        Tensor::zeros([b, g, f], &device),
    )
}

/// The row-normalised, masked product of all features: quadratic, and differentiated by burn itself.
fn quadratic([q, k, v]: [Tensor<A, 4>; 3], map: FeatureMap) -> Tensor<A, 4> {
    let ([b, n, h, _], g) = (q.dims(), k.dims()[2]);
    let spread = |x: Tensor<A, 4>| {
        let width = x.dims()[3];
        x.swap_dims(1, 2)
            .unsqueeze_dim::<5>(2)
            .expand([b, g, h / g, n, width])
            .reshape([b, h, n, width])
    };
    let a = map
        .of_tensor(q.swap_dims(1, 2))
        .matmul(map.of_tensor(spread(k)).swap_dims(2, 3))
        .tril(0);
    let o = a.clone().matmul(spread(v)) / (a.sum_dim(3) + map.epsilon());
    o.swap_dims(1, 2)
}

#[test]
fn every_chunk_size_equals_the_quadratic_form_with_gradients() {
    for map in MAPS {
        for (n, h, g) in [(1, 2, 2), (13, 2, 2), (13, 4, 1), (32, 4, 2)] {
            let x = inputs(n, h, g, map);
            let expected = quadratic(x.clone(), map);
            let grads = (expected.clone() * expected.clone().sin()).sum().backward();
            let expected_grads = x.each_ref().map(|t| t.grad(&grads).unwrap().into_data());
            for chunk in [1, 4, 8, 64] {
                let [q, k, v] = x.clone();
                let o = linear_attention(q, k, v, map, chunk);
                close(o.to_data(), expected.to_data());
                let grads = (o.clone() * o.sin()).sum().backward();
                for (t, expected) in x.iter().zip(&expected_grads) {
                    close(t.grad(&grads).unwrap().into_data(), expected.clone());
                }
            }
        }
    }
}

/// The definition in loops of doubles; one query head for each key head.
fn definition(x: &[Tensor<Flex, 4>; 3], map: FeatureMap) -> Vec<f64> {
    let ([b, n, h, f], d) = (x[0].dims(), x[2].dims()[3]);
    let [q, k, v] = x
        .each_ref()
        .map(|x| x.to_data().iter::<f64>().collect::<Vec<_>>());
    let phi = |x: f64| match map {
        FeatureMap::Elu1 if x > 0.0 => x + 1.0,
        FeatureMap::Elu1 => x.exp(),
        FeatureMap::Relu => x.max(0.0) + 1e-3,
        FeatureMap::Given => x,
    };
    let mut out = vec![];
    for (s, i, head) in (0..b * n * h).map(|at| (at / (n * h), at / h % n, at % h)) {
        let row = |i: usize| (s * n + i) * h + head;
        let weight = |j: usize| -> f64 {
            (0..f)
                .map(|c| phi(q[row(i) * f + c]) * phi(k[row(j) * f + c]))
                .sum()
        };
        let weights: Vec<f64> = (0..=i).map(weight).collect();
        let den = weights.iter().sum::<f64>() + f64::from(map.epsilon());
        out.extend((0..d).map(|c| {
            let terms = weights.iter().enumerate().map(|(j, w)| w * v[row(j) * d + c]);
            terms.sum::<f64>() / den
        }));
    }
    out
}

#[test]
fn recurrent_chunked_and_quadratic_form_are_one_for_every_chunk_size() {
    let n = 12;
    for map in MAPS {
        let x = inputs(n, 2, 2, map).map(Tensor::inner);
        let expected = definition(&x, map);
        let near = |o: Tensor<Flex, 4>, what: &str| {
            let pairs = o.into_data().iter::<f64>().zip(&expected).collect::<Vec<_>>();
            let worst = pairs.iter().map(|(o, e)| (o - *e).abs()).fold(0.0, f64::max);
            assert!(
                pairs.len() == expected.len() && worst <= 1e-5,
                "{map:?} {what}: {worst}"
            );
        };
        for chunk in 1..=n + 1 {
            let [q, k, v] = x.clone();
            near(linear_attention(q, k, v, map, chunk), &format!("chunk {chunk}"));
        }
        let mut state = no_past(&x);
        let steps = (0..n).map(|t| {
            let [q, k, v] = x.clone().map(|x| x.narrow(1, t, 1));
            let (o, next) = linear_attention_step(q, k, v, state.clone(), map);
            state = next;
            o
        });
        near(Tensor::cat(steps.collect(), 1), "recurrent");
    }
}

#[test]
fn the_reference_body_agrees_with_the_kernel() {
    for map in MAPS {
        let [q, k, v] = inputs(13, 4, 2, map).map(Tensor::inner);
        let (o, den) = reference::forward(q.clone(), k.clone(), v.clone(), map, 4);
        let ours =
            Flex::linear_attention_forward(unwrap(q.clone()), unwrap(k.clone()), unwrap(v.clone()), map, 4);
        close(wrap::<Flex, 4>(ours.0).into_data(), o.clone().into_data());
        close(wrap::<Flex, 3>(ours.1).into_data(), den.clone().into_data());
        let gradient = o.clone() + 0.3;
        let inputs = [q.clone(), k.clone(), v.clone()];
        let plain = reference::backward(inputs, o.clone(), den.clone(), gradient.clone(), map, 4);
        let ours = Flex::linear_attention_backward(
            [unwrap(q), unwrap(k), unwrap(v)],
            unwrap(o),
            unwrap(den),
            unwrap(gradient),
            map,
            4,
        );
        for (ours, plain) in ours.into_iter().zip(plain) {
            close(wrap::<Flex, 4>(ours).into_data(), plain.into_data());
        }
    }
}

#[test]
fn decoding_equals_training_and_neither_state_nor_work_grows() {
    for map in MAPS {
        let x = inputs(11, 4, 2, map).map(Tensor::inner);
        let [q, k, v] = x.clone();
        let whole = linear_attention(q, k, v, map, 4);
        let mut state = no_past(&x);
        let (mut plain, shape) = (state.clone(), state.0.dims());
        for t in 0..11 {
            let [q, k, v] = x.clone().map(|x| x.narrow(1, t, 1));
            let step = || linear_attention_step(q.clone(), k.clone(), v.clone(), state.clone(), map);
            let ((o, next), macs) = count_macs(step);
            // two sequences, two heads to write for and four to read for
            assert_eq!(macs as usize, 2 * (2 + 4) * shape[2] * shape[3]);
            state = next;
            close(o.to_data(), whole.clone().narrow(1, t, 1).into_data());
            let (of_plain, s, z) = reference::step(q, k, v, plain.0, plain.1, map);
            plain = (s, z);
            close(of_plain.into_data(), o.into_data());
        }
        assert_eq!(state.0.dims(), shape);
    }
}

use burn::{
    backend::{Autodiff, Flex},
    tensor::{Distribution, Tensor, TensorData, Tolerance},
};

use super::{cpu::PRODUCTS, *};
use crate::{
    counter::{count_macs, count_skipped},
    ops::{Band, attention},
};

type A = Autodiff<Flex>;

const D: usize = 8;
const HEADS: usize = 3;

fn close(a: TensorData, b: TensorData, tolerance: f32) {
    a.assert_approx_eq::<f32>(&b, Tolerance::rel_abs(10.0 * tolerance, tolerance));
}

fn inputs(n: usize) -> [Tensor<Flex, 4>; 3] {
    [0; 3].map(|_| {
        Tensor::random(
            [2, n, HEADS, D],
            Distribution::Normal(0.0, 1.2),
            &Default::default(),
        )
    })
}

pub(super) fn form(block: usize, samples: usize) -> KdeBothWays {
    KdeBothWays {
        block,
        bits: 3,
        samples,
        lengths: None,
    }
}

fn padded(form: KdeBothWays, lengths: [usize; 2]) -> KdeBothWays {
    KdeBothWays {
        lengths: Some(Lengths::new(lengths.to_vec())),
        ..form
    }
}

/// Sizes that divide and that do not, both parts and each alone, with and without padding.
fn cases() -> Vec<(usize, KdeBothWays)> {
    vec![
        (1, form(1, 1)),
        (12, form(4, 3)),
        (13, form(4, 5)),
        (13, form(5, 0)),
        (13, form(0, 4)),
        (40, form(7, 40)),
        (13, padded(form(4, 5), [13, 6])),
        (13, padded(form(4, 0), [1, 9])),
        (13, padded(form(0, 4), [9, 2])),
        (13, padded(form(16, 3), [12, 5])),
    ]
}

pub(super) fn places(x: &[Tensor<Flex, 4>; 3], form: &KdeBothWays) -> Tensor<Flex, 3> {
    let [q, k, v] = x.clone().map(unwrap);
    wrap(Flex::kde_places(q, k, v, form))
}

/// Output and logarithms of denominators of the kernel.
pub(super) fn forward(
    x: &[Tensor<Flex, 4>; 3],
    places: &Tensor<Flex, 3>,
    form: &KdeBothWays,
) -> (Tensor<Flex, 4>, Tensor<Flex, 3>) {
    let [q, k, v] = x.clone().map(unwrap);
    let (o, log_sums) = Flex::kde_both_ways_forward([q, k, v, unwrap(places.clone())], form);
    (wrap(o), wrap(log_sums))
}

/// The definition over all pairs: each pair's weight times its exponential, row-normalised.
fn quadratic(x: &[Tensor<A, 4>; 3], places: &Tensor<Flex, 3>, form: &KdeBothWays) -> Tensor<A, 4> {
    let [b, n, h, d] = x[0].dims();
    let [_, _, width] = places.dims();
    let m = form.samples;
    let all: Vec<f32> = places.to_data().iter().collect();
    let mut weights = vec![0.0f32; b * h * n * n];
    let mut absent = vec![1.0f32; b * h * n];
    for (head, places) in all.chunks(width).enumerate() {
        let length = form.there(head / h, n);
        let block = |which: usize, position: usize| {
            let sorted = &places[which * n..][..n];
            sorted.iter().position(|p| *p as usize == position).unwrap() / form.block
        };
        let meets = |i: usize, j: usize| form.block > 0 && block(0, i) == block(1, j);
        let (drawn, log_weights) = places[width - 2 * m..].split_at(m);
        for i in 0..length {
            absent[head * n + i] = 0.0;
            let row = &mut weights[(head * n + i) * n..][..n];
            for j in (0..length).filter(|j| meets(i, *j)) {
                row[j] = 1.0;
            }
            for (l, log_weight) in drawn.iter().zip(log_weights) {
                let l = *l as usize;
                assert!(l < length, "padding is never drawn");
                if !meets(i, l) {
                    row[l] += log_weight.exp();
                }
            }
        }
    }
    let of = |values: Vec<f32>, w| {
        Tensor::<A, 4>::from_data(TensorData::new(values, [b, h, n, w]), &Default::default())
    };
    let [q, k, v] = x.clone().map(|x| x.swap_dims(1, 2));
    let a = (q.matmul(k.swap_dims(2, 3)) / (d as f64).sqrt()).exp() * of(weights, n);
    // rows of padding have no weights to divide by
    (a.clone().matmul(v) / (a.sum_dim(3) + of(absent, 1))).swap_dims(1, 2)
}

#[test]
fn one_heavy_block_and_no_samples_are_full_attention() {
    for (n, form) in [
        (1, form(1, 0)),
        (13, form(13, 0)),
        (32, form(64, 0)),
        (33, padded(form(40, 0), [33, 9])),
        // no key is left to be drawn
        (32, form(32, 5)),
    ] {
        let [q, k, v] = inputs(n);
        let exact = attention(
            q.clone(),
            k.clone(),
            v.clone(),
            Band::whole(n, form.lengths.clone()),
        );
        close(kde_both_ways(q, k, v, &form).into_data(), exact.into_data(), 1e-5);
    }
}

#[test]
fn the_kernel_the_reference_and_their_gradients_equal_the_definition() {
    for (n, form) in cases() {
        let x = inputs(n);
        let places = places(&x, &form);
        let plain = reference::places(x.clone(), &form);
        close(places.to_data(), plain.into_data(), 1e-4);
        let tracked = || {
            x.each_ref()
                .map(|t| Tensor::<A, 4>::from_inner(t.clone()).require_grad())
        };
        // padded rows get gradients too, which must not count
        let loss = |o: Tensor<A, 4>| (o.clone().sin() * (o + 1.0)).sum();
        let all = tracked();
        let expected = quadratic(&all, &places, &form);
        let grads = loss(expected.clone()).backward();
        let expected_grads = all.each_ref().map(|t| t.grad(&grads).unwrap().into_data());
        let expected = expected.into_data();
        let [q, k, v] = tracked();
        let o = kde_both_ways(q.clone(), k.clone(), v.clone(), &form);
        close(o.to_data(), expected.clone(), 1e-4);
        let grads = loss(o).backward();
        for (t, expected) in [q, k, v].iter().zip(&expected_grads) {
            close(t.grad(&grads).unwrap().into_data(), expected.clone(), 1e-3);
        }
        let (o, log_sums) = reference::forward(x.clone(), places.clone(), &form);
        close(o.to_data(), expected, 1e-4);
        close(
            log_sums.to_data(),
            forward(&x, &places, &form).1.into_data(),
            1e-4,
        );
        let gradient = o.clone().cos() * (o.clone() + 1.0) + o.clone().sin();
        let grads = reference::backward(x, places, [o, gradient], log_sums, &form);
        for (plain, expected) in grads.into_iter().zip(expected_grads) {
            close(plain.into_data(), expected, 1e-3);
        }
    }
}

#[test]
fn work_is_the_formula_and_grows_as_the_sequence() {
    for (n, form) in cases() {
        let [q, k, v] = inputs(n).map(|x| Tensor::<A, 4>::from_inner(x).require_grad());
        let ((o, forward), skipped) = count_skipped(|| count_macs(|| kde_both_ways(q, k, v, &form)));
        let loss = o.sum();
        let (_, backward) = count_macs(|| loss.backward());
        let pairs = PRODUCTS * (2 * HEADS * D * form.pairs(n)) as u64;
        let codes = (2 * HEADS * form.code_macs(n, D)) as u64;
        assert_eq!(
            (forward + skipped.forward, backward + skipped.backward),
            (codes + pairs.forward, pairs.backward),
            "{n} {form:?}"
        );
        assert_eq!(skipped.forward > 0, form.lengths.is_some());
    }
    assert_eq!(form(4, 3).pairs(13), 3 * 16 + 1 + 13 * 3);
    assert_eq!(form(16, 32).pairs(8192), 8192 * 48);
    assert_eq!(form(0, 32).code_macs(8192, 16), 0);
}

#[test]
fn padding_and_other_sequences_of_a_batch_change_nothing() {
    let (n, there) = (29, 21);
    for form in [form(4, 5), form(0, 6), form(8, 0)] {
        let x = inputs(n);
        let cut = |x: &Tensor<Flex, 4>, n| x.clone().slice([0..1, 0..n]);
        let [q, k, v] = x.each_ref().map(|x| cut(x, there));
        let alone = kde_both_ways(q, k, v, &form).into_data();
        for held in [0.0, 1e3] {
            let [q, k, v] = x.each_ref().map(|x| {
                let padding = Tensor::full([1, n - there, HEADS, D], held, &Default::default());
                x.clone().slice_assign([0..1, there..n], padding)
            });
            let o = kde_both_ways(q, k, v, &padded(form.clone(), [there, n]));
            assert_eq!(cut(&o, there).into_data(), alone, "{form:?}");
            let rest = o.slice([0..1, there..n]).abs().max();
            assert_eq!(rest.into_scalar(), 0.0);
        }
    }
}

#[test]
fn huge_scores_stay_finite() {
    let [q, k, v] = inputs(40).map(|x| Tensor::<A, 4>::from_inner(x * 100.0).require_grad());
    let o = kde_both_ways(q.clone(), k, v, &form(4, 6));
    let grads = o.clone().sum().backward();
    for x in [o.into_data(), q.grad(&grads).unwrap().into_data()] {
        assert!(x.iter::<f32>().all(f32::is_finite));
    }
}

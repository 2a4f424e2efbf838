use burn::{
    backend::Flex,
    tensor::{Bool, Distribution, TensorData, Tolerance, activation::softmax},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};

use super::*;
use crate::counter::count_macs;

type A = Autodiff<Flex>;

const HASHINGS: [Hashing; 5] = [
    hashing(1, 4, 3),
    hashing(2, 4, 2),
    hashing(3, 2, 4),
    hashing(2, 8, 1),
    hashing(8, 2, 16),
];

pub(super) const fn hashing(rounds: usize, buckets: usize, chunk: usize) -> Hashing {
    Hashing {
        rounds,
        buckets,
        chunk,
    }
}

fn close(a: TensorData, b: TensorData) {
    a.assert_approx_eq::<f32>(&b, Tolerance::rel_abs(1e-3, 1e-4));
}

fn random<B: Backend>(n: usize, h: usize, d: usize) -> Tensor<B, 4> {
    Tensor::random([2, n, h, d], Distribution::Normal(0.0, 1.5), &Default::default())
}

/// Which tokens each token sees in some round, from the words of the module's documentation: `[b, h, n, n]`.
fn union(places: &Tensor<Flex, 4>, hashing: Hashing) -> Vec<bool> {
    let [b, n, h, rounds] = places.dims();
    let places: Vec<f32> = places.to_data().to_vec().unwrap();
    let bucket = |s: usize, i: usize, head: usize, r: usize| {
        places[((s * n + i) * h + head) * rounds + r] as usize % hashing.buckets
    };
    let mut seen = vec![];
    for (s, head) in (0..b).flat_map(|s| (0..h).map(move |head| (s, head))) {
        for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let meets = |r: usize| {
                let here = bucket(s, i, head, r);
                let rank = |i: usize| (0..i).filter(|k| bucket(s, *k, head, r) == here).count();
                j <= i
                    && bucket(s, j, head, r) == here
                    && rank(i) / hashing.chunk - rank(j) / hashing.chunk <= 1
            };
            seen.push((0..rounds).any(meets));
        }
    }
    seen
}

/// The softmax over the union, quadratic, differentiated by burn itself.
pub(super) fn definition<B: Backend>(q: Tensor<B, 4>, v: Tensor<B, 4>, seen: Vec<bool>) -> Tensor<B, 4> {
    let [b, n, h, _] = q.dims();
    let device = q.device();
    let keys = unit_length(q.clone()).swap_dims(1, 2);
    let own = Tensor::<B, 2, Bool>::diag_mask([n, n], 0, &device).bool_not();
    let own = own.unsqueeze::<4>().expand([b, h, n, n]);
    let seen = Tensor::<B, 4, Bool>::from_data(TensorData::new(seen, [b, h, n, n]), &device);
    let scores = q
        .swap_dims(1, 2)
        .matmul(keys.swap_dims(2, 3))
        .mask_fill(own, SELF_SCORE)
        .mask_fill(seen.bool_not(), f32::MIN);
    softmax(scores, 3).matmul(v.swap_dims(1, 2)).swap_dims(1, 2)
}

#[test]
fn kernel_and_reference_are_the_softmax_over_the_union_of_rounds_with_its_gradients() {
    for hashing in HASHINGS {
        for n in [1, 2, 13, 40] {
            let (q, v) = (
                random::<A>(n, 2, 8).require_grad(),
                random::<A>(n, 2, 8).require_grad(),
            );
            let places = lsh_places(q.clone(), None, hashing);
            let expected = definition(q.clone(), v.clone(), union(&places.clone().inner(), hashing));
            let o = lsh_attention(q.clone(), v.clone(), places.clone(), hashing);
            close(o.to_data(), expected.to_data());
            let (plain, sums) = reference::forward(
                q.clone().inner(),
                v.clone().inner(),
                places.clone().inner(),
                hashing,
            );
            close(plain.to_data(), expected.to_data());

            let loss = |o: Tensor<A, 4>| (o.clone() * o.sin()).sum();
            let grads = loss(expected.clone()).backward();
            let expected_grads = [&q, &v].map(|x| x.grad(&grads).unwrap());
            let grads = loss(o).backward();
            let ours = [&q, &v].map(|x| x.grad(&grads).unwrap());
            let gradient = expected.inner();
            let gradient = gradient.clone().sin() + gradient.clone() * gradient.cos();
            let plain_grads = reference::backward(
                [q.inner(), v.inner(), places.inner()],
                [plain, sums],
                gradient,
                hashing,
            );
            for ((ours, plain), expected) in ours.into_iter().zip(plain_grads).zip(expected_grads) {
                close(ours.into_data(), expected.to_data());
                close(plain.into_data(), expected.into_data());
            }
        }
    }
}

#[test]
fn one_bucket_and_a_chunk_that_holds_all_is_exact_attention_with_shared_keys() {
    let (q, v) = (random::<Flex>(24, 3, 8), random::<Flex>(24, 3, 8));
    let one = hashing(1, 1, 24);
    let places = Tensor::<Flex, 1, burn::tensor::Int>::arange(0..24, &q.device()).float();
    let places = places.reshape([1, 24, 1, 1]).expand([2, 24, 3, 1]);
    let o = lsh_attention(q.clone(), v.clone(), places, one);
    let causal = (0..2 * 3 * 24 * 24).map(|at| at % 24 <= at / 24 % 24).collect();
    let worst = (o - definition(q, v, causal)).abs().max().into_scalar();
    assert!(worst <= 1e-5, "{worst}");
}

#[test]
fn places_agree_with_the_reference_and_continue() {
    for hashing in HASHINGS {
        let q = random::<Flex>(20, 3, 16);
        let whole = lsh_places(q.clone(), None, hashing);
        let plain = reference::places(q.clone(), None, hashing);
        assert_eq!(whole.to_data(), plain.to_data());
        let part = |from, n| q.clone().narrow(1, from, n);
        // a cache with room for more
        let cache = Tensor::cat(
            vec![whole.clone().narrow(1, 0, 12), random(8, 3, hashing.rounds)],
            1,
        );
        for rest in [
            lsh_places(part(12, 8), Some((cache.clone(), 12)), hashing),
            reference::places(part(12, 8), Some((cache.clone(), 12)), hashing),
        ] {
            assert_eq!(rest.to_data(), whole.clone().narrow(1, 12, 8).to_data());
        }
    }
}

#[test]
fn a_step_is_the_last_row_and_its_work_does_not_grow() {
    for hashing in HASHINGS {
        let (q, v) = (random::<Flex>(30, 2, 8), random::<Flex>(30, 2, 8));
        let places = lsh_places(q.clone(), None, hashing);
        let whole = lsh_attention(q.clone(), v.clone(), places.clone(), hashing);
        for position in 0..30 {
            let now = q.clone().narrow(1, position, 1);
            let caches = [unit_length(q.clone()), v.clone(), places.clone()];
            let (o, macs) = count_macs(|| lsh_attention_step(now.clone(), caches.clone(), position, hashing));
            assert_eq!(
                macs as usize,
                2 * 2 * hashing.rounds * 2 * hashing.slots(position) * 8
            );
            let expected = whole.clone().narrow(1, position, 1).into_data();
            close(o.into_data(), expected.clone());
            close(
                reference::step(now, caches, position, hashing).into_data(),
                expected,
            );
        }
    }
}

#[test]
fn later_tokens_have_weight_zero_and_change_no_hash_of_earlier_ones() {
    let hashing = hashing(4, 4, 3);
    let (q, v) = (random::<Flex>(32, 2, 8), random::<Flex>(32, 2, 8));
    let run = |q: &Tensor<Flex, 4>, v: &Tensor<Flex, 4>| {
        let places = lsh_places(q.clone(), None, hashing);
        lsh_attention(q.clone(), v.clone(), places, hashing)
    };
    let before = run(&q, &v);
    for j in 1..32 {
        let change = |x: &Tensor<Flex, 4>| {
            let end = Tensor::full([2, 32 - j, 2, 8], 1e3, &x.device());
            Tensor::cat(vec![x.clone().narrow(1, 0, j), end], 1)
        };
        let head = |o: Tensor<Flex, 4>| o.narrow(1, 0, j).into_data();
        assert_eq!(
            head(run(&q, &change(&v))),
            head(before.clone()),
            "values from {j}"
        );
        assert_eq!(
            head(run(&change(&q), &change(&v))),
            head(before.clone()),
            "all from {j}"
        );
    }
}

/// Golden numbers for 16 components and 8 buckets.
#[test]
fn nearer_vectors_collide_more_often() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let right = std::f32::consts::FRAC_PI_2;
    for (angle, expected) in [(0.1f32, 0.91), (0.5, 0.63), (1.0, 0.34), (right, 0.125)] {
        let mut pair = vec![0.0f32; 32];
        (pair[0], pair[16], pair[17]) = (1.0, angle.cos(), angle.sin());
        let draws = 20_000;
        let hits = (0..draws).filter(|_| {
            let rotation: Vec<f32> = StandardNormal.sample_iter(&mut random).take(16 * 4).collect();
            let places = rounds::places_of_head(&pair, &rotation, 16, hashing(1, 8, 8), &mut [0; 8]).0;
            places[0] as usize % 8 == places[1] as usize % 8
        });
        let share = hits.count() as f64 / f64::from(draws);
        assert!((share - expected).abs() < 0.02, "{angle}: {share}");
    }
}

#[test]
fn more_rounds_see_the_best_key_more_often() {
    let n = 128;
    let (q, h, d) = (random::<Flex>(n, 2, 16), 2, 16);
    let keys: Vec<f32> = unit_length(q.clone())
        .swap_dims(1, 2)
        .into_data()
        .to_vec()
        .unwrap();
    let recall = |rounds: usize| {
        let hashing = hashing(rounds, 8, 16);
        let seen = union(&lsh_places(q.clone(), None, hashing), hashing);
        let mut found = 0;
        for (head, i) in (0..2 * h).flat_map(|head| (1..n).map(move |i| (head, i))) {
            let key = |j: usize| &keys[(head * n + j) * d..][..d];
            let score = |j: usize| key(i).iter().zip(key(j)).map(|(a, b)| a * b).sum::<f32>();
            let best = (0..i).max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap();
            found += usize::from(seen[(head * n + i) * n + best]);
        }
        found as f64 / (2 * h * (n - 1)) as f64
    };
    let [one, two, eight] = [1, 2, 8].map(recall);
    assert!(one < two && two < eight && eight > 0.9, "{one} {two} {eight}");
}

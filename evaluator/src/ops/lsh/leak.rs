//! Why chunks are aligned to buckets: how often a later token changes earlier outputs where they are not.

use burn::{
    backend::Flex,
    tensor::{Tensor, TensorData},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{
    tests::{definition, hashing},
    *,
};

const N: usize = 64;
const DEPTH: usize = 16;
const HASHING: Hashing = hashing(1, 8, 8);

type Rows = Tensor<Flex, 4>;

/// What each token sees where the whole sorted order is cut into chunks, as the paper does it by default: `[n, n]`.
fn seen_in_chunks_of_the_sorted_order(places: &Rows) -> Vec<bool> {
    let places: Vec<f32> = places.to_data().to_vec().unwrap();
    let bucket = |i: usize| places[i] as usize % HASHING.buckets;
    let mut order: Vec<usize> = (0..N).collect();
    order.sort_by_key(|i| (bucket(*i), *i));
    let mut chunk = [0; N];
    for (at, i) in order.into_iter().enumerate() {
        chunk[i] = at / HASHING.chunk;
    }
    let pairs = (0..N).flat_map(|i| (0..N).map(move |j| (i, j)));
    pairs
        .map(|(i, j)| j <= i && bucket(i) == bucket(j) && chunk[i] - chunk[j] <= 1)
        .collect()
}

/// The share of earlier outputs that change when one token becomes another one.
fn leak(attend: impl Fn(Rows, Rows) -> Rows) -> f64 {
    let (mut changed, mut all) = (0, 0);
    for seed in 0..8 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut rows = |n: usize| {
            let values: Vec<f32> = StandardNormal.sample_iter(&mut random).take(n * DEPTH).collect();
            Rows::from_data(TensorData::new(values, [1, n, 1, DEPTH]), &Default::default())
        };
        let (q, v) = (rows(N), rows(N));
        let numbers = |o: Rows| o.into_data().to_vec::<f32>().unwrap();
        let before = numbers(attend(q.clone(), v.clone()));
        for edited in 1..N {
            let other = |x: &Rows, row: Rows| x.clone().slice_assign([0..1, edited..edited + 1], row);
            let after = numbers(attend(other(&q, rows(1)), other(&v, rows(1))));
            let pairs = before.chunks(DEPTH).zip(after.chunks(DEPTH)).take(edited);
            changed += pairs.filter(|(before, after)| before != after).count();
            all += edited;
        }
    }
    changed as f64 / all as f64
}

#[test]
fn a_later_token_reaches_earlier_ones_through_chunks_of_the_sorted_order_and_not_through_aligned_ones() {
    let unaligned = leak(|q, v| {
        let places = lsh_places(q.clone(), None, HASHING);
        definition(q, v, seen_in_chunks_of_the_sorted_order(&places))
    });
    assert!((0.002..0.02).contains(&unaligned), "{unaligned}");
    let aligned = leak(|q, v| {
        let places = lsh_places(q.clone(), None, HASHING);
        lsh_attention(q, v, places, HASHING)
    });
    assert_eq!(aligned, 0.0);
}

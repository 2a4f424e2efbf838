//! Why the causal form leaves out the paper's heavy part: how often a later token changes earlier outputs through blocks of
//! keys and queries sorted by hyperplane codes, of which each query sees the earlier keys.

use burn::{
    backend::Flex,
    tensor::{Tensor, TensorData},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Distribution, StandardNormal};

use super::{
    codes::{code, gray_rank, order},
    *,
};

const N: usize = 64;
const DEPTH: usize = 16;
const BLOCK: usize = 8;
const BITS: usize = 3;

fn normal(count: usize, seed: u64) -> Vec<f32> {
    let random = ChaCha8Rng::seed_from_u64(seed);
    StandardNormal.sample_iter(random).take(count).collect()
}

/// The block of each of the rows `x [n, depth]` in their order by code.
fn sorted_blocks(x: &[f32], hyperplanes: &[f32]) -> Vec<usize> {
    let ranks: Vec<usize> = x.chunks(DEPTH).map(|x| gray_rank(code(x, hyperplanes))).collect();
    let mut block = vec![0; ranks.len()];
    for (at, i) in order(&ranks).into_iter().enumerate() {
        block[i] = at / BLOCK;
    }
    block
}

/// Attention of each query to the earlier keys of its block; zeros where there are none.
fn heavy([q, k, v]: [&[f32]; 3]) -> Vec<f32> {
    let hyperplanes = normal(BITS * DEPTH, 77);
    let (of_queries, of_keys) = (sorted_blocks(q, &hyperplanes), sorted_blocks(k, &hyperplanes));
    let row = |x: &[f32], i: usize| x[i * DEPTH..][..DEPTH].to_vec();
    let outputs = (0..N).flat_map(|i| {
        let (mut sum, mut o) = (0.0, vec![0.0; DEPTH]);
        for j in (0..=i).filter(|j| of_keys[*j] == of_queries[i]) {
            let score: f32 = row(q, i).iter().zip(row(k, j)).map(|(q, k)| q * k).sum();
            let weight = (score / (DEPTH as f32).sqrt()).exp();
            sum += weight;
            o.iter_mut().zip(row(v, j)).for_each(|(o, v)| *o += weight * v);
        }
        o.into_iter().map(move |o| if sum > 0.0 { o / sum } else { 0.0 })
    });
    outputs.collect()
}

/// The share of earlier outputs that change when one token becomes another one.
fn leak(attend: impl Fn([&[f32]; 3]) -> Vec<f32>) -> f64 {
    let (mut changed, mut all) = (0, 0);
    for seed in 0..8 {
        let x = [1, 2, 3].map(|part| normal(N * DEPTH, 10 * seed + part));
        let before = attend(x.each_ref().map(Vec::as_slice));
        for edited in 1..N {
            let mut other = x.clone();
            for (part, x) in other.iter_mut().enumerate() {
                let row = normal(DEPTH, 1000 + 10 * edited as u64 + part as u64);
                x[edited * DEPTH..][..DEPTH].copy_from_slice(&row);
            }
            let after = attend(other.each_ref().map(Vec::as_slice));
            let pairs = before.chunks(DEPTH).zip(after.chunks(DEPTH)).take(edited);
            changed += pairs.filter(|(before, after)| before != after).count();
            all += edited;
        }
    }
    changed as f64 / all as f64
}

#[test]
fn a_later_token_reaches_earlier_ones_through_sorted_blocks_and_not_through_the_recursion() {
    let sorted = leak(heavy);
    assert!(sorted > 0.002, "{sorted}");
    let blocks = KdeBlocks { leaf: 4, samples: 3 };
    let recursion = leak(|x| {
        let [q, k, v] = x.map(|x| {
            let data = TensorData::new(x.to_vec(), [1, N, 1, DEPTH]);
            Tensor::<Flex, 4>::from_data(data, &Default::default())
        });
        let draws = kde_draw(v.clone(), 0..blocks.drawn(N), blocks);
        let o = kde_attention(q, k, v, draws, 0, blocks);
        o.into_data().to_vec().unwrap()
    });
    assert_eq!(recursion, 0.0);
}

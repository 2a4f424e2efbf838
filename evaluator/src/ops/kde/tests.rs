use burn::{
    backend::Flex,
    tensor::{Distribution, TensorData, Tolerance},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Distribution as _, StandardNormal};

use super::{
    sampling::{attend, choose, uniforms},
    *,
};
use crate::ops::{Band, attention, simd};

type A = Autodiff<Flex>;

fn close(a: TensorData, b: TensorData, tolerance: f32) {
    a.assert_approx_eq::<f32>(&b, Tolerance::rel_abs(10.0 * tolerance, tolerance));
}

fn inputs(n: usize) -> [Tensor<Flex, 4>; 3] {
    [0; 3].map(|_| Tensor::random([2, n, 3, 8], Distribution::Normal(0.0, 1.2), &Default::default()))
}

fn whole<B: KdeOp>([q, k, v]: [Tensor<B, 4>; 3], blocks: KdeBlocks) -> Tensor<B, 4> {
    let draws = kde_draw(v.clone(), 0..blocks.drawn(q.dims()[1]), blocks);
    kde_attention(q, k, v, draws, 0, blocks)
}

fn blocks(leaf: usize, samples: usize) -> KdeBlocks {
    KdeBlocks { leaf, samples }
}

#[test]
fn a_long_leaf_or_enough_samples_are_full_attention() {
    for n in [1, 7, 32, 61] {
        let [q, k, v] = inputs(n);
        let exact = attention(q.clone(), k.clone(), v.clone(), Band::causal(n)).into_data();
        for blocks in [blocks(64, 1), blocks(4, 32), blocks(1, 64), blocks(8, 1024)] {
            let o = whole([q.clone(), k.clone(), v.clone()], blocks);
            close(o.into_data(), exact.clone(), 1e-5);
        }
    }
}

#[test]
fn every_earlier_position_is_in_one_block_and_rows_are_in_the_order_of_time() {
    for blocks in [
        blocks(1, 1),
        blocks(4, 3),
        blocks(4, 4),
        blocks(3, 20),
        blocks(32, 32),
    ] {
        for leaf in 0..70 {
            let mut next = 0;
            for block in blocks.past(leaf) {
                assert_eq!(block.start, next);
                next += block.len;
                assert_eq!(block.row.is_some(), block.len > blocks.samples);
                if let Some(row) = block.row {
                    assert_eq!(blocks.block(row), block);
                    // known once the block is past, and not before
                    assert!(row < blocks.drawn(block.start + block.len + 1));
                    assert!(row >= blocks.drawn(block.start + block.len));
                }
            }
            assert_eq!(next, leaf * blocks.leaf);
        }
    }
}

#[test]
fn pairs_grow_hardly_faster_than_the_sequence() {
    let blocks = blocks(32, 32);
    assert_eq!(blocks.pairs(32), 32 * 33 / 2);
    // four leaves; one past leaf, then one sampled pair of leaves, then both
    assert_eq!(blocks.pairs(128), 4 * 32 * 33 / 2 + 32 * (32 + 32 + 64));
    let grown = blocks.pairs(16_384) as f64 / blocks.pairs(8_192) as f64;
    assert!(grown < 2.3, "{grown}");
    assert!(blocks.pairs(16_384) < 16_384 * 16_385 / 2 / 40);
}

#[test]
fn the_kernel_its_gradients_and_its_draw_equal_the_reference_and_burns_own() {
    for (n, blocks) in [
        (1, blocks(2, 2)),
        (13, blocks(2, 3)),
        (40, blocks(4, 4)),
        (33, blocks(3, 1)),
    ] {
        let [q, k, v] = inputs(n);
        let draws = kde_draw(v.clone(), 0..blocks.drawn(n), blocks);
        let plain = reference::draw(v.clone(), 0..blocks.drawn(n), blocks);
        close(draws.to_data(), plain.into_data(), 1e-4);
        let x = [&q, &k, &v].map(|t| Tensor::<A, 4>::from_inner(t.clone()).require_grad());
        let [qa, ka, va] = x.clone();
        let drawn = Tensor::<A, 4>::from_inner(draws.clone());
        let expected = reference::forward(qa.clone(), ka.clone(), va.clone(), drawn.clone(), 0, blocks).0;
        let grads = (expected.clone() * expected.clone().sin()).sum().backward();
        let of_burn = x.each_ref().map(|t| t.grad(&grads).unwrap().into_data());
        let o = kde_attention(qa, ka, va, drawn, 0, blocks);
        close(o.to_data(), expected.to_data(), 1e-4);
        let grads = (o.clone() * o.clone().sin()).sum().backward();
        for (t, of_burn) in x.iter().zip(&of_burn) {
            close(t.grad(&grads).unwrap().into_data(), of_burn.clone(), 1e-4);
        }
        let (o, log_sums) = reference::forward(q.clone(), k.clone(), v.clone(), draws.clone(), 0, blocks);
        let gradient = o.clone().sin() + o.clone() * o.clone().cos();
        let plain = reference::backward([q, k, v, draws], o, log_sums, gradient, 0, blocks);
        for (plain, of_burn) in plain.into_iter().zip(of_burn) {
            close(plain.into_data(), of_burn, 1e-4);
        }
    }
}

#[test]
fn a_sequence_in_pieces_gets_the_same_draw_and_output() {
    let (blocks, n) = (blocks(4, 5), 60);
    let [q, k, v] = inputs(n);
    let expected = whole([q.clone(), k.clone(), v.clone()], blocks);
    let draws = kde_draw(v.clone(), 0..blocks.drawn(n), blocks);
    assert_eq!(draws.dims()[1], blocks.drawn(n));
    for row in 0..blocks.drawn(n) {
        let one = kde_draw(v.clone(), row..row + 1, blocks);
        assert_eq!(
            one.into_data(),
            draws.clone().slice([0..2, row..row + 1]).into_data()
        );
    }
    for cut in [1, 17, 32, 59] {
        let piece = q.clone().slice([0..2, cut..n]);
        let o = kde_attention(piece.clone(), k.clone(), v.clone(), draws.clone(), cut, blocks);
        let plain = reference::forward(piece, k.clone(), v.clone(), draws.clone(), cut, blocks).0;
        let tail = expected.clone().slice([0..2, cut..n]).into_data();
        close(o.into_data(), tail.clone(), 1e-5);
        close(plain.into_data(), tail, 1e-4);
    }
}

#[test]
fn later_tokens_never_change_earlier_outputs_and_huge_scores_stay_finite() {
    let n = 64;
    let [q, k, v] = inputs(n);
    for samples in [1, 4, 16] {
        let blocks = blocks(4, samples);
        let before = whole([q.clone(), k.clone(), v.clone()], blocks);
        for cut in [1, 16, 31, 33, 63] {
            let change = Tensor::full([2, n - cut, 3, 8], 1e3, &q.device());
            let replace = |t: &Tensor<Flex, 4>| t.clone().slice_assign([0..2, cut..n], change.clone());
            let after = whole([replace(&q), replace(&k), replace(&v)], blocks);
            assert!(after.to_data().iter::<f32>().all(f32::is_finite));
            let head = |t: &Tensor<Flex, 4>| t.clone().slice([0..2, 0..cut]).into_data();
            assert_eq!(head(&before), head(&after), "samples {samples}, cut {cut}");
        }
    }
}

/// T, depth of the known numbers.
const T: usize = 256;
const D: usize = 16;

pub(super) fn normal(seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..T * D).map(|_| StandardNormal.sample(&mut rng)).collect()
}

/// `e^{q·k/√d} [T, T]`
pub(super) fn kernel(q: &[f32], k: &[f32]) -> Vec<f32> {
    let pairs = q.chunks(D).flat_map(|q| {
        k.chunks(D)
            .map(move |k| (simd::dot(q, k) / (D as f32).sqrt()).exp())
    });
    pairs.collect()
}

/// Outputs `[T, d]` from `samples` keys drawn by `p`, and denominators.
fn estimate(x: [&[f32]; 3], p: &[f32], samples: usize, seed: usize) -> (Vec<f32>, Vec<f32>) {
    let [q, k, v] = x;
    let (mut chosen, mut bias) = (vec![0.0; samples], vec![0.0; samples]);
    choose(p, uniforms(seed, 0, samples), &mut chosen, &mut bias);
    let rows = |x: &[f32]| -> Vec<f32> {
        chosen
            .iter()
            .flat_map(|i| x[*i as usize * D..][..D].to_vec())
            .collect()
    };
    let (mut keys, values) = (vec![0.0; samples * D], rows(v));
    simd::transpose(&rows(k), D, samples, D, &mut keys);
    let mut out = vec![0.0f32; T * D];
    let log_sums = q.chunks(D).zip(out.chunks_mut(D)).map(|(q, o)| {
        let q: Vec<f32> = q.iter().map(|x| x / (D as f32).sqrt()).collect();
        attend(&q, &keys, samples, &values, &mut bias.clone(), samples, o).exp()
    });
    let sums = log_sums.collect();
    (out, sums)
}

/// Largest singular value of a matrix of these columns.
pub(super) fn operator_norm(matrix: &[f32], columns: usize) -> f64 {
    let mut x = vec![1.0f64; columns];
    let mut norm = 0.0;
    for _ in 0..200 {
        let mut next = vec![0.0; columns];
        for row in matrix.chunks(columns) {
            let y: f64 = row.iter().zip(&x).map(|(a, x)| f64::from(*a) * x).sum();
            row.iter()
                .zip(&mut next)
                .for_each(|(a, n)| *n += f64::from(*a) * y);
        }
        norm = next.iter().map(|x| x * x).sum::<f64>().sqrt();
        x = next.into_iter().map(|x| x / norm).collect();
    }
    norm.sqrt()
}

#[test]
fn the_error_of_the_estimator_is_the_known_one_and_falls_with_the_root_of_the_samples() {
    let known = [(16, 0.85), (64, 0.42), (256, 0.21), (1024, 0.105)];
    let (inputs, repeats) = (4, 8);
    let mut errors = vec![0.0; known.len()];
    for input in 0..inputs {
        let [q, k, v] = [1, 2, 3].map(|part| normal(10 * input + part));
        let mut a = kernel(&q, &k);
        for row in a.chunks_mut(T) {
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|x| *x /= sum);
        }
        let mut exact = vec![0.0f32; T * D];
        for (o, row) in exact.chunks_mut(D).zip(a.chunks(T)) {
            simd::add_weighted_rows(o, row, &v, D);
        }
        let columns: Vec<f32> = (0..T)
            .map(|l| a.chunks(T).map(|row| row[l] * row[l]).sum())
            .collect();
        let squares: Vec<f32> = v.chunks(D).map(|v| simd::dot(v, v)).collect();
        let (of_columns, of_values): (f32, f32) = (columns.iter().sum(), squares.iter().sum());
        let p: Vec<f32> = columns
            .iter()
            .zip(&squares)
            .map(|(c, s)| 0.5 * c / of_columns + 0.5 * s / of_values)
            .collect();
        let scale = operator_norm(&a, T) * operator_norm(&v, D);
        for ((m, _), error) in known.iter().zip(&mut errors) {
            for repeat in 0..repeats {
                let (o, _) = estimate([&q, &k, &v], &p, *m, 1 + repeat);
                let difference: Vec<f32> = o.iter().zip(&exact).map(|(o, e)| o - e).collect();
                *error += operator_norm(&difference, D) / scale / (inputs as f64 * repeats as f64);
            }
        }
    }
    for ((m, known), error) in known.iter().zip(&errors) {
        assert!(
            (error / known - 1.0).abs() < 0.15,
            "m {m}: {error}, not {known}: {errors:?}"
        );
    }
    // three factors of four between the first and the last
    let slope = (errors[3] / errors[0]).ln() / 64f64.ln();
    assert!((-0.6..=-0.4).contains(&slope), "{slope}");
}

#[test]
fn numerator_and_denominator_are_unbiased() {
    let [q, k, v] = [1, 2, 3].map(normal);
    let a = kernel(&q, &k);
    // the proportions of the causal form
    let mut p: Vec<f32> = v.chunks(D).map(|v| simd::dot(v, v)).collect();
    sampling::proportions(&mut p);
    let seeds = 400;
    let columns = D + 1;
    let (mut sum, mut squares) = (vec![0.0f64; T * columns], vec![0.0f64; T * columns]);
    for seed in 0..seeds {
        let (o, den) = estimate([&q, &k, &v], &p, 32, 1000 + seed);
        for i in 0..T {
            for c in 0..columns {
                let x = f64::from(den[i]) * o[i * D..][..D].get(c).map_or(1.0, |o| f64::from(*o));
                sum[i * columns + c] += x;
                squares[i * columns + c] += x * x;
            }
        }
    }
    let n = seeds as f64;
    let (mut outside, mut worst) = (0, 0.0f64);
    for i in 0..T {
        for c in 0..columns {
            let value = |l: usize| v[l * D..][..D].get(c).map_or(1.0, |v| f64::from(*v));
            let exact: f64 = (0..T).map(|l| f64::from(a[i * T + l]) * value(l)).sum();
            let mean = sum[i * columns + c] / n;
            let error = ((squares[i * columns + c] / n - mean * mean) / n).sqrt();
            let off = (mean - exact).abs() / error;
            outside += usize::from(off > 3.0);
            worst = worst.max(off);
        }
    }
    // of so many entries some lie beyond three standard errors by chance: 0.3 %, in runs because they share draws
    assert!(
        outside * 50 < T * columns && worst < 6.0,
        "{outside} outside, {worst}"
    );
}

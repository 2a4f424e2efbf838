//! The kernels for processors: one task for each sequence and head.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{
    EPSILON, Hashing, LshOp, SELF_SCORE,
    rotations::rotations,
    rounds::{Round, places_of_head, rounds},
    step::{seen_rows, step_head},
};
use crate::{
    counter,
    ops::{contiguous, cpu_tensor, heads::interleave, simd, values},
};

/// `[b, n, h, width]` seen as the columns of single heads.
#[derive(Clone, Copy)]
pub(super) struct Heads<'a> {
    values: &'a [f32],
    shape: [usize; 4],
}

impl<'a> Heads<'a> {
    fn of(tensor: &'a FlexTensor) -> Self {
        let shape = tensor.shape();
        Heads {
            values: values(tensor),
            shape: [shape[0], shape[1], shape[2], shape[3]],
        }
    }

    /// Row of one position of the head of this task.
    pub(super) fn row(&self, task: usize, position: usize) -> &'a [f32] {
        let [_, n, h, width] = self.shape;
        &self.values[((task / h * n + position) * h + task % h) * width..][..width]
    }

    pub(super) fn width(&self) -> usize {
        self.shape[3]
    }

    /// All rows of one head.
    fn head(&self, task: usize) -> Vec<f32> {
        let rows = (0..self.shape[1]).flat_map(|i| self.row(task, i));
        rows.copied().collect()
    }
}

impl LshOp for Flex {
    fn lsh_places(q: FlexTensor, past: Option<(FlexTensor, usize)>, hashing: Hashing) -> FlexTensor {
        let q = contiguous(q);
        let past = past.map(|(places, taken)| (contiguous(places), taken));
        let q = Heads::of(&q);
        let [b, n, h, d] = q.shape;
        let rotations = rotations(d, hashing);
        let parts: Vec<(Vec<f32>, usize)> = (0..b * h)
            .into_par_iter()
            .map(|task| {
                let mut ranks = vec![0usize; hashing.rounds * hashing.buckets];
                if let Some((places, taken)) = &past {
                    let places = Heads::of(places);
                    for row in (0..*taken).map(|i| places.row(task, i)) {
                        for (place, ranks) in row.iter().zip(ranks.chunks_exact_mut(hashing.buckets)) {
                            ranks[*place as usize % hashing.buckets] += 1;
                        }
                    }
                }
                places_of_head(&q.head(task), &rotations, d, hashing, &mut ranks)
            })
            .collect();
        counter::add_macs(parts.iter().map(|p| p.1).sum());
        cpu_tensor(
            interleave(parts.iter().map(|p| p.0.as_slice()), h, hashing.rounds),
            &[b, n, h, hashing.rounds],
        )
    }

    fn lsh_forward(
        q: FlexTensor,
        v: FlexTensor,
        places: FlexTensor,
        hashing: Hashing,
    ) -> (FlexTensor, FlexTensor) {
        let (q, v, places) = (contiguous(q), contiguous(v), contiguous(places));
        let (q, v, places) = (Heads::of(&q), Heads::of(&v), Heads::of(&places));
        let [b, n, h, d] = q.shape;
        let parts: Vec<([Vec<f32>; 2], usize)> = (0..b * h)
            .into_par_iter()
            .map(|task| {
                let rounds = rounds(&places.head(task), n, hashing);
                forward_head(&q.head(task), &v.head(task), &rounds, d)
            })
            .collect();
        counter::add_macs(parts.iter().map(|p| p.1).sum());
        let part = |which: usize, width| {
            let parts = parts.iter().map(|p| p.0[which].as_slice());
            cpu_tensor(interleave(parts, h, width), &[b, n, h, width])
        };
        (part(0, d), part(1, 2))
    }

    fn lsh_backward(
        inputs: [FlexTensor; 3],
        results: [FlexTensor; 2],
        gradient: FlexTensor,
        hashing: Hashing,
    ) -> [FlexTensor; 2] {
        let (inputs, results, gradient) = (
            inputs.map(contiguous),
            results.map(contiguous),
            contiguous(gradient),
        );
        let [q, v, places] = inputs.each_ref().map(Heads::of);
        let [o, sums] = results.each_ref().map(Heads::of);
        let gradient = Heads::of(&gradient);
        let [b, n, h, d] = q.shape;
        let parts: Vec<([Vec<f32>; 2], usize)> = (0..b * h)
            .into_par_iter()
            .map(|task| {
                let rounds = rounds(&places.head(task), n, hashing);
                let [q, v, o, sums, gradient] = [q, v, o, sums, gradient].map(|x| x.head(task));
                backward_head([&q, &v], [&o, &sums], &gradient, &rounds, d)
            })
            .collect();
        counter::add_macs(parts.iter().map(|p| p.1).sum());
        [0, 1].map(|which| {
            let parts = parts.iter().map(|p| p.0[which].as_slice());
            cpu_tensor(interleave(parts, h, d), &q.shape)
        })
    }

    fn lsh_step(q: FlexTensor, caches: [FlexTensor; 3], position: usize, hashing: Hashing) -> FlexTensor {
        let (q, caches) = (contiguous(q), caches.map(contiguous));
        let q = Heads::of(&q);
        let [keys, values, places] = caches.each_ref().map(Heads::of);
        let [b, _, h, d] = q.shape;
        let parts: Vec<(Vec<f32>, usize)> = (0..b * h)
            .into_par_iter()
            .map(|task| {
                let (mut rows, slots) = seen_rows(task, [keys, values, places], position, hashing);
                step_head(q.row(task, 0), &mut rows, slots)
            })
            .collect();
        counter::add_macs(parts.iter().map(|p| p.1).sum());
        cpu_tensor(interleave(parts.iter().map(|p| p.0.as_slice()), h, d), &q.shape)
    }
}

#[inline(always)]
fn inverse_length(x: &[f32]) -> f32 {
    1.0 / (simd::dot(x, x) + EPSILON).sqrt()
}

#[inline(always)]
fn unit_rows(q: &[f32], d: usize) -> Vec<f32> {
    let mut keys = q.to_vec();
    for key in keys.chunks_exact_mut(d) {
        let scale = inverse_length(key);
        for x in key {
            *x *= scale;
        }
    }
    keys
}

/// Turns scores of a window into exponentials above `largest`, each divided by the rounds in which the pair meets; what
/// is not seen becomes 0.
#[inline(always)]
fn exponentials(
    scores: &mut [f32],
    largest: f32,
    round: &Round,
    position: usize,
    first: usize,
    met: &mut [f32],
) {
    let hidden = scores.len() - round.seen[position];
    scores[..hidden].fill(0.0);
    let (seen, met) = (&mut scores[hidden..], &mut met[hidden..]);
    let met = &mut met[..seen.len()];
    met.fill(0.0);
    let own = first + hidden + seen.len() - 1;
    let before = round.hashing.buckets as i32;
    for cells in &round.cells {
        let cell = cells[own];
        for (met, other) in met.iter_mut().zip(&cells[first + hidden..=own]) {
            *met += f32::from(u8::from((*other == cell) | (*other == cell - before)));
        }
    }
    for (s, met) in seen.iter_mut().zip(met) {
        *s = simd::exp(*s - largest) / *met;
    }
}

/// Outputs `[n, d]`, and largest score and sum of exponentials `[n, 2]`; and multiply-adds.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward_head(q: &[f32], v: &[f32], rounds: &[Round], d: usize) -> ([Vec<f32>; 2], usize) {
    let n = q.len() / d;
    let keys = unit_rows(q, d);
    let mut o = vec![0.0f32; n * d];
    let mut sums = [f32::NEG_INFINITY, 0.0].repeat(n);
    let mut macs = 0;
    for round in rounds {
        let rows = round.rows();
        let v = round.sorted(v, d);
        let mut keys_turned = vec![0.0f32; rows * d];
        simd::transpose(&round.sorted(&keys, d), d, rows, d, &mut keys_turned);
        let (mut scores, mut met) = (vec![0.0f32; round.padding], vec![0.0f32; round.padding]);
        for i in 0..n {
            let (first, slots) = round.window(i);
            let (scores, o) = (&mut scores[..slots], &mut o[i * d..][..d]);
            scores.fill(0.0);
            simd::add_weighted_rows(scores, &q[i * d..][..d], &keys_turned[first..], rows);
            scores[slots - 1] = SELF_SCORE;
            let [largest, sum] = [sums[2 * i], sums[2 * i + 1]];
            let new = largest.max(simd::max(&scores[slots - round.seen[i]..]));
            exponentials(scores, new, round, i, first, &mut met);
            let old = simd::exp(largest - new);
            for o in o.iter_mut() {
                *o *= old;
            }
            simd::add_weighted_rows(o, scores, &v[first * d..], d);
            sums[2 * i] = new;
            sums[2 * i + 1] = sum * old + simd::sum(scores);
            macs += 2 * scores.len() * d;
        }
    }
    for (o, sums) in o.chunks_exact_mut(d).zip(sums.chunks_exact(2)) {
        for o in o {
            *o /= sums[1];
        }
    }
    ([o, sums], macs)
}

/// Gradients of queries and values `[n, d]`; and multiply-adds.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward_head(
    [q, v]: [&[f32]; 2],
    [o, sums]: [&[f32]; 2],
    gradient: &[f32],
    rounds: &[Round],
    d: usize,
) -> ([Vec<f32>; 2], usize) {
    let n = q.len() / d;
    let keys = unit_rows(q, d);
    let [mut dq, mut dk, mut dv] = [(); 3].map(|()| vec![0.0f32; n * d]);
    let mut macs = 0;
    for round in rounds {
        let rows = round.rows();
        let keys = round.sorted(&keys, d);
        let [mut keys_turned, mut v_turned, mut dk_sorted, mut dv_sorted] =
            [(); 4].map(|()| vec![0.0f32; rows * d]);
        simd::transpose(&keys, d, rows, d, &mut keys_turned);
        simd::transpose(&round.sorted(v, d), d, rows, d, &mut v_turned);
        let [mut p, mut dp, mut met] = [(); 3].map(|()| vec![0.0f32; round.padding]);
        for i in 0..n {
            let (first, slots) = round.window(i);
            let (p, dp) = (&mut p[..slots], &mut dp[..slots]);
            let (q, g) = (&q[i * d..][..d], &gradient[i * d..][..d]);
            p.fill(0.0);
            simd::add_weighted_rows(p, q, &keys_turned[first..], rows);
            p[slots - 1] = SELF_SCORE;
            exponentials(p, sums[2 * i], round, i, first, &mut met);
            let scale = 1.0 / sums[2 * i + 1];
            // the sum of all gradients of probabilities, weighted by them
            dp.fill(-simd::dot(g, &o[i * d..][..d]));
            simd::add_weighted_rows(dp, g, &v_turned[first..], rows);
            let dv_window = dv_sorted[first * d..].chunks_exact_mut(d);
            for ((p, dp), dv) in p.iter_mut().zip(dp.iter_mut()).zip(dv_window) {
                *p *= scale;
                *dp *= *p;
                simd::add_scaled(dv, *p, g);
            }
            // the score of a token with itself is a constant
            dp[slots - 1] = 0.0;
            simd::add_weighted_rows(&mut dq[i * d..][..d], dp, &keys[first * d..], d);
            for (ds, dk) in dp.iter().zip(dk_sorted[first * d..].chunks_exact_mut(d)) {
                simd::add_scaled(dk, *ds, q);
            }
            macs += 5 * p.len() * d;
        }
        for (row, position) in round.order.iter().enumerate() {
            let row = (round.padding + row) * d..(round.padding + row + 1) * d;
            simd::add_scaled(&mut dk[position * d..][..d], 1.0, &dk_sorted[row.clone()]);
            simd::add_scaled(&mut dv[position * d..][..d], 1.0, &dv_sorted[row]);
        }
    }
    // through the division by the length
    for ((dq, dk), q) in dq
        .chunks_exact_mut(d)
        .zip(dk.chunks_exact(d))
        .zip(q.chunks_exact(d))
    {
        let scale = inverse_length(q);
        simd::add_scaled(dq, scale, dk);
        simd::add_scaled(dq, -simd::dot(q, dk) * scale * scale * scale, q);
    }
    ([dq, dv], macs)
}

//! The kernels for processors: one task for each sequence and head.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{EPSILON, Hashing, LshOp, SELF_SCORE, rotations::rotations};
use crate::{
    counter,
    ops::{contiguous, cpu_tensor, simd, values},
};

/// `[b, n, h, width]` seen as the columns of single heads.
#[derive(Clone, Copy)]
struct Heads<'a> {
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
    fn row(&self, task: usize, position: usize) -> &'a [f32] {
        let [_, n, h, width] = self.shape;
        &self.values[((task / h * n + position) * h + task % h) * width..][..width]
    }

    /// All rows of one head.
    fn head(&self, task: usize) -> Vec<f32> {
        let rows = (0..self.shape[1]).flat_map(|i| self.row(task, i));
        rows.copied().collect()
    }
}

/// The opposite of [`Heads::head`] for the results of all tasks.
fn join<'a>(parts: impl Iterator<Item = &'a [f32]>, [b, n, h, width]: [usize; 4]) -> FlexTensor {
    let mut all = vec![0.0f32; b * n * h * width];
    for (task, part) in parts.enumerate() {
        for (i, row) in part.chunks_exact(width).enumerate() {
            all[((task / h * n + i) * h + task % h) * width..][..width].copy_from_slice(row);
        }
    }
    cpu_tensor(all, &[b, n, h, width])
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
        join(parts.iter().map(|p| p.0.as_slice()), [b, n, h, hashing.rounds])
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
        let part = |which: usize, width| join(parts.iter().map(|p| p.0[which].as_slice()), [b, n, h, width]);
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
        [0, 1].map(|which| join(parts.iter().map(|p| p.0[which].as_slice()), q.shape))
    }

    fn lsh_step(q: FlexTensor, caches: [FlexTensor; 3], position: usize, hashing: Hashing) -> FlexTensor {
        let (q, caches) = (contiguous(q), caches.map(contiguous));
        let q = Heads::of(&q);
        let [keys, values, places] = caches.each_ref().map(Heads::of);
        let [b, _, h, d] = q.shape;
        let parts: Vec<(Vec<f32>, usize)> = (0..b * h)
            .into_par_iter()
            .map(|task| {
                let slots = hashing.slots(position);
                let mut rows = Rows::new(hashing.rounds * slots, d);
                let own = places.row(task, position);
                for round in 0..hashing.rounds {
                    let mut slot = (round + 1) * slots;
                    // from itself backwards, until the chunk before its own is through
                    let (bucket, chunk) = hashing.cell(own[round] as usize);
                    for other in (0..=position).rev() {
                        let row = places.row(task, other);
                        let (its_bucket, its_chunk) = hashing.cell(row[round] as usize);
                        if its_bucket != bucket {
                            continue;
                        }
                        if its_chunk + 1 < chunk {
                            break;
                        }
                        slot -= 1;
                        let meetings = meetings(own, row, hashing);
                        rows.put(slot, keys.row(task, other), values.row(task, other), meetings);
                    }
                }
                step_head(q.row(task, 0), &mut rows, slots)
            })
            .collect();
        counter::add_macs(parts.iter().map(|p| p.1).sum());
        join(parts.iter().map(|p| p.0.as_slice()), q.shape)
    }
}

/// Rounds in which a token sees another one, by the places of both.
fn meetings(own: &[f32], other: &[f32], hashing: Hashing) -> usize {
    let seen = own.iter().zip(other).filter(|(own, other)| {
        let ((bucket, chunk), (its_bucket, its_chunk)) =
            (hashing.cell(**own as usize), hashing.cell(**other as usize));
        bucket == its_bucket && chunk - its_chunk <= 1
    });
    seen.count()
}

/// The tokens of one head in the order of one round.
struct Round {
    /// Position of each row.
    order: Vec<usize>,
    /// Row of each position.
    row: Vec<usize>,
    /// Rows of a bucket up to its own that each position sees.
    seen: Vec<usize>,
    /// `bucket + buckets · chunk` of each row, in all rounds; the same or one `buckets` less is seen.
    cells: Vec<Vec<i32>>,
    /// Rows of zeros before the first.
    padding: usize,
    hashing: Hashing,
}

impl Round {
    /// The first row and the number of rows that the token at a position is multiplied with.
    fn window(&self, position: usize) -> (usize, usize) {
        let slots = self.hashing.slots(position);
        (self.padding + self.row[position] + 1 - slots, slots)
    }

    fn rows(&self) -> usize {
        self.padding + self.order.len()
    }

    /// Rows in the order of the round, after the padding.
    fn sorted(&self, x: &[f32], d: usize) -> Vec<f32> {
        let mut rows = vec![0.0f32; self.rows() * d];
        for (row, position) in rows[self.padding * d..].chunks_exact_mut(d).zip(&self.order) {
            row.copy_from_slice(&x[position * d..][..d]);
        }
        rows
    }
}

/// Sorts by bucket and position in each round, given `[n, rounds]` places.
fn rounds(places: &[f32], n: usize, hashing: Hashing) -> Vec<Round> {
    let place = |position: usize, round: usize| places[position * hashing.rounds + round] as usize;
    let padding = (2 * hashing.chunk).min(n);
    let all = (0..hashing.rounds).map(|round| {
        let mut start = vec![0usize; hashing.buckets + 1];
        for i in 0..n {
            start[place(i, round) % hashing.buckets + 1] += 1;
        }
        for bucket in 0..hashing.buckets {
            start[bucket + 1] += start[bucket];
        }
        let (mut order, mut row, mut seen) = (vec![0; n], vec![0; n], vec![0; n]);
        for i in 0..n {
            let (rank, bucket) = (
                place(i, round) / hashing.buckets,
                place(i, round) % hashing.buckets,
            );
            row[i] = start[bucket] + rank;
            order[row[i]] = i;
            let first = (rank / hashing.chunk).saturating_sub(1) * hashing.chunk;
            seen[i] = rank - first + 1;
        }
        let cell = |position: &usize, round: usize| {
            let (bucket, chunk) = hashing.cell(place(*position, round));
            (bucket + chunk * hashing.buckets) as i32
        };
        let empty = || std::iter::repeat_n(i32::MIN, padding);
        let cells = (0..hashing.rounds).map(|r| empty().chain(order.iter().map(|p| cell(p, r))).collect());
        Round {
            cells: cells.collect(),
            order,
            row,
            seen,
            padding,
            hashing,
        }
    });
    all.collect()
}

/// Places `[n, rounds]` of `q [n, d]`, where `ranks [rounds, buckets]` tokens came before; and multiply-adds.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn places_of_head(
    q: &[f32],
    rotations: &[f32],
    d: usize,
    hashing: Hashing,
    ranks: &mut [usize],
) -> (Vec<f32>, usize) {
    let (half, mut macs) = (hashing.buckets / 2, 0);
    let mut turned = vec![0.0f32; half];
    let mut places = Vec::with_capacity(q.len() / d * hashing.rounds);
    for q in q.chunks_exact(d) {
        for (rotation, ranks) in rotations
            .chunks_exact(d * half)
            .zip(ranks.chunks_exact_mut(hashing.buckets))
        {
            turned.fill(0.0);
            simd::add_weighted_rows(&mut turned, q, rotation, half);
            macs += turned.len() * d;
            let mut best = (0, f32::NEG_INFINITY);
            for (i, x) in turned.iter().enumerate() {
                if x.abs() > best.1 {
                    best = (if *x < 0.0 { half + i } else { i }, x.abs());
                }
            }
            let bucket = best.0;
            places.push((ranks[bucket] * hashing.buckets + bucket) as f32);
            ranks[bucket] += 1;
        }
    }
    (places, macs)
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

/// Rows that one token is multiplied with; what is not put stays zero.
struct Rows {
    keys: Vec<f32>,
    values: Vec<f32>,
    /// One over the rounds in which the pair meets; 0 for a row that is not seen.
    shares: Vec<f32>,
    d: usize,
}

impl Rows {
    fn new(slots: usize, d: usize) -> Self {
        Rows {
            keys: vec![0.0; slots * d],
            values: vec![0.0; slots * d],
            shares: vec![0.0; slots],
            d,
        }
    }

    fn put(&mut self, slot: usize, key: &[f32], value: &[f32], meetings: usize) {
        let at = slot * self.d..(slot + 1) * self.d;
        self.keys[at.clone()].copy_from_slice(key);
        self.values[at].copy_from_slice(value);
        self.shares[slot] = 1.0 / meetings as f32;
    }
}

/// The output of one token; the last of each `slots` rows is its own. And multiply-adds.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn step_head(q: &[f32], rows: &mut Rows, slots: usize) -> (Vec<f32>, usize) {
    let d = q.len();
    let mut scores: Vec<f32> = rows.keys.chunks_exact(d).map(|key| simd::dot(q, key)).collect();
    for scores in scores.chunks_exact_mut(slots) {
        scores[slots - 1] = SELF_SCORE;
    }
    let mut largest = SELF_SCORE;
    for (s, share) in scores.iter().zip(&rows.shares) {
        if *share > 0.0 {
            largest = largest.max(*s);
        }
    }
    for (s, share) in scores.iter_mut().zip(&rows.shares) {
        *s = if *share > 0.0 {
            simd::exp(*s - largest) * share
        } else {
            0.0
        };
    }
    let mut o = vec![0.0f32; d];
    simd::add_weighted_rows(&mut o, &scores, &rows.values, d);
    let sum = simd::sum(&scores);
    for o in &mut o {
        *o /= sum;
    }
    (o, 2 * scores.len() * d)
}

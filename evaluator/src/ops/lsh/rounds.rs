//! Where the tokens of one head stand in each round.

use multiversion::multiversion;

use super::Hashing;
use crate::ops::simd;

/// The tokens of one head in the order of one round.
pub(super) struct Round {
    /// Position of each row.
    pub(super) order: Vec<usize>,
    /// Row of each position.
    row: Vec<usize>,
    /// Rows of a bucket up to its own that each position sees.
    pub(super) seen: Vec<usize>,
    /// `bucket + buckets · chunk` of each row, in all rounds; the same or one `buckets` less is seen.
    pub(super) cells: Vec<Vec<i32>>,
    /// Rows of zeros before the first.
    pub(super) padding: usize,
    pub(super) hashing: Hashing,
}

impl Round {
    /// The first row and the number of rows that the token at a position is multiplied with.
    pub(super) fn window(&self, position: usize) -> (usize, usize) {
        let slots = self.hashing.slots(position);
        (self.padding + self.row[position] + 1 - slots, slots)
    }

    pub(super) fn rows(&self) -> usize {
        self.padding + self.order.len()
    }

    /// Rows in the order of the round, after the padding.
    pub(super) fn sorted(&self, x: &[f32], d: usize) -> Vec<f32> {
        let mut rows = vec![0.0f32; self.rows() * d];
        for (row, position) in rows[self.padding * d..].chunks_exact_mut(d).zip(&self.order) {
            row.copy_from_slice(&x[position * d..][..d]);
        }
        rows
    }
}

/// Sorts by bucket and position in each round, given `[n, rounds]` places.
pub(super) fn rounds(places: &[f32], n: usize, hashing: Hashing) -> Vec<Round> {
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

//! Decoding: what the newest token sees, and its output.

use multiversion::multiversion;

use super::{Hashing, SELF_SCORE, cpu::Heads};
use crate::ops::simd;

/// Rounds in which a token sees another one, by the places of both.
fn meetings(own: &[f32], other: &[f32], hashing: Hashing) -> usize {
    let seen = own.iter().zip(other).filter(|(own, other)| {
        let ((bucket, chunk), (its_bucket, its_chunk)) =
            (hashing.cell(**own as usize), hashing.cell(**other as usize));
        bucket == its_bucket && chunk - its_chunk <= 1
    });
    seen.count()
}

/// Rows that one token is multiplied with; what is not put stays zero.
pub(super) struct Rows {
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

/// What the token at `position` sees of the caches of keys, values and places, and the rows of each round.
pub(super) fn seen_rows(
    task: usize,
    [keys, values, places]: [Heads<'_>; 3],
    position: usize,
    hashing: Hashing,
) -> (Rows, usize) {
    let slots = hashing.slots(position);
    let mut rows = Rows::new(hashing.rounds * slots, keys.width());
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
    (rows, slots)
}

/// The output of one token; the last of each `slots` rows is its own. And multiply-adds.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn step_head(q: &[f32], rows: &mut Rows, slots: usize) -> (Vec<f32>, usize) {
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

//! The forward pass of one key/value head in one sequence: an online softmax (1805.02867) over blocks of keys.

use pulp::{Simd, WithSimd};

use super::{
    Tiles,
    cpu::{key_blocks, seen},
};
use crate::ops::{
    attention::cpu::Sizes,
    simd,
    tile::{Weights, add_product},
};

/// The query heads of one key/value head.
pub(super) struct Forward<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) group: usize,
    pub(super) sizes: &'a Sizes,
    pub(super) tiles: Tiles,
    /// Receives the logarithm of each row's sum, `[share, rows]`.
    pub(super) sums: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    /// `[rows, share, depth]`
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Forward {
            q,
            k,
            v,
            group,
            sizes,
            tiles,
            sums,
        } = self;
        let (queries, depth, band) = (sizes.queries, sizes.depth, &sizes.band);
        let (share, stride, keys) = (sizes.share(), sizes.key_stride(), band.keys);
        let scale = 1.0 / (depth as f32).sqrt();
        let mut turned = vec![0.0f32; depth * keys];
        simd::transpose(&k[group * depth..], stride, keys, depth, &mut turned);
        let v = simd::pack(&v[group * depth..], stride, keys, depth);
        let mut out = vec![0.0f32; sizes.rows * share * depth];
        let mut scaled = vec![0.0f32; tiles.queries * depth];
        let mut block = vec![0.0f32; tiles.queries * tiles.keys];
        let (mut maxima, mut totals) = (vec![0.0f32; tiles.queries], vec![0.0f32; tiles.queries]);
        for h in 0..share {
            for start in (0..queries).step_by(tiles.queries) {
                let rows = start..(start + tiles.queries).min(queries);
                for (i, scaled) in rows.clone().zip(scaled.chunks_exact_mut(depth)) {
                    let q = &q[i * sizes.query_stride() + (group * share + h) * depth..][..depth];
                    simd::scale_into(scaled, scale, q);
                }
                maxima.fill(f32::NEG_INFINITY);
                totals.fill(0.0);
                let end = band.row(rows.end - 1).end;
                for first in key_blocks(&rows, band, tiles.keys) {
                    let width = tiles.keys.min(end - first);
                    let scores = &mut block[..rows.len() * width];
                    scores.fill(0.0);
                    let weights = Weights::rows(&scaled, depth);
                    let sizes_of = [rows.len(), depth, width];
                    add_product(simd, sizes_of, weights, (&turned[first..], keys), (scores, width));
                    for (i, scores) in rows.clone().zip(scores.chunks_exact_mut(width)) {
                        let keys = seen(i, band, first, width);
                        scores[..keys.start].fill(0.0);
                        scores[keys.end..].fill(0.0);
                        if keys.is_empty() {
                            continue;
                        }
                        let scores = &mut scores[keys];
                        let (m, l) = (&mut maxima[i - start], &mut totals[i - start]);
                        let next = m.max(simd::max(scores));
                        for s in scores.iter_mut() {
                            *s = simd::exp(*s - next);
                        }
                        if *l > 0.0 && next > *m {
                            let keep = simd::exp(*m - next);
                            *l *= keep;
                            for o in &mut out[(i * share + h) * depth..][..depth] {
                                *o *= keep;
                            }
                        }
                        *m = next;
                        *l += simd::sum(scores);
                    }
                    let weights = Weights::rows(scores, width);
                    let to = (&mut out[(start * share + h) * depth..], share * depth);
                    let sizes_of = [rows.len(), width, depth];
                    add_product(simd, sizes_of, weights, (&v[first * depth..], depth), to);
                }
                for i in rows {
                    let (m, l) = (maxima[i - start], totals[i - start]);
                    for o in &mut out[(i * share + h) * depth..][..depth] {
                        *o /= l;
                    }
                    sums[h * sizes.rows + i] = m + l.ln();
                }
            }
        }
        out
    }
}

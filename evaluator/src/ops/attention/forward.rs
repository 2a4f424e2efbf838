//! The forward pass of one key/value head in one sequence.

use pulp::{Simd, WithSimd};

use super::cpu::Sizes;
use crate::ops::{
    simd,
    tile::{Weights, add_product, dots},
};

/// Queries whose scores are formed together.
pub(super) const BLOCK: usize = 16;
/// Below so many queries the keys are not worth turning.
const FEW: usize = 4;

/// The query heads of one key/value head.
pub(super) struct Forward<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) group: usize,
    pub(super) sizes: &'a Sizes,
    /// Receives the probabilities, row after row, if they are wanted.
    pub(super) p: Option<&'a mut [f32]>,
    /// `[rows, share, depth]`, zeros.
    pub(super) out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if self.sizes.queries < FEW {
            self.row_by_row(simd);
        } else {
            self.in_blocks(simd);
        }
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn row_by_row<S: Simd>(self, simd: S) {
        let Forward {
            q,
            k,
            v,
            group,
            sizes,
            mut p,
            out,
        } = self;
        let (queries, depth, band) = (sizes.queries, sizes.depth, &sizes.band);
        let (share, stride) = (sizes.share(), sizes.key_stride());
        let (k, v) = (&k[group * depth..], &v[group * depth..]);
        let scale = 1.0 / (depth as f32).sqrt();
        let (mut scores, mut scaled) = (vec![0.0f32; band.keys], vec![0.0f32; depth]);
        let mut at = 0;
        for h in 0..share {
            for i in 0..queries {
                let row = band.row(i);
                let scores = &mut scores[..row.len()];
                let q = &q[i * sizes.query_stride() + (group * share + h) * depth..][..depth];
                simd::scale_into(&mut scaled, scale, q);
                let (k, v) = (&k[row.start * stride..], &v[row.start * stride..]);
                let (eights, rest) = scores.as_chunks_mut::<8>();
                for (j, scores) in eights.iter_mut().enumerate() {
                    *scores = dots(simd, &scaled, &k[j * 8 * stride..], stride);
                }
                for (j, score) in rest.iter_mut().enumerate() {
                    [*score] = dots(simd, &scaled, &k[(eights.len() * 8 + j) * stride..], stride);
                }
                simd::softmax(scores);
                let weights = Weights::rows(scores, 0);
                let out = (&mut out[(i * share + h) * depth..][..depth], 0);
                add_product(simd, [1, row.len(), depth], weights, (v, stride), out);
                if let Some(p) = &mut p {
                    p[at..at + row.len()].copy_from_slice(scores);
                }
                at += row.len();
            }
        }
    }

    #[inline(always)]
    fn in_blocks<S: Simd>(self, simd: S) {
        let Forward {
            q,
            k,
            v,
            group,
            sizes,
            mut p,
            out,
        } = self;
        let (depth, share, stride) = (sizes.depth, sizes.share(), sizes.key_stride());
        let v = simd::pack(&v[group * depth..], stride, sizes.band.keys, depth);
        let mut scores = Scores::new(k, group, sizes);
        let mut at = 0;
        for h in 0..share {
            for first in (0..sizes.queries).step_by(BLOCK) {
                let Block {
                    start,
                    width,
                    p: block,
                } = scores.probabilities(simd, q, h, first);
                if let Some(p) = &mut p {
                    for (i, row) in block.chunks_exact(width).enumerate() {
                        let seen = sizes.band.row(first + i);
                        let row = &row[seen.start - start..seen.end - start];
                        p[at..at + row.len()].copy_from_slice(row);
                        at += row.len();
                    }
                }
                let weights = Weights::rows(block, width);
                let matrix = (&v[start * depth..], depth);
                let out = (&mut out[(first * share + h) * depth..], share * depth);
                add_product(simd, [block.len() / width, width, depth], weights, matrix, out);
            }
        }
    }
}

/// Forms the probabilities of some queries at a time, for the query heads of one key/value head.
pub(super) struct Scores<'a> {
    sizes: &'a Sizes,
    group: usize,
    /// `[depth, keys]`: turned once, so that scores are sums of rows instead of many short dot products.
    turned: Vec<f32>,
    scaled: Vec<f32>,
    scores: Vec<f32>,
}

/// Probabilities of some queries.
pub(super) struct Block<'a> {
    /// The first key that one of them sees.
    pub(super) start: usize,
    /// How many keys there are from it on.
    pub(super) width: usize,
    /// `[queries, width]`, zeros for what a query does not see.
    pub(super) p: &'a [f32],
}

impl<'a> Scores<'a> {
    #[inline(always)]
    pub(super) fn new(k: &[f32], group: usize, sizes: &'a Sizes) -> Self {
        let (depth, keys) = (sizes.depth, sizes.band.keys);
        let mut turned = vec![0.0f32; depth * keys];
        simd::transpose(&k[group * depth..], sizes.key_stride(), keys, depth, &mut turned);
        Scores {
            sizes,
            group,
            turned,
            scaled: vec![0.0; BLOCK * depth],
            scores: vec![0.0; BLOCK * keys],
        }
    }

    /// Those of [`BLOCK`] queries from `first` on, fewer at the end, of query head `h` of the group.
    #[inline(always)]
    pub(super) fn probabilities<S: Simd>(&mut self, simd: S, q: &[f32], h: usize, first: usize) -> Block<'_> {
        let (depth, band, share) = (self.sizes.depth, &self.sizes.band, self.sizes.share());
        let rows = BLOCK.min(self.sizes.queries - first);
        let scale = 1.0 / (depth as f32).sqrt();
        for (i, scaled) in self.scaled.chunks_exact_mut(depth).take(rows).enumerate() {
            let at = (first + i) * self.sizes.query_stride() + (self.group * share + h) * depth;
            simd::scale_into(scaled, scale, &q[at..][..depth]);
        }
        // all keys that one of the queries sees
        let (start, end) = (band.row(first).start, band.row(first + rows - 1).end);
        let width = end - start;
        let scores = &mut self.scores[..rows * width];
        scores.fill(0.0);
        let weights = Weights::rows(&self.scaled, depth);
        let matrix = (&self.turned[start..], band.keys);
        add_product(simd, [rows, depth, width], weights, matrix, (scores, width));
        for (i, scores) in scores.chunks_exact_mut(width).enumerate() {
            let row = band.row(first + i);
            let (from, to) = (row.start - start, row.end - start);
            scores[..from].fill(0.0);
            scores[to..].fill(0.0);
            simd::softmax(&mut scores[from..to]);
        }
        Block {
            start,
            width,
            p: scores,
        }
    }
}

//! The forward pass of one query of a sequence, as in decoding: keys and values are read in the order in which they lie, some
//! rows at a time, by all heads.

use pulp::{Simd, WithSimd};

use super::cpu::Sizes;
use crate::ops::{
    simd,
    tile::{Weights, add_product, dots},
};

/// Rows of keys or values that stay in a core's nearest cache until every head has read them.
const ROWS: usize = 16;

/// Some neighbouring query heads.
pub(super) struct OneQuery<'a> {
    /// `[heads, depth]`
    pub(super) q: &'a [f32],
    /// From the first of their key/value heads on.
    pub(super) k: &'a [f32],
    /// The same of values.
    pub(super) v: &'a [f32],
    pub(super) sizes: &'a Sizes,
    /// `[heads, depth]`, zeros.
    pub(super) out: &'a mut [f32],
}

impl WithSimd for OneQuery<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let OneQuery { q, k, v, sizes, out } = self;
        let (depth, share, stride) = (sizes.depth, sizes.share(), sizes.key_stride());
        let (heads, seen) = (q.len() / depth, sizes.band.row(0));
        let n = seen.len();
        if sizes.queries == 0 || n == 0 {
            return;
        }
        let (mut scaled, mut scores) = (vec![0.0f32; q.len()], vec![0.0f32; heads * n]);
        simd::scale_into(&mut scaled, 1.0 / (depth as f32).sqrt(), q);
        // where a head's part of a row begins
        let at = |row: usize, h: usize| (seen.start + row) * stride + h / share * depth;
        for first in (0..n).step_by(ROWS) {
            for h in 0..heads {
                let (q, k) = (&scaled[h * depth..][..depth], &k[at(first, h)..]);
                let scores = &mut scores[h * n + first..][..ROWS.min(n - first)];
                let (eights, rest) = scores.as_chunks_mut::<8>();
                for (j, scores) in eights.iter_mut().enumerate() {
                    *scores = dots(simd, q, &k[j * 8 * stride..], stride);
                }
                for (j, score) in rest.iter_mut().enumerate() {
                    [*score] = dots(simd, q, &k[(eights.len() * 8 + j) * stride..], stride);
                }
            }
        }
        for scores in scores.chunks_exact_mut(n) {
            simd::softmax(scores);
        }
        for first in (0..n).step_by(ROWS) {
            let sizes = [1, ROWS.min(n - first), depth];
            for h in 0..heads {
                let weights = Weights::rows(&scores[h * n + first..], 0);
                let out = (&mut out[h * depth..][..depth], 0);
                add_product(simd, sizes, weights, (&v[at(first, h)..], stride), out);
            }
        }
    }
}

//! The backward pass of one key/value head in one sequence: each block's probabilities are computed again.

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

/// Gradients of the query heads of one key/value head, and of that head.
pub(super) struct Backward<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) o: &'a [f32],
    /// Logarithms of the rows' sums, `[heads, rows]`.
    pub(super) sums: &'a [f32],
    pub(super) gradient: &'a [f32],
    pub(super) group: usize,
    pub(super) sizes: &'a Sizes,
    pub(super) tiles: Tiles,
}

impl WithSimd for Backward<'_> {
    /// Of queries `[rows, share, depth]`, of keys and of values `[allocated, depth]`.
    type Output = [Vec<f32>; 3];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [Vec<f32>; 3] {
        let (sizes, tiles) = (self.sizes, self.tiles);
        let (queries, depth, band) = (sizes.queries, sizes.depth, &sizes.band);
        let (share, stride, keys) = (sizes.share(), sizes.key_stride(), band.keys);
        let scale = 1.0 / (depth as f32).sqrt();
        let allocated = self.k.len() / stride;
        let (k, v) = (&self.k[self.group * depth..], &self.v[self.group * depth..]);
        let (mut k_turned, mut v_turned) = (vec![0.0f32; depth * keys], vec![0.0f32; depth * keys]);
        simd::transpose(k, stride, keys, depth, &mut k_turned);
        simd::transpose(v, stride, keys, depth, &mut v_turned);
        let k = simd::pack(k, stride, keys, depth);
        let mut dq = vec![0.0f32; sizes.rows * share * depth];
        let (mut dk, mut dv) = (vec![0.0f32; allocated * depth], vec![0.0f32; allocated * depth]);
        let block = tiles.queries * tiles.keys;
        let (mut p, mut ds) = (vec![0.0f32; block], vec![0.0f32; block]);
        let (mut scaled, mut means) = (vec![0.0f32; tiles.queries * depth], vec![0.0f32; tiles.queries]);
        for h in 0..share {
            let head = self.group * share + h;
            for start in (0..queries).step_by(tiles.queries) {
                let rows = start..(start + tiles.queries).min(queries);
                let column = |i: usize| i * sizes.query_stride() + head * depth;
                for (r, i) in rows.clone().enumerate() {
                    let at = column(i)..column(i) + depth;
                    simd::scale_into(&mut scaled[r * depth..][..depth], scale, &self.q[at.clone()]);
                    means[r] = simd::dot(&self.gradient[at.clone()], &self.o[at]);
                }
                let (q, gradient) = (&self.q[column(start)..], &self.gradient[column(start)..]);
                let of_queries = |values| Weights::rows(values, sizes.query_stride());
                let rows_of = |x| (x, sizes.query_stride());
                let end = band.row(rows.end - 1).end;
                for first in key_blocks(&rows, band, tiles.keys) {
                    let width = tiles.keys.min(end - first);
                    let (p, ds) = (&mut p[..rows.len() * width], &mut ds[..rows.len() * width]);
                    p.fill(0.0);
                    ds.fill(0.0);
                    let scores = [rows.len(), depth, width];
                    let weights = Weights::rows(&scaled, depth);
                    add_product(simd, scores, weights, (&k_turned[first..], keys), (p, width));
                    add_product(
                        simd,
                        scores,
                        of_queries(gradient),
                        (&v_turned[first..], keys),
                        (ds, width),
                    );
                    for (r, i) in rows.clone().enumerate() {
                        let keys = seen(i, band, first, width);
                        let (p, ds) = (&mut p[r * width..][..width], &mut ds[r * width..][..width]);
                        for line in [&mut *p, &mut *ds] {
                            line[..keys.start].fill(0.0);
                            line[keys.end..].fill(0.0);
                        }
                        let (sum, mean) = (self.sums[head * sizes.rows + i], means[r]);
                        for (p, s) in p[keys.clone()].iter_mut().zip(&mut ds[keys]) {
                            *p = simd::exp(*p - sum);
                            *s = *p * (*s - mean) * scale;
                        }
                    }
                    let by_row = Weights::rows(ds, width);
                    let by_key = |values| Weights::columns(values, width);
                    let to = (&mut dq[(start * share + h) * depth..], share * depth);
                    add_product(
                        simd,
                        [rows.len(), width, depth],
                        by_row,
                        (&k[first * depth..], depth),
                        to,
                    );
                    let of_keys = [width, rows.len(), depth];
                    let (dk, dv) = (&mut dk[first * depth..], &mut dv[first * depth..]);
                    add_product(simd, of_keys, by_key(ds), rows_of(q), (dk, depth));
                    add_product(simd, of_keys, by_key(p), rows_of(gradient), (dv, depth));
                }
            }
        }
        [dq, dk, dv]
    }
}

//! The backward pass of one key/value head in one sequence.

use pulp::{Simd, WithSimd};

use super::cpu::Sizes;
use crate::ops::{
    simd,
    tile::{Weights, add_product},
};

/// Queries whose gradients are formed together.
const BLOCK: usize = 16;

/// Gradients of the query heads of one key/value head, and of that head.
pub(super) struct Backward<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) gradient: &'a [f32],
    pub(super) group: usize,
    pub(super) sizes: &'a Sizes,
    /// The probabilities, row after row.
    pub(super) p: &'a [f32],
}

impl WithSimd for Backward<'_> {
    /// Of queries `[rows, share, depth]`, of keys and of values `[allocated, depth]`.
    type Output = [Vec<f32>; 3];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [Vec<f32>; 3] {
        let Backward {
            q,
            k,
            v,
            gradient,
            group,
            sizes,
            p,
        } = self;
        let (queries, depth, band) = (sizes.queries, sizes.depth, &sizes.band);
        let (share, stride, keys) = (sizes.share(), sizes.key_stride(), band.keys);
        let allocated = k.len() / stride;
        let (k, v) = (&k[group * depth..], &v[group * depth..]);
        let scale = 1.0 / (depth as f32).sqrt();
        let mut v_turned = vec![0.0f32; depth * keys];
        simd::transpose(v, stride, keys, depth, &mut v_turned);
        let k = simd::pack(k, stride, keys, depth);
        let mut dq = vec![0.0f32; sizes.rows * share * depth];
        let mut dk = vec![0.0f32; allocated * depth];
        let mut dv = vec![0.0f32; allocated * depth];
        // rows of a block side by side: probabilities, gradients of scores
        let mut ps = vec![0.0f32; BLOCK * keys];
        let mut ds = vec![0.0f32; BLOCK * keys];
        let mut at = 0;
        for h in 0..share {
            for first in (0..queries).step_by(BLOCK) {
                let rows = BLOCK.min(queries - first);
                let column = first * sizes.query_stride() + (group * share + h) * depth;
                let (q, gradient) = (&q[column..], &gradient[column..]);
                let (start, end) = (band.row(first).start, band.row(first + rows - 1).end);
                let width = end - start;
                let (ps, ds) = (&mut ps[..rows * width], &mut ds[..rows * width]);
                ds.fill(0.0);
                let of_queries = |values| Weights::rows(values, sizes.query_stride());
                let matrix = (&v_turned[start..], keys);
                add_product(
                    simd,
                    [rows, depth, width],
                    of_queries(gradient),
                    matrix,
                    (ds, width),
                );
                for (i, (p_row, ds)) in ps
                    .chunks_exact_mut(width)
                    .zip(ds.chunks_exact_mut(width))
                    .enumerate()
                {
                    let row = band.row(first + i);
                    let (from, to) = (row.start - start, row.end - start);
                    for line in [&mut *p_row, &mut *ds] {
                        line[..from].fill(0.0);
                        line[to..].fill(0.0);
                    }
                    let (p_row, ds) = (&mut p_row[from..to], &mut ds[from..to]);
                    p_row.copy_from_slice(&p[at..at + row.len()]);
                    at += row.len();
                    let mean = simd::dot(ds, p_row);
                    for (s, p) in ds.iter_mut().zip(p_row) {
                        *s = *p * (*s - mean) * scale;
                    }
                }
                let by_row = |values| Weights::rows(values, width);
                let by_key = |values| Weights::columns(values, width);
                let out = (&mut dq[(first * share + h) * depth..], share * depth);
                add_product(
                    simd,
                    [rows, width, depth],
                    by_row(ds),
                    (&k[start * depth..], depth),
                    out,
                );
                let rows_of = |x| (x, sizes.query_stride());
                let (dk, dv) = (&mut dk[start * depth..], &mut dv[start * depth..]);
                add_product(simd, [width, rows, depth], by_key(ds), rows_of(q), (dk, depth));
                add_product(
                    simd,
                    [width, rows, depth],
                    by_key(ps),
                    rows_of(gradient),
                    (dv, depth),
                );
            }
        }
        [dq, dk, dv]
    }
}

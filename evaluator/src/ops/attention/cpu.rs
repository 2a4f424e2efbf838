//! The kernel for processors: visits the pairs of the band and no others.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{AttentionOp, Band};
use crate::{
    model::Pass,
    ops::{contiguous, cpu_tensor, heads::interleave, simd, values},
};

/// Of scores and of the weighted sum; backwards one for each of both factors.
const PRODUCTS: Pass = Pass {
    forward: 2,
    backward: 4,
};

/// Sizes of one call or of one of its sequences, and where the rows of one head lie.
#[derive(Clone)]
pub(super) struct Sizes {
    /// Rows of queries, padding included.
    pub(super) rows: usize,
    /// Queries that are there.
    pub(super) queries: usize,
    pub(super) heads: usize,
    pub(super) groups: usize,
    pub(super) depth: usize,
    pub(super) band: Band,
}

impl Sizes {
    pub(super) fn of(q: &FlexTensor, k: &FlexTensor, band: Band) -> (usize, Sizes) {
        let (q, k) = (q.shape(), k.shape());
        assert!(
            q[2] % k[2] == 0,
            "{} query heads cannot share {} key/value heads",
            q[2],
            k[2]
        );
        assert!(
            band.keys <= k[1],
            "{} keys are asked for, {} are there",
            band.keys,
            k[1]
        );
        (
            q[0],
            Sizes {
                rows: q[1],
                queries: q[1],
                heads: q[2],
                groups: k[2],
                depth: q[3],
                band,
            },
        )
    }

    /// Those of one sequence.
    pub(super) fn sequence(&self, b: usize) -> Sizes {
        let (band, queries) = self.band.of(b, self.queries);
        Sizes {
            queries,
            band,
            ..*self
        }
    }

    pub(super) fn share(&self) -> usize {
        self.heads / self.groups
    }

    pub(super) fn query_stride(&self) -> usize {
        self.heads * self.depth
    }

    pub(super) fn key_stride(&self) -> usize {
        self.groups * self.depth
    }
}

impl AttentionOp for Flex {
    fn attention_forward(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        band: Band,
    ) -> (FlexTensor, FlexTensor) {
        let (q, k, v) = (contiguous(q), contiguous(k), contiguous(v));
        let (batch, sizes) = Sizes::of(&q, &k, band);
        let pairs = sizes.band.pairs(sizes.queries);
        let mut saved = vec![0.0f32; batch * sizes.heads * pairs];
        let (qs, ks, vs) = (values(&q), values(&k), values(&v));
        let (q_len, k_len) = (sizes.queries * sizes.query_stride(), ks.len() / batch);
        // one task for each sequence and key/value head: its output columns are interleaved with other heads', so
        // each task returns its own and they are put in place afterwards
        let parts: Vec<Vec<f32>> = saved
            .par_chunks_mut(sizes.share() * pairs)
            .enumerate()
            .map(|(task, p)| {
                let (b, g) = (task / sizes.groups, task % sizes.groups);
                let mut part = vec![0.0f32; sizes.rows * sizes.share() * sizes.depth];
                forward_group(
                    &qs[b * q_len..][..q_len],
                    &ks[b * k_len..][..k_len],
                    &vs[b * k_len..][..k_len],
                    g,
                    &sizes.sequence(b),
                    p,
                    &mut part,
                );
                part
            })
            .collect();
        let parts = parts.iter().map(Vec::as_slice);
        let out = interleave(parts, sizes.groups, sizes.share() * sizes.depth);
        sizes
            .band
            .count_forward(batch, sizes.queries, sizes.heads * sizes.depth, PRODUCTS);
        (
            cpu_tensor(out, &q.shape()),
            cpu_tensor(saved, &[batch, sizes.heads, pairs]),
        )
    }

    fn attention_backward(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        saved: FlexTensor,
        gradient: FlexTensor,
        band: Band,
    ) -> [FlexTensor; 3] {
        let (q, k, v, gradient) = (contiguous(q), contiguous(k), contiguous(v), contiguous(gradient));
        let (batch, sizes) = Sizes::of(&q, &k, band);
        let pairs = sizes.band.pairs(sizes.queries);
        let (qs, ks, vs, gs) = (values(&q), values(&k), values(&v), values(&gradient));
        let (q_len, k_len) = (sizes.queries * sizes.query_stride(), ks.len() / batch);
        let parts: Vec<[Vec<f32>; 3]> = values(&saved)
            .par_chunks(sizes.share() * pairs)
            .enumerate()
            .map(|(task, p)| {
                let (b, g) = (task / sizes.groups, task % sizes.groups);
                backward_group(
                    &qs[b * q_len..][..q_len],
                    &ks[b * k_len..][..k_len],
                    &vs[b * k_len..][..k_len],
                    &gs[b * q_len..][..q_len],
                    g,
                    &sizes.sequence(b),
                    p,
                )
            })
            .collect();
        sizes
            .band
            .count_backward(batch, sizes.queries, sizes.heads * sizes.depth, PRODUCTS);
        let join = |which: usize, shape: &[usize], width: usize| {
            let parts = parts.iter().map(|p| p[which].as_slice());
            cpu_tensor(interleave(parts, sizes.groups, width), shape)
        };
        [
            join(0, &q.shape(), sizes.share() * sizes.depth),
            join(1, &k.shape(), sizes.depth),
            join(2, &k.shape(), sizes.depth),
        ]
    }
}

/// The query heads of one key/value head in one sequence. `p` receives the probabilities, row after row.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward_group(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    group: usize,
    sizes: &Sizes,
    p: &mut [f32],
    out: &mut [f32],
) {
    let (queries, depth, band) = (sizes.queries, sizes.depth, &sizes.band);
    let (share, stride) = (sizes.share(), sizes.key_stride());
    let (k, v) = (&k[group * depth..], &v[group * depth..]);
    let scale = 1.0 / (depth as f32).sqrt();
    // with many queries the keys are turned once, so that scores are sums of rows instead of many short dot products
    let turned = (queries >= 4).then(|| {
        let mut turned = vec![0.0f32; depth * band.keys];
        simd::transpose(k, stride, band.keys, depth, &mut turned);
        turned
    });
    let mut scaled = vec![0.0f32; depth];
    let mut at = 0;
    for h in 0..share {
        for i in 0..queries {
            let row = band.row(i);
            let scores = &mut p[at..at + row.len()];
            at += row.len();
            let q_row = &q[i * sizes.query_stride() + (group * share + h) * depth..][..depth];
            for (s, x) in scaled.iter_mut().zip(q_row) {
                *s = x * scale;
            }
            match &turned {
                Some(turned) => simd::add_weighted_rows(scores, &scaled, &turned[row.start..], band.keys),
                None => {
                    for (s, j) in scores.iter_mut().zip(row.clone()) {
                        *s = simd::dot(&scaled, &k[j * stride..j * stride + depth]);
                    }
                }
            }
            let max = simd::max(scores);
            for s in scores.iter_mut() {
                *s = simd::exp(*s - max);
            }
            let inverse = 1.0 / simd::sum(scores);
            for s in scores.iter_mut() {
                *s *= inverse;
            }
            let o = &mut out[(i * share + h) * depth..][..depth];
            simd::add_weighted_rows(o, scores, &v[row.start * stride..], stride);
        }
    }
}

/// Gradients of the query heads of one key/value head, and of that head, in one sequence.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward_group(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    gradient: &[f32],
    group: usize,
    sizes: &Sizes,
    p: &[f32],
) -> [Vec<f32>; 3] {
    let (queries, depth, band) = (sizes.queries, sizes.depth, &sizes.band);
    let (share, stride) = (sizes.share(), sizes.key_stride());
    let (k, v) = (&k[group * depth..], &v[group * depth..]);
    let scale = 1.0 / (depth as f32).sqrt();
    let allocated = k.len().div_ceil(stride);
    let mut v_turned = vec![0.0f32; depth * band.keys];
    simd::transpose(v, stride, band.keys, depth, &mut v_turned);
    let mut dq = vec![0.0f32; sizes.rows * share * depth];
    // turned as well: row c holds the gradient of component c for all keys
    let mut dk_turned = vec![0.0f32; depth * band.keys];
    let mut dv_turned = vec![0.0f32; depth * band.keys];
    let mut ds = vec![0.0f32; band.keys];
    let mut at = 0;
    for h in 0..share {
        for i in 0..queries {
            let row = band.row(i);
            let p_row = &p[at..at + row.len()];
            at += row.len();
            let column = i * sizes.query_stride() + (group * share + h) * depth;
            let (q_row, g_row) = (&q[column..][..depth], &gradient[column..][..depth]);
            let ds = &mut ds[..row.len()];
            ds.fill(0.0);
            simd::add_weighted_rows(ds, g_row, &v_turned[row.start..], band.keys);
            let mean = simd::dot(ds, p_row);
            for (s, p) in ds.iter_mut().zip(p_row) {
                *s = p * (*s - mean) * scale;
            }
            let dq_row = &mut dq[(i * share + h) * depth..][..depth];
            simd::add_weighted_rows(dq_row, ds, &k[row.start * stride..], stride);
            for c in 0..depth {
                let line = c * band.keys + row.start..c * band.keys + row.end;
                simd::add_scaled(&mut dk_turned[line.clone()], q_row[c], ds);
                simd::add_scaled(&mut dv_turned[line], g_row[c], p_row);
            }
        }
    }
    let mut dk = vec![0.0f32; allocated * depth];
    let mut dv = vec![0.0f32; allocated * depth];
    simd::transpose(
        &dk_turned,
        band.keys,
        depth,
        band.keys,
        &mut dk[..band.keys * depth],
    );
    simd::transpose(
        &dv_turned,
        band.keys,
        depth,
        band.keys,
        &mut dv[..band.keys * depth],
    );
    [dq, dk, dv]
}

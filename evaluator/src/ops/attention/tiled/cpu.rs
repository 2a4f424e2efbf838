//! The kernel for processors: visits the pairs of the band and no others, and holds one block of scores.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{Band, TiledAttentionOp, Tiles};
use crate::{
    model::Pass,
    ops::{attention::cpu::Sizes, contiguous, cpu_tensor, heads::interleave, simd, values},
};

/// Of scores and of the weighted sum; backwards the scores again, and one for each of both factors.
const PRODUCTS: Pass = Pass {
    forward: 2,
    backward: 5,
};

impl TiledAttentionOp for Flex {
    fn tiled_forward(inputs: [FlexTensor; 3], band: Band, tiles: Tiles) -> (FlexTensor, FlexTensor) {
        let [q, k, v] = inputs.map(contiguous);
        let (batch, sizes) = Sizes::of(&q, &k, band);
        let (qs, ks, vs) = (values(&q), values(&k), values(&v));
        let (q_len, k_len) = (qs.len() / batch, ks.len() / batch);
        let mut sums = vec![0.0f32; batch * sizes.heads * sizes.rows];
        let parts: Vec<Vec<f32>> = sums
            .par_chunks_mut(sizes.share() * sizes.rows)
            .enumerate()
            .map(|(task, sums)| {
                let (b, g) = (task / sizes.groups, task % sizes.groups);
                let at = b * k_len..(b + 1) * k_len;
                let q = &qs[b * q_len..][..q_len];
                forward_group(q, &ks[at.clone()], &vs[at], g, &sizes.sequence(b), tiles, sums)
            })
            .collect();
        let parts = parts.iter().map(Vec::as_slice);
        let out = interleave(parts, sizes.groups, sizes.share() * sizes.depth);
        sizes
            .band
            .count_forward(batch, sizes.queries, sizes.heads * sizes.depth, PRODUCTS);
        let sums = cpu_tensor(sums, &[batch, sizes.heads, sizes.rows]);
        (cpu_tensor(out, &q.shape()), sums)
    }

    fn tiled_backward(
        inputs: [FlexTensor; 3],
        o: FlexTensor,
        sums: FlexTensor,
        gradient: FlexTensor,
        band: Band,
        tiles: Tiles,
    ) -> [FlexTensor; 3] {
        let [q, k, v] = inputs.map(contiguous);
        let [o, sums, gradient] = [o, sums, gradient].map(contiguous);
        let (batch, sizes) = Sizes::of(&q, &k, band);
        let (q_len, k_len) = (values(&q).len() / batch, values(&k).len() / batch);
        let s_len = sizes.heads * sizes.rows;
        let parts: Vec<[Vec<f32>; 3]> = (0..batch * sizes.groups)
            .into_par_iter()
            .map(|task| {
                let (b, g) = (task / sizes.groups, task % sizes.groups);
                let saved = Saved {
                    q: &values(&q)[b * q_len..][..q_len],
                    k: &values(&k)[b * k_len..][..k_len],
                    v: &values(&v)[b * k_len..][..k_len],
                    o: &values(&o)[b * q_len..][..q_len],
                    sums: &values(&sums)[b * s_len..][..s_len],
                    gradient: &values(&gradient)[b * q_len..][..q_len],
                };
                backward_group(saved, g, &sizes.sequence(b), tiles)
            })
            .collect();
        sizes
            .band
            .count_backward(batch, sizes.queries, sizes.heads * sizes.depth, PRODUCTS);
        let join = |which: usize, like: &FlexTensor, width: usize| {
            let parts = parts.iter().map(|p| p[which].as_slice());
            cpu_tensor(interleave(parts, sizes.groups, width), &like.shape())
        };
        [
            join(0, &q, sizes.share() * sizes.depth),
            join(1, &k, sizes.depth),
            join(2, &k, sizes.depth),
        ]
    }
}

/// Keys and values of one key/value head, `[d, keys]`.
#[inline(always)]
fn turned(x: &[f32], group: usize, sizes: &Sizes) -> Vec<f32> {
    let mut turned = vec![0.0f32; sizes.depth * sizes.band.keys];
    let x = &x[group * sizes.depth..];
    simd::transpose(x, sizes.key_stride(), sizes.band.keys, sizes.depth, &mut turned);
    turned
}

/// The first keys of the blocks that a block of queries meets.
#[inline(always)]
fn key_blocks(rows: &std::ops::Range<usize>, band: &Band, keys: usize) -> impl Iterator<Item = usize> {
    let from = band.row(rows.start).start / keys * keys;
    (from..band.row(rows.end - 1).end).step_by(keys)
}

/// The keys that a query sees of a block that begins with `first`.
#[inline(always)]
fn seen(i: usize, band: &Band, first: usize, keys: usize) -> std::ops::Range<usize> {
    let row = band.row(i);
    let start = row.start.max(first);
    start..row.end.min(first + keys).max(start)
}

/// The query heads of one key/value head in one sequence: outputs `[queries, share, d]`; `sums` receives logarithms.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward_group(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    group: usize,
    sizes: &Sizes,
    tiles: Tiles,
    sums: &mut [f32],
) -> Vec<f32> {
    let (queries, depth, band) = (sizes.queries, sizes.depth, &sizes.band);
    let (share, stride) = (sizes.share(), sizes.key_stride());
    let scale = 1.0 / (depth as f32).sqrt();
    let k_turned = turned(k, group, sizes);
    let v = &v[group * depth..];
    let mut out = vec![0.0f32; sizes.rows * share * depth];
    let mut scaled = vec![0.0f32; depth];
    let mut block = vec![0.0f32; tiles.keys];
    let (mut maxima, mut totals) = (vec![0.0f32; tiles.queries], vec![0.0f32; tiles.queries]);
    for h in 0..share {
        for start in (0..queries).step_by(tiles.queries) {
            let rows = start..(start + tiles.queries).min(queries);
            maxima.fill(f32::NEG_INFINITY);
            totals.fill(0.0);
            for first in key_blocks(&rows, band, tiles.keys) {
                for i in rows.clone() {
                    let keys = seen(i, band, first, tiles.keys);
                    if keys.is_empty() {
                        continue;
                    }
                    let q_row = &q[i * sizes.query_stride() + (group * share + h) * depth..][..depth];
                    for (s, x) in scaled.iter_mut().zip(q_row) {
                        *s = x * scale;
                    }
                    let scores = &mut block[..keys.len()];
                    scores.fill(0.0);
                    simd::add_weighted_rows(scores, &scaled, &k_turned[keys.start..], band.keys);
                    let (m, l) = (&mut maxima[i - start], &mut totals[i - start]);
                    let next = m.max(simd::max(scores));
                    for s in scores.iter_mut() {
                        *s = simd::exp(*s - next);
                    }
                    let o = &mut out[(i * share + h) * depth..][..depth];
                    if *l > 0.0 && next > *m {
                        let keep = simd::exp(*m - next);
                        *l *= keep;
                        for o in o.iter_mut() {
                            *o *= keep;
                        }
                    }
                    *m = next;
                    *l += simd::sum(scores);
                    simd::add_weighted_rows(o, scores, &v[keys.start * stride..], stride);
                }
            }
            for i in rows.clone() {
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

/// What the backward pass reads of one sequence.
struct Saved<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    o: &'a [f32],
    sums: &'a [f32],
    gradient: &'a [f32],
}

/// Gradients of the query heads of one key/value head, and of that head, in one sequence.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward_group(x: Saved, group: usize, sizes: &Sizes, tiles: Tiles) -> [Vec<f32>; 3] {
    let (queries, depth, band) = (sizes.queries, sizes.depth, &sizes.band);
    let (share, stride) = (sizes.share(), sizes.key_stride());
    let scale = 1.0 / (depth as f32).sqrt();
    let (k_turned, v_turned) = (turned(x.k, group, sizes), turned(x.v, group, sizes));
    let k = &x.k[group * depth..];
    let mut dq = vec![0.0f32; sizes.rows * share * depth];
    // row c holds the gradient of component c for all keys
    let mut dk_turned = vec![0.0f32; depth * band.keys];
    let mut dv_turned = vec![0.0f32; depth * band.keys];
    let (mut p, mut ds) = (vec![0.0f32; tiles.keys], vec![0.0f32; tiles.keys]);
    let mut scaled = vec![0.0f32; depth];
    for h in 0..share {
        let head = group * share + h;
        for start in (0..queries).step_by(tiles.queries) {
            let rows = start..(start + tiles.queries).min(queries);
            for first in key_blocks(&rows, band, tiles.keys) {
                for i in rows.clone() {
                    let keys = seen(i, band, first, tiles.keys);
                    if keys.is_empty() {
                        continue;
                    }
                    let column = i * sizes.query_stride() + head * depth;
                    let (q_row, g_row) = (&x.q[column..][..depth], &x.gradient[column..][..depth]);
                    for (s, x) in scaled.iter_mut().zip(q_row) {
                        *s = x * scale;
                    }
                    let (p, ds) = (&mut p[..keys.len()], &mut ds[..keys.len()]);
                    p.fill(0.0);
                    ds.fill(0.0);
                    simd::add_weighted_rows(p, &scaled, &k_turned[keys.start..], band.keys);
                    simd::add_weighted_rows(ds, g_row, &v_turned[keys.start..], band.keys);
                    let sum = x.sums[head * sizes.rows + i];
                    let mean = simd::dot(g_row, &x.o[column..][..depth]);
                    for (p, s) in p.iter_mut().zip(ds.iter_mut()) {
                        *p = simd::exp(*p - sum);
                        *s = *p * (*s - mean) * scale;
                    }
                    let dq_row = &mut dq[(i * share + h) * depth..][..depth];
                    simd::add_weighted_rows(dq_row, ds, &k[keys.start * stride..], stride);
                    for c in 0..depth {
                        let line = c * band.keys + keys.start..c * band.keys + keys.end;
                        simd::add_scaled(&mut dk_turned[line.clone()], q_row[c], ds);
                        simd::add_scaled(&mut dv_turned[line], g_row[c], p);
                    }
                }
            }
        }
    }
    let back = |turned: &[f32]| {
        let mut plain = vec![0.0f32; x.k.len() / stride * depth];
        let filled = &mut plain[..band.keys * depth];
        simd::transpose(turned, band.keys, depth, band.keys, filled);
        plain
    };
    let (dk, dv) = (back(&dk_turned), back(&dv_turned));
    [dq, dk, dv]
}

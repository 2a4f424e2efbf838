//! The kernel for processors: gathers the keys of each leaf, and visits its pairs and no others.

use std::ops::Range;

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{
    KdeBlocks, KdeOp,
    sampling::{attend, choose, proportions, uniforms},
};
use crate::{
    counter,
    ops::{contiguous, cpu_tensor, heads::interleave, simd, values},
};

/// Sizes of one call.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    queries: usize,
    /// Rows of the key and value tensors, filled or not.
    keys: usize,
    heads: usize,
    d: usize,
    offset: usize,
    blocks: KdeBlocks,
}

impl Sizes {
    fn of(q: &FlexTensor, k: &FlexTensor, offset: usize, blocks: KdeBlocks) -> Sizes {
        let (q, k) = (q.shape(), k.shape());
        assert!(q[2] == k[2], "{} query heads with {} key heads", q[2], k[2]);
        assert!(
            offset + q[1] <= k[1],
            "{} keys for {} positions",
            k[1],
            offset + q[1]
        );
        Sizes {
            batch: q[0],
            queries: q[1],
            keys: k[1],
            heads: q[2],
            d: q[3],
            offset,
            blocks,
        }
    }

    fn stride(&self) -> usize {
        self.heads * self.d
    }

    /// Leaves that hold queries, each with the positions of those.
    fn leaves(self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (from, to, leaf) = (self.offset, self.offset + self.queries, self.blocks.leaf);
        (from / leaf..to.div_ceil(leaf)).map(move |j| (j, (j * leaf).max(from)..((j + 1) * leaf).min(to)))
    }
}

/// One head of one sequence: its column among the rows of each tensor.
#[derive(Clone, Copy)]
struct Head<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    draws: &'a [f32],
}

impl<'a> Head<'a> {
    fn new(task: usize, q: &'a [f32], k: &'a [f32], v: &'a [f32], draws: &'a [f32], sizes: Sizes) -> Self {
        let (b, h) = (task / sizes.heads, task % sizes.heads);
        let at = |x: &'a [f32], width: usize| &x[(x.len() / sizes.batch * b + h * width).min(x.len())..];
        Head {
            q: at(q, sizes.d),
            k: at(k, sizes.d),
            v: at(v, sizes.d),
            draws: at(draws, 2 * sizes.blocks.samples),
        }
    }
}

/// The keys that a leaf sees: those of past blocks, then its own in their order.
#[derive(Default)]
struct Columns {
    /// Positions.
    index: Vec<usize>,
    /// Logarithms of weights.
    bias: Vec<f32>,
    /// How many are of past blocks.
    past: usize,
    /// Their keys, and in columns keys and values, `[d, columns]`.
    keys: Vec<f32>,
    keys_turned: Vec<f32>,
    values: Vec<f32>,
}

impl Columns {
    fn gather(&mut self, leaf: usize, own: Range<usize>, head: Head<'_>, sizes: Sizes) {
        let (m, d) = (sizes.blocks.samples, sizes.d);
        self.index.clear();
        self.bias.clear();
        for block in sizes.blocks.past(leaf) {
            match block.row {
                None => {
                    self.index.extend(block.start..block.start + block.len);
                    self.bias.resize(self.index.len(), 0.0);
                }
                Some(row) => {
                    let draw = &head.draws[row * sizes.heads * 2 * m..][..2 * m];
                    self.index
                        .extend(draw[..m].iter().map(|index| block.start + *index as usize));
                    self.bias.extend_from_slice(&draw[m..]);
                }
            }
        }
        self.past = self.index.len();
        self.index.extend(own);
        self.bias.resize(self.index.len(), 0.0);
        self.keys.clear();
        self.values.clear();
        for j in &self.index {
            self.keys.extend_from_slice(&head.k[j * sizes.stride()..][..d]);
            self.values.extend_from_slice(&head.v[j * sizes.stride()..][..d]);
        }
        self.keys_turned.resize(self.keys.len(), 0.0);
        simd::transpose(&self.keys, d, self.index.len(), d, &mut self.keys_turned);
    }
}

impl KdeOp for Flex {
    fn kde_draw(v: FlexTensor, rows: Range<usize>, blocks: KdeBlocks) -> FlexTensor {
        let v = contiguous(v);
        let [batch, keys, heads, d] = [v.shape()[0], v.shape()[1], v.shape()[2], v.shape()[3]];
        let m = blocks.samples;
        let mut draws = vec![0.0f32; batch * rows.len() * heads * 2 * m];
        let vs = values(&v);
        draws
            .par_chunks_mut((heads * 2 * m).max(1))
            .enumerate()
            .for_each(|(task, draws)| {
                let (b, row) = (task / rows.len(), rows.start + task % rows.len());
                let block = blocks.block(row);
                let vs = &vs[(b * keys + block.start) * heads * d..][..block.len * heads * d];
                let (mut p, mut sums) = (vec![0.0f32; block.len], Vec::with_capacity(block.len));
                for (h, draw) in draws.chunks_exact_mut(2 * m).enumerate() {
                    for (p, v) in p.iter_mut().zip(vs.chunks_exact(heads * d)) {
                        let v = &v[h * d..][..d];
                        *p = simd::dot(v, v);
                    }
                    proportions(&mut p);
                    let (chosen, log_weights) = draw.split_at_mut(m);
                    choose(&p, uniforms(block, h, m), &mut sums, chosen, log_weights);
                }
            });
        cpu_tensor(draws, &[batch, rows.len(), heads, 2 * m])
    }

    fn kde_forward(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        draws: FlexTensor,
        offset: usize,
        blocks: KdeBlocks,
    ) -> (FlexTensor, FlexTensor) {
        let [q, k, v, draws] = [q, k, v, draws].map(contiguous);
        let sizes = Sizes::of(&q, &k, offset, blocks);
        let (qs, ks, vs, ds) = (values(&q), values(&k), values(&v), values(&draws));
        let parts: Vec<(Vec<f32>, Vec<f32>, usize)> = (0..sizes.batch * sizes.heads)
            .into_par_iter()
            .map(|task| forward_head(Head::new(task, qs, ks, vs, ds, sizes), sizes))
            .collect();
        counter::add_macs(parts.iter().map(|p| p.2).sum());
        let o = interleave(parts.iter().map(|p| p.0.as_slice()), sizes.heads, sizes.d);
        let log_sums = interleave(parts.iter().map(|p| p.1.as_slice()), sizes.heads, 1);
        (
            cpu_tensor(o, &q.shape()),
            cpu_tensor(log_sums, &[sizes.batch, sizes.queries, sizes.heads]),
        )
    }

    fn kde_backward(
        inputs: [FlexTensor; 4],
        o: FlexTensor,
        log_sums: FlexTensor,
        gradient: FlexTensor,
        offset: usize,
        blocks: KdeBlocks,
    ) -> [FlexTensor; 3] {
        let [q, k, v, draws] = inputs.map(contiguous);
        let [o, log_sums, gradient] = [o, log_sums, gradient].map(contiguous);
        let sizes = Sizes::of(&q, &k, offset, blocks);
        let (qs, ks, vs, ds) = (values(&q), values(&k), values(&v), values(&draws));
        let (os, ls, gs) = (values(&o), values(&log_sums), values(&gradient));
        let parts: Vec<([Vec<f32>; 3], usize)> = (0..sizes.batch * sizes.heads)
            .into_par_iter()
            .map(|task| {
                let (b, h) = (task / sizes.heads, task % sizes.heads);
                let at = |x: &'_ [f32], width: usize| b * (x.len() / sizes.batch) + h * width;
                backward_head(
                    Head::new(task, qs, ks, vs, ds, sizes),
                    &os[at(os, sizes.d)..],
                    &ls[at(ls, 1)..],
                    &gs[at(gs, sizes.d)..],
                    sizes,
                )
            })
            .collect();
        counter::add_macs(parts.iter().map(|p| p.1).sum());
        let join = |which: usize, like: &FlexTensor| {
            let parts = parts.iter().map(|p| p.0[which].as_slice());
            cpu_tensor(interleave(parts, sizes.heads, sizes.d), &like.shape())
        };
        [join(0, &q), join(1, &k), join(2, &v)]
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward_head(head: Head<'_>, sizes: Sizes) -> (Vec<f32>, Vec<f32>, usize) {
    let (d, stride, leaf) = (sizes.d, sizes.stride(), sizes.blocks.leaf);
    let scale = 1.0 / (d as f32).sqrt();
    let mut out = vec![0.0f32; sizes.queries * d];
    let mut log_sums = vec![0.0f32; sizes.queries];
    let (mut columns, mut query, mut scores) = (Columns::default(), vec![0.0f32; d], vec![]);
    let mut macs = 0;
    for (j, positions) in sizes.leaves() {
        columns.gather(j, j * leaf..positions.end, head, sizes);
        let all = columns.index.len();
        for position in positions {
            let i = position - sizes.offset;
            for (x, q) in query.iter_mut().zip(&head.q[i * stride..][..d]) {
                *x = q * scale;
            }
            let seen = columns.past + position - j * leaf + 1;
            scores.clear();
            scores.extend_from_slice(&columns.bias[..seen]);
            let o = &mut out[i * d..][..d];
            log_sums[i] = attend(&query, &columns.keys_turned, all, &columns.values, &mut scores, o);
            macs += 2 * seen * d;
        }
    }
    (out, log_sums, macs)
}

/// Gradients of one head; the draw and its weights count as constants.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward_head(
    head: Head<'_>,
    o: &[f32],
    log_sums: &[f32],
    gradient: &[f32],
    sizes: Sizes,
) -> ([Vec<f32>; 3], usize) {
    let (d, stride, leaf) = (sizes.d, sizes.stride(), sizes.blocks.leaf);
    let scale = 1.0 / (d as f32).sqrt();
    let mut dq = vec![0.0f32; sizes.queries * d];
    let (mut dk, mut dv) = (vec![0.0f32; sizes.keys * d], vec![0.0f32; sizes.keys * d]);
    let (mut columns, mut query) = (Columns::default(), vec![0.0f32; d]);
    // row c holds component c of all columns
    let (mut values_turned, mut dk_turned, mut dv_turned) = (vec![], vec![], vec![]);
    let (mut p, mut ds) = (vec![], vec![]);
    let mut macs = 0;
    for (j, positions) in sizes.leaves() {
        columns.gather(j, j * leaf..positions.end, head, sizes);
        let all = columns.index.len();
        values_turned.resize(all * d, 0.0);
        simd::transpose(&columns.values, d, all, d, &mut values_turned);
        for turned in [&mut dk_turned, &mut dv_turned] {
            turned.clear();
            turned.resize(all * d, 0.0f32);
        }
        for position in positions {
            let i = position - sizes.offset;
            let (g, o) = (&gradient[i * stride..][..d], &o[i * stride..][..d]);
            for (x, q) in query.iter_mut().zip(&head.q[i * stride..][..d]) {
                *x = q * scale;
            }
            let seen = columns.past + position - j * leaf + 1;
            p.clear();
            p.extend_from_slice(&columns.bias[..seen]);
            simd::add_weighted_rows(&mut p, &query, &columns.keys_turned, all);
            let log_sum = log_sums[i * sizes.heads];
            for p in p.iter_mut() {
                *p = simd::exp(*p - log_sum);
            }
            ds.clear();
            // Σ p ∂o/∂p, which the softmax takes off
            ds.resize(seen, -simd::dot(g, o));
            simd::add_weighted_rows(&mut ds, g, &values_turned, all);
            for (s, p) in ds.iter_mut().zip(&p) {
                *s *= p;
            }
            let dq = &mut dq[i * d..][..d];
            simd::add_weighted_rows(dq, &ds, &columns.keys, d);
            for x in dq.iter_mut() {
                *x *= scale;
            }
            for c in 0..d {
                simd::add_scaled(&mut dk_turned[c * all..][..seen], query[c], &ds);
                simd::add_scaled(&mut dv_turned[c * all..][..seen], g[c], &p);
            }
            macs += 5 * seen * d;
        }
        // a key drawn twice gets both shares
        for (column, index) in columns.index.iter().enumerate() {
            for c in 0..d {
                dk[index * d + c] += dk_turned[c * all + column];
                dv[index * d + c] += dv_turned[c * all + column];
            }
        }
    }
    ([dq, dk, dv], macs)
}

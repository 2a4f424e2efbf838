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
    columns::{Columns, Rows},
    sampling::{draw_keys, uniforms},
};
use crate::{
    counter,
    ops::{contiguous, cpu_tensor, heads::interleave, values},
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

    /// Leaves that hold queries, each with the positions of those.
    fn leaves(self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (from, to, leaf) = (self.offset, self.offset + self.queries, self.blocks.leaf);
        (from / leaf..to.div_ceil(leaf)).map(move |j| (j, (j * leaf).max(from)..((j + 1) * leaf).min(to)))
    }
}

/// One head of one sequence.
#[derive(Clone, Copy)]
struct Head<'a> {
    q: Rows<'a>,
    k: Rows<'a>,
    v: Rows<'a>,
    draws: Rows<'a>,
    sizes: Sizes,
}

impl<'a> Head<'a> {
    fn new(task: usize, [q, k, v, draws]: [&'a [f32]; 4], sizes: Sizes) -> Self {
        let rows = |x, width| Rows::of(x, task, sizes.batch, sizes.heads, width);
        Head {
            q: rows(q, sizes.d),
            k: rows(k, sizes.d),
            v: rows(v, sizes.d),
            draws: rows(draws, 2 * sizes.blocks.samples),
            sizes,
        }
    }

    /// Gathers the keys that a leaf sees: those of past blocks, of which it gives the number, then its `own` in their order.
    fn gather(&self, leaf: usize, own: Range<usize>, columns: &mut Columns) -> usize {
        let blocks = self.sizes.blocks;
        columns.clear();
        for block in blocks.past(leaf) {
            match block.row {
                None => columns.index.extend(block.start..block.start + block.len),
                Some(row) => {
                    let (chosen, log_weights) = self.draws.row(row).split_at(blocks.samples);
                    let chosen = chosen.iter().map(|index| block.start + *index as usize);
                    columns.index.extend(chosen);
                    columns.bias.extend_from_slice(log_weights);
                }
            }
            columns.bias.resize(columns.index.len(), 0.0);
        }
        let past = columns.index.len();
        columns.index.extend(own);
        columns.bias.resize(columns.index.len(), 0.0);
        columns.gather(self.k, self.v);
        past
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
                for (h, draw) in draws.chunks_exact_mut(2 * m).enumerate() {
                    let vs = vs.chunks_exact(heads * d).map(|v| &v[h * d..][..d]);
                    draw_keys(vs, uniforms(block.start + block.len, h, m), draw);
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
        let inputs = [values(&q), values(&k), values(&v), values(&draws)];
        let parts: Vec<(Vec<f32>, Vec<f32>, usize)> = (0..sizes.batch * sizes.heads)
            .into_par_iter()
            .map(|task| forward_head(Head::new(task, inputs, sizes)))
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
        let inputs = [values(&q), values(&k), values(&v), values(&draws)];
        let parts: Vec<([Vec<f32>; 3], usize)> = (0..sizes.batch * sizes.heads)
            .into_par_iter()
            .map(|task| {
                let rows = |x, width| Rows::of(x, task, sizes.batch, sizes.heads, width);
                let results = [rows(values(&o), sizes.d), rows(values(&gradient), sizes.d)];
                backward_head(
                    Head::new(task, inputs, sizes),
                    results,
                    rows(values(&log_sums), 1),
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
fn forward_head(head: Head<'_>) -> (Vec<f32>, Vec<f32>, usize) {
    let sizes = head.sizes;
    let (d, leaf) = (sizes.d, sizes.blocks.leaf);
    let mut out = vec![0.0f32; sizes.queries * d];
    let mut log_sums = vec![0.0f32; sizes.queries];
    let (mut columns, mut macs) = (Columns::default(), 0);
    for (j, positions) in sizes.leaves() {
        let past = head.gather(j, j * leaf..positions.end, &mut columns);
        for position in positions {
            let i = position - sizes.offset;
            let seen = past + position - j * leaf + 1;
            log_sums[i] = columns.attend(head.q.row(i), seen, &mut out[i * d..][..d]);
            macs += 2 * seen * d;
        }
    }
    (out, log_sums, macs)
}

/// Gradients of one head, from outputs and their gradients; the draw and its weights count as constants.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward_head(head: Head<'_>, [o, g]: [Rows<'_>; 2], log_sums: Rows<'_>) -> ([Vec<f32>; 3], usize) {
    let sizes = head.sizes;
    let (d, leaf) = (sizes.d, sizes.blocks.leaf);
    let mut dq = vec![0.0f32; sizes.queries * d];
    let (mut dk, mut dv) = (vec![0.0f32; sizes.keys * d], vec![0.0f32; sizes.keys * d]);
    let (mut columns, mut macs) = (Columns::default(), 0);
    for (j, positions) in sizes.leaves() {
        let past = head.gather(j, j * leaf..positions.end, &mut columns);
        columns.start_back();
        for position in positions {
            let i = position - sizes.offset;
            let seen = past + position - j * leaf + 1;
            let dq = &mut dq[i * d..][..d];
            columns.back(head.q.row(i), [o.row(i), g.row(i)], log_sums.row(i)[0], seen, dq);
            macs += 5 * seen * d;
        }
        columns.finish_back(&mut dk, &mut dv);
    }
    ([dq, dk, dv], macs)
}

//! The kernel for processors: visits the blocks of the band and holds one block of scores. What a query of a block does not
//! see is set to zero and not counted.

use std::ops::Range;

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use pulp::Arch;
use rayon::prelude::*;

use super::{Band, TiledAttentionOp, Tiles, backward::Backward, forward::Forward};
use crate::{
    model::Pass,
    ops::{attention::cpu::Sizes, contiguous, cpu_tensor, heads::interleave, values},
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
        let arch = Arch::new();
        let parts: Vec<Vec<f32>> = sums
            .par_chunks_mut(sizes.share() * sizes.rows)
            .enumerate()
            .map(|(task, sums)| {
                let (b, g) = (task / sizes.groups, task % sizes.groups);
                let at = b * k_len..(b + 1) * k_len;
                let q = &qs[b * q_len..][..q_len];
                arch.dispatch(Forward {
                    q,
                    k: &ks[at.clone()],
                    v: &vs[at],
                    group: g,
                    sizes: &sizes.sequence(b),
                    tiles,
                    sums,
                })
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
        let arch = Arch::new();
        let parts: Vec<[Vec<f32>; 3]> = (0..batch * sizes.groups)
            .into_par_iter()
            .map(|task| {
                let (b, g) = (task / sizes.groups, task % sizes.groups);
                arch.dispatch(Backward {
                    q: &values(&q)[b * q_len..][..q_len],
                    k: &values(&k)[b * k_len..][..k_len],
                    v: &values(&v)[b * k_len..][..k_len],
                    o: &values(&o)[b * q_len..][..q_len],
                    sums: &values(&sums)[b * s_len..][..s_len],
                    gradient: &values(&gradient)[b * q_len..][..q_len],
                    group: g,
                    sizes: &sizes.sequence(b),
                    tiles,
                })
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

/// The first keys of the blocks that a block of queries meets.
#[inline(always)]
pub(super) fn key_blocks(rows: &Range<usize>, band: &Band, keys: usize) -> impl Iterator<Item = usize> {
    let from = band.row(rows.start).start / keys * keys;
    (from..band.row(rows.end - 1).end).step_by(keys)
}

/// The keys that a query sees of a block of `width` that begins with `first`, counted from there.
#[inline(always)]
pub(super) fn seen(i: usize, band: &Band, first: usize, width: usize) -> Range<usize> {
    let (row, last) = (band.row(i), first + width);
    let start = row.start.clamp(first, last);
    start - first..row.end.clamp(start, last) - first
}

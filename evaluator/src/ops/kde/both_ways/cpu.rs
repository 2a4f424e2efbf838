//! The kernel for processors: gathers the keys that the queries of a block see, and visits those pairs and no others.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{
    super::{
        codes::{code, gray_rank, hyperplanes, order},
        columns::{Columns, Rows},
        sampling::{draw_keys, uniforms},
    },
    KdeBothWays, KdeBothWaysOp,
    blocks::{Blocks, Head, dims},
};
use crate::{
    counter,
    model::Pass,
    ops::{contiguous, cpu_tensor, heads::interleave, values},
};

/// Of scores and of the weighted sum; backwards the scores again, and one for each of weights, values, queries and keys.
pub(super) const PRODUCTS: Pass = Pass {
    forward: 2,
    backward: 5,
};

impl KdeBothWaysOp for Flex {
    fn kde_places(q: FlexTensor, k: FlexTensor, v: FlexTensor, form: &KdeBothWays) -> FlexTensor {
        let [q, k, v] = [q, k, v].map(contiguous);
        let [batch, n, heads, d] = dims(&q);
        let width = 2 * form.samples + if form.block > 0 { 2 * n } else { 0 };
        let mut places = vec![0.0f32; batch * heads * width];
        let planes = hyperplanes(d, form.bits);
        let tasks = places.par_chunks_mut(width).enumerate();
        let macs: usize = tasks
            .map(|(task, places)| {
                let head = Head::new(task, [&q, &k, &v], form);
                let (sorted, draw) = places.split_at_mut(width - 2 * form.samples);
                let values = (0..head.there).map(|i| head.v.row(i));
                draw_keys(values, uniforms(0, head.number, form.samples), draw);
                let (queries, keys) = sorted.split_at_mut(sorted.len() / 2);
                let sides = [(head.q, queries), (head.k, keys)];
                let sides = sides.into_iter().filter(|(_, sorted)| !sorted.is_empty());
                sides
                    .map(|(rows, sorted)| sort(rows, head.there, &planes, sorted))
                    .sum::<usize>()
            })
            .sum();
        counter::add_macs(macs);
        counter::add_skipped(Pass {
            forward: (heads * form.left_out(n, |n| form.code_macs(n, d))) as u64,
            backward: 0,
        });
        cpu_tensor(places, &[batch, heads, width])
    }

    fn kde_both_ways_forward(inputs: [FlexTensor; 4], form: &KdeBothWays) -> (FlexTensor, FlexTensor) {
        let [q, k, v, places] = inputs.map(contiguous);
        let [batch, n, heads, d] = dims(&q);
        let tasks = values(&places).par_chunks(values(&places).len() / (batch * heads));
        let parts: Vec<(Vec<f32>, Vec<f32>, usize)> = tasks
            .enumerate()
            .map(|(task, places)| {
                let head = Head::new(task, [&q, &k, &v], form);
                forward_head(&head, &Blocks::new(&head, places, form))
            })
            .collect();
        counter::add_macs(parts.iter().map(|p| p.2).sum());
        let left_out = heads * d * form.left_out(n, |n| form.pairs(n));
        counter::add_skipped(PRODUCTS * left_out as u64);
        let o = interleave(parts.iter().map(|p| p.0.as_slice()), heads, d);
        let log_sums = interleave(parts.iter().map(|p| p.1.as_slice()), heads, 1);
        (
            cpu_tensor(o, &q.shape()),
            cpu_tensor(log_sums, &[batch, n, heads]),
        )
    }

    fn kde_both_ways_backward(
        inputs: [FlexTensor; 4],
        o: FlexTensor,
        log_sums: FlexTensor,
        gradient: FlexTensor,
        form: &KdeBothWays,
    ) -> [FlexTensor; 3] {
        let [q, k, v, places] = inputs.map(contiguous);
        let [o, log_sums, gradient] = [o, log_sums, gradient].map(contiguous);
        let [batch, _, heads, d] = dims(&q);
        let tasks = values(&places).par_chunks(values(&places).len() / (batch * heads));
        let parts: Vec<([Vec<f32>; 3], usize)> = tasks
            .enumerate()
            .map(|(task, places)| {
                let head = Head::new(task, [&q, &k, &v], form);
                let rows = |x, width| Rows::of(values(x), task, batch, heads, width);
                let results = [rows(&o, d), rows(&gradient, d)];
                backward_head(
                    &head,
                    &Blocks::new(&head, places, form),
                    results,
                    rows(&log_sums, 1),
                )
            })
            .collect();
        counter::add_macs(parts.iter().map(|p| p.1).sum());
        [0, 1, 2].map(|which: usize| {
            let parts = parts.iter().map(|p| p.0[which].as_slice());
            cpu_tensor(interleave(parts, heads, d), &q.shape())
        })
    }
}

/// Writes the positions of rows in the order of their codes, then those of padding; gives multiply-adds.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn sort(rows: Rows<'_>, there: usize, planes: &[f32], sorted: &mut [f32]) -> usize {
    let ranks: Vec<usize> = (0..there).map(|i| gray_rank(code(rows.row(i), planes))).collect();
    let positions = order(&ranks).into_iter().chain(there..sorted.len());
    for (to, position) in sorted.iter_mut().zip(positions) {
        // positions are kept among floats, exact up to 2^24
        *to = position as f32;
    }
    there * planes.len()
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward_head(head: &Head<'_>, blocks: &Blocks<'_>) -> (Vec<f32>, Vec<f32>, usize) {
    let d = head.d;
    let (mut out, mut log_sums) = (vec![0.0f32; head.n * d], vec![0.0f32; head.n]);
    let (mut columns, mut macs) = (Columns::default(), 0);
    for block in blocks.ranges() {
        blocks.gather(block.clone(), head, &mut columns);
        let seen = columns.index.len();
        for place in block {
            let i = blocks.query(place);
            log_sums[i] = columns.attend(head.q.row(i), seen, &mut out[i * d..][..d]);
            macs += 2 * seen * d;
        }
    }
    (out, log_sums, macs)
}

/// Gradients of one head, from outputs and their gradients; places and weights count as constants.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward_head(
    head: &Head<'_>,
    blocks: &Blocks<'_>,
    [o, g]: [Rows<'_>; 2],
    log_sums: Rows<'_>,
) -> ([Vec<f32>; 3], usize) {
    let d = head.d;
    let [mut dq, mut dk, mut dv] = [0; 3].map(|_| vec![0.0f32; head.n * d]);
    let (mut columns, mut macs) = (Columns::default(), 0);
    for block in blocks.ranges() {
        blocks.gather(block.clone(), head, &mut columns);
        columns.start_back();
        let seen = columns.index.len();
        for place in block {
            let i = blocks.query(place);
            let dq = &mut dq[i * d..][..d];
            columns.back(head.q.row(i), [o.row(i), g.row(i)], log_sums.row(i)[0], seen, dq);
            macs += 5 * seen * d;
        }
        columns.finish_back(&mut dk, &mut dv);
    }
    ([dq, dk, dv], macs)
}

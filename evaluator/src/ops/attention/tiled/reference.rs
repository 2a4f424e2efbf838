//! Plain tensor operations, block by block.

use burn::tensor::{Tensor, backend::Backend};

use super::{Band, Tiles};
use crate::{
    counter,
    ops::attention::reference::{outside, spread},
};

/// One block of queries with one block of keys, both of them not empty.
struct Block {
    rows: std::ops::Range<usize>,
    keys: std::ops::Range<usize>,
}

/// The blocks that hold at least one pair of the band, row by row.
fn blocks(queries: usize, band: &Band, tiles: Tiles) -> Vec<Vec<Block>> {
    let of_rows = |start: usize| {
        let rows = start..(start + tiles.queries).min(queries);
        let (first, end) = (band.row(rows.start).start, band.row(rows.end - 1).end);
        let from = first / tiles.keys * tiles.keys;
        (from..end)
            .step_by(tiles.keys)
            .map(|k| Block {
                rows: rows.clone(),
                keys: k..(k + tiles.keys).min(end),
            })
            .collect()
    };
    (0..queries).step_by(tiles.queries).map(of_rows).collect()
}

fn rows<B: Backend>(x: &Tensor<B, 4>, range: std::ops::Range<usize>) -> Tensor<B, 4> {
    let [b, h, _, d] = x.dims();
    x.clone().slice([0..b, 0..h, range, 0..d])
}

/// Scores of one block, with -1e30 outside the band.
fn scores<B: Backend>(q: &Tensor<B, 4>, k: &Tensor<B, 4>, block: &Block, band: &Band) -> Tensor<B, 4> {
    let [b, h, _, d] = q.dims();
    let (n, m) = (block.rows.len(), block.keys.len());
    let s = rows(q, block.rows.clone())
        .matmul(rows(k, block.keys.clone()).swap_dims(2, 3))
        .mul_scalar(1.0 / (d as f64).sqrt());
    counter::add_macs(b * h * n * m * d);
    let mask = outside::<B>(&q.device(), [b, h], [block.rows.start, n], band).slice([
        0..b,
        0..h,
        0..n,
        block.keys.clone(),
    ]);
    s.mask_fill(mask, -1e30)
}

pub(in crate::ops) fn forward<B: Backend>(
    [q, k, v]: [Tensor<B, 4>; 3],
    band: Band,
    tiles: Tiles,
) -> (Tensor<B, 4>, Tensor<B, 3>) {
    let [b, n, h, d] = q.dims();
    let (q, k, v) = (
        q.swap_dims(1, 2),
        spread(k, band.keys, h),
        spread(v, band.keys, h),
    );
    let (mut outputs, mut all_sums) = (vec![], vec![]);
    let of_kind = (&q.device(), q.dtype());
    for row in blocks(n, &band, tiles) {
        let len = row[0].rows.len();
        let mut m = Tensor::<B, 4>::full([b, h, len, 1], -1e30, of_kind);
        let mut l = Tensor::<B, 4>::zeros([b, h, len, 1], of_kind);
        let mut o = Tensor::<B, 4>::zeros([b, h, len, d], of_kind);
        for block in &row {
            let s = scores(&q, &k, block, &band);
            let next = m.clone().max_pair(s.clone().max_dim(3));
            // a block may lie outside a row's window: its scores are then far below any maximum that counts
            let p = (s.clone() - next.clone()).exp() * s.greater_elem(-1e29).float().cast(q.dtype());
            let keep = (m - next.clone()).exp();
            l = l * keep.clone() + p.clone().sum_dim(3);
            counter::add_macs(b * h * len * block.keys.len() * d);
            o = o * keep + p.matmul(rows(&v, block.keys.clone()));
            m = next;
        }
        // a row of padding has seen nothing: its output is 0, and so is every probability of a sum of 0
        let empty = l.clone().equal_elem(0.0);
        let l = l.mask_fill(empty.clone(), 1.0);
        outputs.push(o / l.clone());
        all_sums.push((m + l.log()).mask_fill(empty, 0.0).squeeze_dim::<3>(3));
    }
    (Tensor::cat(outputs, 2).swap_dims(1, 2), Tensor::cat(all_sums, 2))
}

pub(in crate::ops) fn backward<B: Backend>(
    [q, k, v]: [Tensor<B, 4>; 3],
    o: Tensor<B, 4>,
    sums: Tensor<B, 3>,
    gradient: Tensor<B, 4>,
    band: Band,
    tiles: Tiles,
) -> [Tensor<B, 4>; 3] {
    let [b, n, h, d] = q.dims();
    let [_, allocated, g, _] = k.dims();
    let (q, k, v) = (
        q.swap_dims(1, 2),
        spread(k, band.keys, h),
        spread(v, band.keys, h),
    );
    let (o, gradient) = (o.swap_dims(1, 2), gradient.swap_dims(1, 2));
    let means = (o * gradient.clone()).sum_dim(3);
    let sums = sums.unsqueeze_dim::<4>(3);
    let scale = 1.0 / (d as f64).sqrt();
    let zeros = || Tensor::<B, 4>::zeros([b, h, allocated, d], (&q.device(), q.dtype()));
    let (mut dk, mut dv, mut dq_rows) = (zeros(), zeros(), vec![]);
    for row in blocks(n, &band, tiles) {
        let range = row[0].rows.clone();
        let mut dq = Tensor::<B, 4>::zeros([b, h, range.len(), d], (&q.device(), q.dtype()));
        for block in &row {
            let p = (scores(&q, &k, block, &band) - rows(&sums, range.clone())).exp();
            let g = rows(&gradient, range.clone());
            let dp = g.clone().matmul(rows(&v, block.keys.clone()).swap_dims(2, 3));
            let ds = p.clone() * (dp - rows(&means, range.clone())) * scale;
            dq = dq + ds.clone().matmul(rows(&k, block.keys.clone()));
            let at = [0..b, 0..h, block.keys.clone(), 0..d];
            let more = ds.swap_dims(2, 3).matmul(rows(&q, range.clone()));
            dk = dk
                .clone()
                .slice_assign(at.clone(), rows(&dk, block.keys.clone()) + more);
            let more = p.swap_dims(2, 3).matmul(g);
            dv = dv.clone().slice_assign(at, rows(&dv, block.keys.clone()) + more);
            counter::add_macs(4 * b * h * range.len() * block.keys.len() * d);
        }
        dq_rows.push(dq);
    }
    let gather = |x: Tensor<B, 4>| {
        let x = x.reshape([b, g, h / g, allocated, d]).sum_dim(2);
        x.squeeze_dim::<4>(2).swap_dims(1, 2)
    };
    [Tensor::cat(dq_rows, 2).swap_dims(1, 2), gather(dk), gather(dv)]
}

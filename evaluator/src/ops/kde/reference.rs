//! Plain tensor operations, leaf by leaf.

use std::ops::Range;

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData, backend::Backend};

use super::{
    KdeBlocks,
    sampling::{Block, uniforms},
};
use crate::counter;

/// `[b, n, h, d]` to `[b, h, n, d]` and back.
pub(super) fn turn<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    x.swap_dims(1, 2)
}

/// The draws of `rows`, `[b, rows, h, 2 samples]`: indices within the block, then logarithms of weights.
pub(super) fn draw<B: Backend>(v: Tensor<B, 4>, rows: Range<usize>, blocks: KdeBlocks) -> Tensor<B, 4> {
    let [b, _, h, _] = v.dims();
    let m = blocks.samples;
    let device = v.device();
    let squares = v.square().sum_dim(3);
    let draws = rows.map(|row| {
        let Block { start, len, .. } = blocks.block(row);
        let squares = squares.clone().slice([0..b, start..start + len]);
        let p = squares.clone() / (squares.mean_dim(1) + f32::MIN_POSITIVE) + 1.0;
        let last = Tensor::full([b, 1, 1, 1], len as i64 - 1, &device);
        sampled(p, start + len, m, last)
    });
    let draws: Vec<_> = draws.collect();
    if draws.is_empty() {
        Tensor::empty([b, 0, h, 2 * m], &device)
    } else {
        Tensor::cat(draws, 1)
    }
}

/// `m` keys drawn by `p [b, n, h, 1]`, none behind `last [b, 1, 1, 1]`: indices, then logarithms of weights `[b, 1, h, 2 m]`.
pub(super) fn sampled<B: Backend>(
    p: Tensor<B, 4>,
    stream: usize,
    m: usize,
    last: Tensor<B, 4, Int>,
) -> Tensor<B, 4> {
    let [b, n, h, _] = p.dims();
    let sums = p.clone().cumsum(1);
    let total = sums.clone().slice([0..b, n - 1..n]);
    let u = (0..h).flat_map(|head| uniforms(stream, head, m).map(|u| u as f32));
    let u = Tensor::from_data(TensorData::new(u.collect(), [1, 1, h, m]), &p.device());
    let below = (u * total.clone())
        .expand([b, n, h, m])
        .greater_equal(sums.expand([b, n, h, m]));
    let chosen = below.int().sum_dim(1).min_pair(last.expand([b, 1, h, m]));
    let picked = p.expand([b, n, h, m]).gather(1, chosen.clone());
    let log_weights = (total / (picked * m as f32)).log();
    Tensor::cat(vec![chosen.float(), log_weights], 3)
}

/// The keys of one leaf: positions `[b, h, columns]`, logarithms of weights `[b, h, 1, columns]`.
struct Columns<B: Backend> {
    index: Tensor<B, 3, Int>,
    bias: Tensor<B, 4>,
    past: usize,
    leaf_start: usize,
    queries: Range<usize>,
}

impl<B: Backend> Columns<B> {
    fn new(leaf: usize, positions: Range<usize>, draws: &Tensor<B, 4>, blocks: KdeBlocks) -> Self {
        let [b, _, h, _] = draws.dims();
        let (m, device) = (blocks.samples, draws.device());
        let exact = |positions: Range<usize>| {
            let n = positions.len();
            let index = Tensor::<B, 1, Int>::arange(positions.start as i64..positions.end as i64, &device);
            (
                index.reshape([1, 1, n]).expand([b, h, n]),
                Tensor::<B, 4>::zeros([b, h, 1, n], &device),
            )
        };
        let mut parts: Vec<_> = blocks
            .past(leaf)
            .map(|block| match block.row {
                None => exact(block.start..block.start + block.len),
                Some(row) => {
                    let draw = turn(draws.clone().slice([0..b, row..row + 1]));
                    let chosen = draw.clone().slice([0..b, 0..h, 0..1, 0..m]);
                    let chosen = chosen.int().add_scalar(block.start as i64);
                    (
                        chosen.squeeze_dim::<3>(2),
                        draw.slice([0..b, 0..h, 0..1, m..2 * m]),
                    )
                }
            })
            .collect();
        let past = parts.iter().map(|part| part.0.dims()[2]).sum();
        let leaf_start = leaf * blocks.leaf;
        parts.push(exact(leaf_start..positions.end));
        let (index, bias): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        Columns {
            index: Tensor::cat(index, 2),
            bias: Tensor::cat(bias, 3),
            past,
            leaf_start,
            queries: positions,
        }
    }

    /// Positions of the columns for each of `d` components.
    fn spread(&self, d: usize) -> Tensor<B, 4, Int> {
        let [b, h, n] = self.index.dims();
        self.index.clone().unsqueeze_dim::<4>(3).expand([b, h, n, d])
    }

    /// Scores of scaled queries with logarithms of weights, keys after a query shut out.
    fn scores(&self, q: Tensor<B, 4>, k: Tensor<B, 4>) -> Tensor<B, 4> {
        let [b, h, n, _] = q.dims();
        let columns = k.dims()[2];
        let scores = product(q, turn_last(k)) + self.bias.clone();
        let last = Tensor::<B, 1, Int>::arange(
            (self.queries.start - self.leaf_start + self.past) as i64
                ..(self.queries.end - self.leaf_start + self.past) as i64,
            &scores.device(),
        );
        let column = Tensor::<B, 1, Int>::arange(0..columns as i64, &scores.device());
        let ahead = column
            .reshape([1, 1, 1, columns])
            .expand([b, h, n, columns])
            .greater(last.reshape([1, 1, n, 1]).expand([b, h, n, columns]));
        scores.mask_fill(ahead, f32::MIN)
    }
}

fn turn_last<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    x.swap_dims(2, 3)
}

fn product<B: Backend>(a: Tensor<B, 4>, b: Tensor<B, 4>) -> Tensor<B, 4> {
    let [x, y, n, k] = a.dims();
    counter::add_macs(x * y * n * k * b.dims()[3]);
    a.matmul(b)
}

/// Each leaf with queries at `offset..offset + n`: its columns.
fn leaves<B: Backend>(
    draws: Tensor<B, 4>,
    offset: usize,
    n: usize,
    blocks: KdeBlocks,
) -> impl Iterator<Item = Columns<B>> {
    let (end, leaf) = (offset + n, blocks.leaf);
    (offset / leaf..end.div_ceil(leaf)).map(move |j| {
        let positions = (j * leaf).max(offset)..((j + 1) * leaf).min(end);
        Columns::new(j, positions, &draws, blocks)
    })
}

fn rows<B: Backend>(x: &Tensor<B, 4>, columns: &Columns<B>, offset: usize) -> Tensor<B, 4> {
    let [b, h, _, d] = x.dims();
    let range = columns.queries.start - offset..columns.queries.end - offset;
    x.clone().slice([0..b, 0..h, range, 0..d])
}

pub(super) fn forward<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    draws: Tensor<B, 4>,
    offset: usize,
    blocks: KdeBlocks,
) -> (Tensor<B, 4>, Tensor<B, 3>) {
    let [_, n, _, d] = q.dims();
    let (q, k, v) = (turn(q) / (d as f64).sqrt(), turn(k), turn(v));
    let (mut outputs, mut log_sums) = (vec![], vec![]);
    for columns in leaves(draws, offset, n, blocks) {
        let index = columns.spread(d);
        let (k, v) = (k.clone().gather(2, index.clone()), v.clone().gather(2, index));
        let scores = columns.scores(rows(&q, &columns, offset), k);
        let max = scores.clone().max_dim(3).detach();
        let p = (scores - max.clone()).exp();
        let sum = p.clone().sum_dim(3);
        outputs.push(product(p, v) / sum.clone());
        log_sums.push(max + sum.log());
    }
    let log_sums = Tensor::cat(log_sums, 2).squeeze_dim::<3>(3).swap_dims(1, 2);
    (turn(Tensor::cat(outputs, 2)), log_sums)
}

pub(super) fn backward<B: Backend>(
    [q, k, v, draws]: [Tensor<B, 4>; 4],
    o: Tensor<B, 4>,
    log_sums: Tensor<B, 3>,
    gradient: Tensor<B, 4>,
    offset: usize,
    blocks: KdeBlocks,
) -> [Tensor<B, 4>; 3] {
    let [_, n, _, d] = q.dims();
    let scale = 1.0 / (d as f64).sqrt();
    let (q, k, v) = (turn(q) * scale, turn(k), turn(v));
    let mean = turn((gradient.clone() * o).sum_dim(3));
    let (gradient, log_sums) = (turn(gradient), turn(log_sums.unsqueeze_dim::<4>(3)));
    let (mut dq, mut dk, mut dv) = (vec![], k.zeros_like(), v.zeros_like());
    for columns in leaves(draws, offset, n, blocks) {
        let index = columns.spread(d);
        let gathered = |x: &Tensor<B, 4>| x.clone().gather(2, index.clone());
        let at = |x: &Tensor<B, 4>| rows(x, &columns, offset);
        let (kc, g) = (gathered(&k), at(&gradient));
        let p = (columns.scores(at(&q), kc.clone()) - at(&log_sums)).exp();
        let ds = p.clone() * (product(g.clone(), turn_last(gathered(&v))) - at(&mean));
        let of_keys = product(turn_last(ds.clone()), at(&q));
        dk = dk.scatter(2, index.clone(), of_keys, IndexingUpdateOp::Add);
        dv = dv.scatter(2, index.clone(), product(turn_last(p), g), IndexingUpdateOp::Add);
        dq.push(product(ds, kc) * scale);
    }
    [Tensor::cat(dq, 2), dk, dv].map(turn)
}

//! Plain tensor operations: the columns of each block gathered one after the other, `n (1 + samples / block)` of them.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData, backend::Backend};

use super::{
    super::{
        codes::hyperplanes,
        reference::{sampled, turn},
    },
    KdeBothWays,
};
use crate::{counter, ops::Lengths};

fn lengths(form: &KdeBothWays, b: usize, n: usize) -> Lengths {
    form.lengths.clone().unwrap_or_else(|| Lengths::new(vec![n; b]))
}

pub(super) fn places<B: Backend>([q, k, v]: [Tensor<B, 4>; 3], form: &KdeBothWays) -> Tensor<B, 3> {
    let mut places = vec![];
    if form.block > 0 {
        places.extend([q, k].map(|x| sorted(x, form)));
    }
    if form.samples > 0 {
        places.push(drawn(v, form));
    }
    Tensor::cat(places, 2)
}

/// Positions of the rows `x [b, n, h, d]` in the order of their codes, padding last, `[b, h, n]`.
fn sorted<B: Backend>(x: Tensor<B, 4>, form: &KdeBothWays) -> Tensor<B, 3> {
    let [b, n, h, d] = x.dims();
    let device = x.device();
    let planes = hyperplanes(d, form.bits);
    let mut parity = x.clone().narrow(3, 0, 1).zeros_like();
    let mut rank = parity.clone();
    for bit in (0..form.bits).rev() {
        let plane: Vec<f32> = planes.iter().skip(bit).step_by(form.bits).copied().collect();
        let plane = Tensor::<B, 4>::from_data(TensorData::new(plane, [1, 1, 1, d]), &device);
        // no product of matrices, whose factors a GPU may round, so that no vector changes sides
        let side = (x.clone() * plane).sum_dim(3).greater_equal_elem(0.0).float();
        counter::add_macs(b * n * h * d);
        // a bit of the rank is the parity of the code's bits from it up
        parity = (parity - side).abs();
        rank = rank * 2.0 + parity.clone();
    }
    let absent = lengths(form, b, n).absent::<B>(0..n, &device);
    let last = absent.reshape([b, n, 1, 1]).expand([b, n, h, 1]);
    let rank = rank.mask_fill(last, f64::from(1 << form.bits)).int();
    let position = Tensor::<B, 1, Int>::arange(0..n as i64, &device).reshape([1, n, 1, 1]);
    let order = (rank * n as i64 + position.expand([b, n, h, 1])).argsort(1);
    turn(order.float()).squeeze_dim::<3>(3)
}

/// Positions and logarithms of weights of drawn keys, `[b, h, 2 samples]`.
fn drawn<B: Backend>(v: Tensor<B, 4>, form: &KdeBothWays) -> Tensor<B, 3> {
    let [b, n, _, _] = v.dims();
    let device = v.device();
    let lengths = lengths(form, b, n);
    let present = lengths.present::<B>(n, &device).reshape([b, n, 1, 1]);
    let squares = v.square().sum_dim(3) * present.clone();
    let mean = squares.clone().sum_dim(1) / present.clone().sum_dim(1);
    let p = (squares / (mean + f32::MIN_POSITIVE) + 1.0) * present;
    let last: Vec<i32> = lengths.iter().map(|there| there as i32 - 1).collect();
    let last = Tensor::from_data(TensorData::new(last, [b, 1, 1, 1]), &device);
    sampled(p, 0, form.samples, last).squeeze_dim::<3>(1)
}

/// The queries of all blocks and the columns that each block sees.
struct Blocks<B: Backend> {
    n: usize,
    count: usize,
    /// Positions of queries `[b, h, count · size]`, and 1 where there is one, `[b, 1, count · size, 1]`.
    queries: Tensor<B, 3, Int>,
    present: Tensor<B, 4>,
    /// Positions of keys `[b, h, count · columns]`, and logarithms of weights `[b, h, count, 1, columns]`.
    keys: Tensor<B, 3, Int>,
    bias: Tensor<B, 5>,
}

impl<B: Backend> Blocks<B> {
    fn new(places: Tensor<B, 3>, n: usize, form: &KdeBothWays) -> Self {
        let [b, h, _] = places.dims();
        let (m, device) = (form.samples, places.device());
        let size = if form.block > 0 { form.block } else { n };
        let count = n.div_ceil(size);
        let rows = count * size;
        let arange = |n: usize| Tensor::<B, 1, Int>::arange(0..n as i64, &device);
        let absent = lengths(form, b, n).absent::<B>(0..rows, &device);
        let mut queries = arange(rows).reshape([1, 1, rows]).expand([b, h, rows]);
        let (mut keys, mut bias) = (vec![], vec![]);
        // the block of each position as a key; none without a heavy part
        let mut own = Tensor::<B, 3>::full([b, h, n], -1.0, &device).int();
        if form.block > 0 {
            // the last block is filled up with any position
            let filled = |x: Tensor<B, 3>| match rows - n {
                0 => x.int(),
                more => Tensor::cat(vec![x, Tensor::zeros([b, h, more], &device)], 2).int(),
            };
            queries = filled(places.clone().narrow(2, 0, n));
            let of_keys = places.clone().narrow(2, n, n);
            let place = arange(n).float().reshape([1, 1, n]).expand([b, h, n]);
            let place = Tensor::zeros([b, h, n], &device).scatter(
                2,
                of_keys.clone().int(),
                place,
                IndexingUpdateOp::Add,
            );
            own = place.int().div_scalar(size as i64);
            keys.push(filled(of_keys).reshape([b, h, count, size]));
            let hidden = absent.clone().reshape([b, 1, count, 1, size]);
            let none = Tensor::<B, 5>::zeros([b, h, count, 1, size], &device);
            bias.push(none.mask_fill(hidden.expand([b, h, count, 1, size]), f32::MIN));
        }
        if m > 0 {
            let at = places.dims()[2] - 2 * m;
            let drawn = places.clone().narrow(2, at, m).int();
            let own = own.gather(2, drawn.clone()).reshape([b, h, 1, 1, m]);
            let shape = [b, h, count, 1, m];
            let block = arange(count).reshape([1, 1, count, 1, 1]).expand(shape);
            let log_weights = places.narrow(2, at + m, m).reshape([b, h, 1, 1, m]);
            keys.push(drawn.reshape([b, h, 1, m]).expand([b, h, count, m]));
            bias.push(
                log_weights
                    .expand(shape)
                    .mask_fill(own.expand(shape).equal(block), f32::MIN),
            );
        }
        let keys = Tensor::cat(keys, 3);
        let columns = keys.dims()[3];
        Blocks {
            n,
            count,
            queries,
            present: absent.bool_not().float().reshape([b, 1, rows, 1]),
            keys: keys.reshape([b, h, count * columns]),
            bias: Tensor::cat(bias, 4),
        }
    }

    /// Queries, or what belongs to them, `[b, n, h, w]` to `[b, h, count, size, w]`; zeros where there is none.
    fn of_queries(&self, x: Tensor<B, 4>) -> Tensor<B, 5> {
        let x = gather(turn(x), &self.queries) * self.present.clone();
        let [b, h, rows, w] = x.dims();
        x.reshape([b, h, self.count, rows / self.count, w])
    }

    /// The opposite.
    fn to_queries(&self, x: Tensor<B, 5>) -> Tensor<B, 4> {
        let [b, h, count, size, w] = x.dims();
        let x = x.reshape([b, h, count * size, w]) * self.present.clone();
        turn(scatter(x, &self.queries, self.n))
    }

    /// Keys or values `[b, n, h, d]` to `[b, h, count, columns, d]`.
    fn of_keys(&self, x: Tensor<B, 4>) -> Tensor<B, 5> {
        let x = gather(turn(x), &self.keys);
        let [b, h, all, w] = x.dims();
        x.reshape([b, h, self.count, all / self.count, w])
    }

    /// What [`Blocks::of_keys`] makes of gradients.
    fn to_keys(&self, x: Tensor<B, 5>) -> Tensor<B, 4> {
        let [b, h, count, columns, w] = x.dims();
        turn(scatter(x.reshape([b, h, count * columns, w]), &self.keys, self.n))
    }

    fn scores(&self, q: Tensor<B, 5>, k: Tensor<B, 5>) -> Tensor<B, 5> {
        product(q, k.swap_dims(3, 4)) + self.bias.clone()
    }
}

fn spread<B: Backend>(index: &Tensor<B, 3, Int>, w: usize) -> Tensor<B, 4, Int> {
    let [b, h, rows] = index.dims();
    index.clone().unsqueeze_dim::<4>(3).expand([b, h, rows, w])
}

/// Rows `[b, h, rows, w]` at these positions of `x [b, h, n, w]`.
fn gather<B: Backend>(x: Tensor<B, 4>, index: &Tensor<B, 3, Int>) -> Tensor<B, 4> {
    let w = x.dims()[3];
    x.gather(2, spread(index, w))
}

/// Sums of the rows of each of `n` positions.
fn scatter<B: Backend>(x: Tensor<B, 4>, index: &Tensor<B, 3, Int>, n: usize) -> Tensor<B, 4> {
    let [b, h, _, w] = x.dims();
    Tensor::zeros([b, h, n, w], &x.device()).scatter(2, spread(index, w), x, IndexingUpdateOp::Add)
}

fn product<B: Backend>(a: Tensor<B, 5>, b: Tensor<B, 5>) -> Tensor<B, 5> {
    counter::add_macs(a.dims().iter().product::<usize>() * b.dims()[4]);
    a.matmul(b)
}

pub(super) fn forward<B: Backend>(
    [q, k, v]: [Tensor<B, 4>; 3],
    places: Tensor<B, 3>,
    form: &KdeBothWays,
) -> (Tensor<B, 4>, Tensor<B, 3>) {
    let [_, n, _, d] = q.dims();
    let blocks = Blocks::new(places, n, form);
    let q = blocks.of_queries(q / (d as f64).sqrt());
    let scores = blocks.scores(q, blocks.of_keys(k));
    let max = scores.clone().max_dim(4).detach();
    let p = (scores - max.clone()).exp();
    let sum = p.clone().sum_dim(4);
    let o = product(p, blocks.of_keys(v)) / sum.clone();
    let log_sums = blocks.to_queries(max + sum.log());
    (blocks.to_queries(o), log_sums.squeeze_dim::<3>(3))
}

pub(super) fn backward<B: Backend>(
    [q, k, v]: [Tensor<B, 4>; 3],
    places: Tensor<B, 3>,
    [o, gradient]: [Tensor<B, 4>; 2],
    log_sums: Tensor<B, 3>,
    form: &KdeBothWays,
) -> [Tensor<B, 4>; 3] {
    let [_, n, _, d] = q.dims();
    let scale = 1.0 / (d as f64).sqrt();
    let blocks = Blocks::new(places, n, form);
    let mean = blocks.of_queries((gradient.clone() * o).sum_dim(3));
    let log_sums = blocks.of_queries(log_sums.unsqueeze_dim::<4>(3));
    let (q, g) = (blocks.of_queries(q * scale), blocks.of_queries(gradient));
    let k = blocks.of_keys(k);
    let p = (blocks.scores(q.clone(), k.clone()) - log_sums).exp();
    let ds = p.clone() * (product(g.clone(), blocks.of_keys(v).swap_dims(3, 4)) - mean);
    let dk = blocks.to_keys(product(ds.clone().swap_dims(3, 4), q));
    let dv = blocks.to_keys(product(p.swap_dims(3, 4), g));
    [blocks.to_queries(product(ds, k) * scale), dk, dv]
}

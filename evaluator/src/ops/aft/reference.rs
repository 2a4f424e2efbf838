//! Plain tensor operations: every exponent is written out, for a few queries at a time.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use super::AftBias;
use crate::counter;

/// Stands for minus infinity where a difference of two of them must stay a number.
pub(super) const NEVER: f32 = -1e30;

/// Queries at a time, so that memory grows with the length of sequences and not with its square.
const QUERIES: usize = 16;

/// The single rows of a tensor with three.
pub(super) fn rows<B: Backend>(x: Tensor<B, 4>) -> [Tensor<B, 4>; 3] {
    [0, 1, 2].map(|row| x.clone().narrow(1, row, 1))
}

fn product<B: Backend>(a: Tensor<B, 2>, b: Tensor<B, 2>) -> Tensor<B, 2> {
    let [n, k] = a.dims();
    counter::add_macs(n * k * b.dims()[1]);
    a.matmul(b)
}

/// Counts products that are written as sums of elementwise ones.
fn count<B: Backend, const D: usize>(times: usize, terms: &Tensor<B, D>) {
    counter::add_macs(times * terms.dims().iter().product::<usize>());
}

/// 1 where a query of `start..end` and a key of `0..end` are less than `window` apart, `[end - start, end]`.
fn near<B: Backend>(start: usize, end: usize, window: usize, like: &Tensor<B, 4>) -> Tensor<B, 2> {
    let pairs = (start..end).flat_map(|t| (0..end).map(move |j| (t, j)));
    let values: Vec<f32> = pairs
        .map(|(t, j)| f32::from(u8::from(j <= t && t - j < window)))
        .collect();
    Tensor::<B, 2>::from_data(TensorData::new(values, [end - start, end]), &like.device()).cast(like.dtype())
}

/// `t - j`, held within the window.
fn distances<B: Backend>(start: usize, end: usize, window: usize, device: &B::Device) -> Tensor<B, 1, Int> {
    let pairs = (start..end).flat_map(|t| (0..end).map(move |j| (t, j)));
    let values: Vec<i32> = pairs
        .map(|(t, j)| t.saturating_sub(j).min(window - 1) as i32)
        .collect();
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}

/// Biases of queries `start..end` and keys `0..end`, `NEVER` for later keys: `[1, queries, keys, heads or 1, 1]`.
fn biases<B: Backend>(
    tables: &[Tensor<B, 2>],
    bias: AftBias,
    start: usize,
    end: usize,
    like: &Tensor<B, 4>,
) -> Tensor<B, 5> {
    let queries = end - start;
    let later = (near(start, end, usize::MAX, like) - 1.0) * -NEVER;
    let of_heads = |w: Tensor<B, 2>, heads: usize| {
        let w = w.reshape([heads, queries, end]) + later.clone().unsqueeze::<3>();
        let shape = [1, queries, end, heads, 1];
        match heads {
            // nothing to turn round; a GPU adds the turned view of one head wrongly (burn 0.21)
            1 => w.reshape(shape),
            _ => w.permute([1, 2, 0]).reshape(shape),
        }
    };
    match bias {
        AftBias::None => of_heads(
            Tensor::zeros([1, queries * end], (&like.device(), like.dtype())),
            1,
        ),
        AftBias::Full | AftBias::Local(_) => {
            let w = product(
                tables[0].clone().narrow(0, start, queries),
                tables[1].clone().narrow(0, 0, end).transpose(),
            );
            of_heads(w * near(start, end, bias.window(), like), 1)
        }
        AftBias::Conv(window) => {
            let heads = tables[0].dims()[0];
            let w = tables[0]
                .clone()
                .select(1, distances::<B>(start, end, window, &like.device()));
            let near = near(start, end, window, like).reshape([1, queries * end]);
            of_heads(w * near, heads)
        }
    }
}

/// `[b, 1, keys, h, d]`
fn keys<B: Backend>(x: &Tensor<B, 4>, end: usize) -> Tensor<B, 5> {
    x.clone().narrow(1, 0, end).unsqueeze_dim(1)
}

/// `[b, queries, 1, h, d]`
fn queries<B: Backend>(x: &Tensor<B, 4>, start: usize, end: usize) -> Tensor<B, 5> {
    x.clone().narrow(1, start, end - start).unsqueeze_dim(2)
}

pub(super) fn forward<B: Backend>(
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    tables: &[Tensor<B, 2>],
    bias: AftBias,
) -> (Tensor<B, 4>, Tensor<B, 4>) {
    let n = k.dims()[1];
    let (mut means, mut log_dens) = (vec![], vec![]);
    for start in (0..n).step_by(QUERIES) {
        let end = (start + QUERIES).min(n);
        let logits = keys(&k, end) + biases(tables, bias, start, end, &k);
        let largest = logits.clone().max_dim(2);
        let e = (logits - largest.clone()).exp();
        count(2, &e);
        let den = e.clone().sum_dim(2);
        means.push(((e * keys(&v, end)).sum_dim(2) / den.clone()).squeeze_dim::<4>(2));
        log_dens.push((den.log() + largest).squeeze_dim::<4>(2));
    }
    (Tensor::cat(means, 1), Tensor::cat(log_dens, 1))
}

pub(super) fn backward<B: Backend>(
    [k, v]: [Tensor<B, 4>; 2],
    tables: &[Tensor<B, 2>],
    bias: AftBias,
    [s, log_den]: [Tensor<B, 4>; 2],
    gradient: Tensor<B, 4>,
) -> ([Tensor<B, 4>; 2], Vec<Tensor<B, 2>>) {
    let [_, n, h, _] = k.dims();
    let device = k.device();
    let (mut dk, mut dv) = (k.zeros_like(), k.zeros_like());
    let mut of_tables: Vec<Tensor<B, 2>> = tables.iter().map(Tensor::zeros_like).collect();
    for start in (0..n).step_by(QUERIES) {
        let end = (start + QUERIES).min(n);
        let length = end - start;
        let logits = keys(&k, end) + biases(tables, bias, start, end, &k);
        let e = (logits - queries(&log_den, start, end)).exp();
        count(4, &e);
        let of_v = e * queries(&gradient, start, end);
        let of_logits = of_v.clone() * (keys(&v, end) - queries(&s, start, end));
        let add = |sum: Tensor<B, 4>, x: Tensor<B, 5>| {
            let [b, n, h, d] = sum.dims();
            let x = sum.clone().narrow(1, 0, end) + x.sum_dim(1).squeeze_dim::<4>(1);
            sum.slice_assign([0..b, 0..end.min(n), 0..h, 0..d], x)
        };
        dv = add(dv, of_v);
        dk = add(dk, of_logits.clone());
        // [h, queries * keys]
        let of_biases = || {
            let x = of_logits.clone().sum_dim(0).sum_dim(4).reshape([length * end, h]);
            x.transpose() * near(start, end, bias.window(), &k).reshape([1, length * end])
        };
        match bias {
            AftBias::None => {}
            AftBias::Full | AftBias::Local(_) => {
                let dw = of_biases().sum_dim(0).reshape([length, end]);
                let rank = tables[0].dims()[1];
                let u = tables[0].clone().narrow(0, start, length);
                let du = product(dw.clone(), tables[1].clone().narrow(0, 0, end));
                of_tables[0] = of_tables[0].clone().slice_assign([start..end, 0..rank], du);
                let dv = of_tables[1].clone().narrow(0, 0, end) + product(dw.transpose(), u);
                of_tables[1] = of_tables[1].clone().slice_assign([0..end, 0..rank], dv);
            }
            AftBias::Conv(window) => {
                // a product with which distance is which, so that no atomics decide the order of a sum
                let which = distances::<B>(start, end, window, &device)
                    .one_hot::<2>(window.max(2))
                    .narrow(1, 0, window)
                    .float()
                    .cast(k.dtype());
                of_tables[0] = of_tables[0].clone() + of_biases().matmul(which);
            }
        }
    }
    ([dk, dv], of_tables)
}

pub(super) fn recall<B: Backend>(
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    older: Option<Tensor<B, 4>>,
    tables: &[Tensor<B, 2>],
    bias: AftBias,
    position: usize,
) -> Tensor<B, 4> {
    let [_, rows_of_ring, h, _] = k.dims();
    let filled = rows_of_ring.min(position + 1);
    let ages: Vec<i32> = (0..filled)
        .map(|row| ((position % rows_of_ring + rows_of_ring - row) % rows_of_ring) as i32)
        .collect();
    let ages = Tensor::<B, 1, Int>::from_data(TensorData::new(ages, [filled]), &k.device());
    let w = match bias {
        AftBias::None => Tensor::zeros([1, filled, 1, 1], &k.device()),
        AftBias::Full | AftBias::Local(_) => {
            let rows = tables[1].clone().select(0, ages.neg() + position as i32);
            let u = tables[0].clone().narrow(0, position, 1);
            product(rows, u.transpose()).reshape([1, filled, 1, 1])
        }
        AftBias::Conv(_) => tables[0]
            .clone()
            .select(1, ages)
            .transpose()
            .reshape([1, filled, h, 1]),
    };
    let (k, v) = (k.narrow(1, 0, filled), v.narrow(1, 0, filled));
    let logits = k + w;
    let mut largest = logits.clone().max_dim(1);
    let older = older.map(rows);
    if let Some([largest_older, ..]) = &older {
        largest = largest.max_pair(largest_older.clone());
    }
    let e = (logits - largest.clone()).exp();
    count(2, &e);
    let (mut den, mut num) = (e.clone().sum_dim(1), (e * v).sum_dim(1));
    if let Some([largest_older, den_older, num_older]) = older {
        let scale = (largest_older - largest).exp();
        den = den + den_older * scale.clone();
        num = num + num_older * scale;
    }
    num / den
}

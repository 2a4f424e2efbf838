//! Dense scores under a mask, in plain tensor operations.

use burn::tensor::{Bool, Int, Tensor, backend::Backend};

use super::{AttentionOp, Band};
use crate::counter;

/// Repeats the key/value heads so that there are as many as query heads, and brings heads before positions.
pub(crate) fn spread<B: Backend>(x: Tensor<B, 4>, keys: usize, heads: usize) -> Tensor<B, 4> {
    let [b, _, g, d] = x.dims();
    let x = x.slice([0..b, 0..keys]).swap_dims(1, 2);
    x.unsqueeze_dim::<5>(2)
        .expand([b, g, heads / g, keys, d])
        .reshape([b, heads, keys, d])
}

/// Pairs outside the band or of padding, `[b, h, queries, keys]`; the queries are those of the sequence from `first` on.
pub(crate) fn outside<B: Backend>(
    device: &B::Device,
    [b, h]: [usize; 2],
    [first, queries]: [usize; 2],
    band: &Band,
) -> Tensor<B, 4, Bool> {
    let shape = [b, h, queries, band.keys];
    let outside = outside_band::<B>(device, first, queries, band)
        .unsqueeze::<4>()
        .expand(shape);
    let Some(lengths) = &band.lengths else {
        return outside;
    };
    let keys = lengths.absent::<B>(0..band.keys, device);
    let keys = keys.reshape([b, 1, 1, band.keys]).expand(shape);
    if band.across {
        return outside.bool_or(keys);
    }
    let rows = lengths.absent::<B>(first..first + queries, device);
    let rows = rows.reshape([b, 1, queries, 1]).expand(shape);
    outside.bool_or(keys).bool_or(rows)
}

fn outside_band<B: Backend>(
    device: &B::Device,
    first: usize,
    queries: usize,
    band: &Band,
) -> Tensor<B, 2, Bool> {
    let first = band.offset + first;
    let at = Tensor::<B, 1, Int>::arange(first as i64..(first + queries) as i64, device);
    let key = Tensor::<B, 1, Int>::arange(0..band.keys as i64, device);
    let at = at.unsqueeze_dim::<2>(1).expand([queries, band.keys]);
    let key = key.unsqueeze_dim::<2>(0).expand([queries, band.keys]);
    let ahead = if band.ahead >= band.keys {
        key.clone().greater_equal_elem(band.keys as i64)
    } else {
        (key.clone() - at.clone()).greater_elem(band.ahead as i64)
    };
    if band.window >= band.keys {
        ahead
    } else {
        ahead.bool_or((at - key).greater_equal_elem(band.window as i64))
    }
}

/// Dense scores under a mask: the plain definition, and what a GPU executes.
pub(in crate::ops) fn forward<B: AttentionOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    band: Band,
) -> (Tensor<B, 4>, Tensor<B, 4>) {
    let [b, n, h, d] = q.dims();
    let (k, v) = (spread(k, band.keys, h), spread(v, band.keys, h));
    let mask = outside::<B>(&q.device(), [b, h], [0, n], &band);
    let scores = q
        .swap_dims(1, 2)
        .matmul(k.swap_dims(2, 3))
        .mul_scalar(1.0 / (d as f64).sqrt());
    let p = burn::tensor::activation::softmax(scores.mask_fill(mask.clone(), f32::MIN), 3);
    // a row of padding has nothing to see, and softmax then gives all of it the same share
    let p = match band.lengths {
        Some(_) => p.mask_fill(mask, 0.0),
        None => p,
    };
    counter::add_macs(2 * b * h * n * band.keys * d);
    (p.clone().matmul(v).swap_dims(1, 2), p)
}

pub(in crate::ops) fn backward<B: AttentionOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    p: Tensor<B, 4>,
    gradient: Tensor<B, 4>,
    band: Band,
) -> [Tensor<B, 4>; 3] {
    let [b, n, h, d] = q.dims();
    let [_, allocated, g, _] = k.dims();
    let (k, v) = (spread(k, band.keys, h), spread(v, band.keys, h));
    let (q, gradient) = (q.swap_dims(1, 2), gradient.swap_dims(1, 2));
    let dv = p.clone().swap_dims(2, 3).matmul(gradient.clone());
    let dp = gradient.matmul(v.swap_dims(2, 3));
    let ds = p.clone() * (dp.clone() - (dp * p).sum_dim(3)) / (d as f64).sqrt();
    let dq = ds.clone().matmul(k).swap_dims(1, 2);
    let dk = ds.swap_dims(2, 3).matmul(q);
    counter::add_macs(4 * b * h * n * band.keys * d);
    let gather = |x: Tensor<B, 4>| {
        let x = x
            .reshape([b, g, h / g, band.keys, d])
            .sum_dim(2)
            .squeeze_dim::<4>(2)
            .swap_dims(1, 2);
        // a GPU cannot fill a tensor without elements
        if allocated == band.keys {
            return x;
        }
        let padding = Tensor::zeros([b, allocated - band.keys, g, d], &x.device());
        Tensor::cat(vec![x, padding], 1)
    };
    [dq, gather(dk), gather(dv)]
}

//! Dense scores under a mask, in plain tensor operations.

use burn::tensor::{Bool, Int, Tensor, backend::Backend};

use super::{AttentionOp, Band};
use crate::counter;

/// Repeats the key/value heads so that there are as many as query heads, and brings heads before positions.
pub(super) fn spread<B: Backend>(x: Tensor<B, 4>, keys: usize, heads: usize) -> Tensor<B, 4> {
    let [b, _, g, d] = x.dims();
    let x = x.slice([0..b, 0..keys]).swap_dims(1, 2);
    x.unsqueeze_dim::<5>(2)
        .expand([b, g, heads / g, keys, d])
        .reshape([b, heads, keys, d])
}

pub(super) fn outside_band<B: Backend>(device: &B::Device, queries: usize, band: Band) -> Tensor<B, 2, Bool> {
    let at = Tensor::<B, 1, Int>::arange(band.offset as i64..(band.offset + queries) as i64, device);
    let key = Tensor::<B, 1, Int>::arange(0..band.keys as i64, device);
    let at = at.unsqueeze_dim::<2>(1).expand([queries, band.keys]);
    let key = key.unsqueeze_dim::<2>(0).expand([queries, band.keys]);
    let ahead = key.clone().greater(at.clone());
    if band.window >= band.keys {
        ahead
    } else {
        ahead.bool_or((at - key).greater_equal_elem(band.window as i64))
    }
}

/// Dense scores under a mask: the plain definition, and what a GPU executes.
pub(super) fn forward<B: AttentionOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    band: Band,
) -> (Tensor<B, 4>, Tensor<B, 4>) {
    let [b, n, h, d] = q.dims();
    let (k, v) = (spread(k, band.keys, h), spread(v, band.keys, h));
    let mask = outside_band::<B>(&q.device(), n, band)
        .unsqueeze::<4>()
        .expand([b, h, n, band.keys]);
    let scores = q
        .swap_dims(1, 2)
        .matmul(k.swap_dims(2, 3))
        .mul_scalar(1.0 / (d as f64).sqrt());
    let p = burn::tensor::activation::softmax(scores.mask_fill(mask, f32::MIN), 3);
    counter::add_macs(2 * b * h * n * band.keys * d);
    (p.clone().matmul(v).swap_dims(1, 2), p)
}

pub(super) fn backward<B: AttentionOp>(
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
        let padding = Tensor::zeros([b, allocated - band.keys, g, d], &x.device());
        if allocated > band.keys {
            Tensor::cat(vec![x, padding], 1)
        } else {
            x
        }
    };
    [dq, gather(dk), gather(dv)]
}

//! Plain tensor operations, chunk by chunk.

use burn::tensor::{Tensor, backend::Backend};

use super::FeatureMap;
use crate::counter;

/// `[b, n, g, d]` to `[b, h, n, d]`.
fn spread<B: Backend>(x: Tensor<B, 4>, heads: usize) -> Tensor<B, 4> {
    let [b, n, g, d] = x.dims();
    let x = x.swap_dims(1, 2).unsqueeze_dim::<5>(2);
    x.expand([b, g, heads / g, n, d]).reshape([b, heads, n, d])
}

fn chunks(n: usize, chunk: usize) -> impl DoubleEndedIterator<Item = std::ops::Range<usize>> {
    (0..n.div_ceil(chunk)).map(move |c| c * chunk..((c + 1) * chunk).min(n))
}

fn at<B: Backend>(x: &Tensor<B, 4>, rows: std::ops::Range<usize>) -> Tensor<B, 4> {
    let [b, h, _, d] = x.dims();
    x.clone().slice([0..b, 0..h, rows, 0..d])
}

/// Zeroes what lies above the diagonal.
fn causal<B: Backend>(a: Tensor<B, 4>) -> Tensor<B, 4> {
    a.tril(0)
}

fn product<B: Backend>(a: Tensor<B, 4>, b: Tensor<B, 4>) -> Tensor<B, 4> {
    let [x, y, n, k] = a.dims();
    counter::add_macs(x * y * n * k * b.dims()[3]);
    a.matmul(b)
}

pub(super) fn forward<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    map: FeatureMap,
    chunk: usize,
) -> (Tensor<B, 4>, Tensor<B, 3>) {
    let [b, n, h, f] = q.dims();
    let d = v.dims()[3];
    let (q, k) = (map.of_tensor(q.swap_dims(1, 2)), map.of_tensor(spread(k, h)));
    let v = spread(v, h);
    let mut s = Tensor::<B, 4>::zeros([b, h, f, d], &q.device());
    let mut z = Tensor::<B, 4>::zeros([b, h, f, 1], &q.device());
    let (mut outputs, mut denominators) = (vec![], vec![]);
    for rows in chunks(n, chunk) {
        let (q, k, v) = (at(&q, rows.clone()), at(&k, rows.clone()), at(&v, rows));
        let a = causal(product(q.clone(), k.clone().swap_dims(2, 3)));
        let den = a.clone().sum_dim(3) + q.clone().matmul(z.clone()) + map.epsilon();
        let num = product(a, v.clone()) + product(q, s.clone());
        outputs.push(num / den.clone());
        denominators.push(den);
        z = z + k.clone().sum_dim(2).swap_dims(2, 3);
        s = s + product(k.swap_dims(2, 3), v);
    }
    let den = Tensor::cat(denominators, 2).squeeze_dim::<3>(3).swap_dims(1, 2);
    (Tensor::cat(outputs, 2).swap_dims(1, 2), den)
}

pub(super) fn backward<B: Backend>(
    [q, k, v]: [Tensor<B, 4>; 3],
    o: Tensor<B, 4>,
    den: Tensor<B, 3>,
    gradient: Tensor<B, 4>,
    map: FeatureMap,
    chunk: usize,
) -> [Tensor<B, 4>; 3] {
    let [b, n, h, f] = q.dims();
    let [_, _, g, d] = v.dims();
    let (q, k) = (map.of_tensor(q.swap_dims(1, 2)), map.of_tensor(spread(k, h)));
    let v = spread(v, h);
    let den = den.swap_dims(1, 2).unsqueeze_dim::<4>(3);
    let (o, gradient) = (o.swap_dims(1, 2), gradient.swap_dims(1, 2) / den.clone());
    // gradient of the denominator: -(g·o)/den, g being divided already
    let of_den = (gradient.clone() * o).sum_dim(3).neg();
    let device = q.device();
    let zeros = |columns: usize| Tensor::<B, 4>::zeros([b, h, f, columns], &device);
    let (mut s, mut z, mut dq) = (zeros(d), zeros(1), vec![]);
    for rows in chunks(n, chunk) {
        let (kc, vc, gc, e) = (
            at(&k, rows.clone()),
            at(&v, rows.clone()),
            at(&gradient, rows.clone()),
            at(&of_den, rows),
        );
        let da = causal(product(gc.clone(), vc.clone().swap_dims(2, 3)) + e.clone());
        dq.push(
            product(da, kc.clone()) + product(gc, s.clone().swap_dims(2, 3)) + e * z.clone().swap_dims(2, 3),
        );
        z = z + kc.clone().sum_dim(2).swap_dims(2, 3);
        s = s + product(kc.swap_dims(2, 3), vc);
    }
    let (mut r, mut e_sum, mut dk, mut dv) = (zeros(d), zeros(1), vec![], vec![]);
    for rows in chunks(n, chunk).rev() {
        let (qc, kc, vc) = (at(&q, rows.clone()), at(&k, rows.clone()), at(&v, rows.clone()));
        let (gc, e) = (at(&gradient, rows.clone()), at(&of_den, rows));
        let a = causal(product(qc.clone(), kc.clone().swap_dims(2, 3)));
        let da = causal(product(gc.clone(), vc.clone().swap_dims(2, 3)) + e.clone());
        dv.push(product(a.swap_dims(2, 3), gc.clone()) + product(kc, r.clone()));
        let inner = product(da.swap_dims(2, 3), qc.clone());
        dk.push(inner + product(vc, r.clone().swap_dims(2, 3)) + e_sum.clone().swap_dims(2, 3));
        e_sum = e_sum + (qc.clone() * e).sum_dim(2).swap_dims(2, 3);
        r = r + product(qc.swap_dims(2, 3), gc);
    }
    dk.reverse();
    dv.reverse();
    let gather = |x: Tensor<B, 4>| {
        let width = x.dims()[3];
        x.reshape([b, g, h / g, n, width])
            .sum_dim(2)
            .squeeze_dim::<4>(2)
            .swap_dims(1, 2)
    };
    let dq = Tensor::cat(dq, 2) * map.slopes(q);
    let dk = Tensor::cat(dk, 2) * map.slopes(k);
    [dq.swap_dims(1, 2), gather(dk), gather(Tensor::cat(dv, 2))]
}

pub(super) fn step<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    s: Tensor<B, 4>,
    z: Tensor<B, 3>,
    map: FeatureMap,
) -> (Tensor<B, 4>, Tensor<B, 4>, Tensor<B, 3>) {
    let [b, _, h, f] = q.dims();
    let [_, _, g, d] = v.dims();
    let k = map.of_tensor(k.swap_dims(1, 2));
    let s = s + product(k.clone().swap_dims(2, 3), v.swap_dims(1, 2));
    let z = z + k.squeeze_dim::<3>(2);
    let q = map.of_tensor(q.swap_dims(1, 2)).reshape([b, g, h / g, f]);
    let den = q.clone().matmul(z.clone().unsqueeze_dim::<4>(3)) + map.epsilon();
    let o = product(q, s.clone()) / den;
    (o.reshape([b, h, 1, d]).swap_dims(1, 2), s, z)
}

//! Plain tensor operations.

use burn::tensor::{Tensor, backend::Backend};

use super::{LIMIT, Side, scale};
use crate::counter;

/// `[b, n, h, k]` times `[k, m]`.
fn product<B: Backend>(x: Tensor<B, 4>, w: Tensor<B, 2>) -> Tensor<B, 4> {
    let ([b, n, h, k], m) = (x.dims(), w.dims()[1]);
    counter::add_macs(b * n * h * k * m);
    x.reshape([b * n * h, k]).matmul(w).reshape([b, n, h, m])
}

pub(super) fn features<B: Backend>(x: Tensor<B, 4>, w: Tensor<B, 2>, side: Side) -> Tensor<B, 4> {
    let [d, m] = w.dims();
    let x = x * scale(d);
    let less = x.clone().square().sum_dim(3) / 2.0;
    let exponents = product(x, w) - less;
    match side {
        Side::Query => {
            let largest = exponents.clone().max_dim(3).detach();
            (exponents - largest).clamp_min(-LIMIT).exp()
        }
        Side::Key => (exponents.clamp(-LIMIT, LIMIT) - (m as f32).ln() / 2.0).exp(),
    }
}

pub(super) fn backward<B: Backend>(
    x: Tensor<B, 4>,
    w: Tensor<B, 2>,
    features: Tensor<B, 4>,
    gradient: Tensor<B, 4>,
) -> Tensor<B, 4> {
    let scale = scale(w.dims()[0]);
    let of_exponents = features * gradient;
    let sum = of_exponents.clone().sum_dim(3);
    (product(of_exponents, w.transpose()) - x * scale * sum) * scale
}

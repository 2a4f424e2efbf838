//! Plain tensor operations, token by token.

use burn::tensor::{Tensor, activation::sigmoid, backend::Backend};

use super::{MAX_DECAY, WkvState, empty_state};

fn at<B: Backend>(x: &Tensor<B, 3>, t: usize) -> Tensor<B, 2> {
    let [b, _, c] = x.dims();
    x.clone().slice([0..b, t..t + 1, 0..c]).squeeze_dim::<2>(1)
}

fn stack<B: Backend>(rows: Vec<Tensor<B, 2>>) -> Tensor<B, 3> {
    Tensor::stack(rows, 1)
}

fn rate<B: Backend>(decay: Tensor<B, 2>) -> Tensor<B, 2> {
    decay.clamp_max(MAX_DECAY).exp()
}

/// The larger exponent, and both powers relative to it.
fn scaled<B: Backend>(p: Tensor<B, 2>, k: Tensor<B, 2>) -> (Tensor<B, 2>, Tensor<B, 2>, Tensor<B, 2>) {
    let q = p.clone().max_pair(k.clone());
    ((p - q.clone()).exp(), (k - q.clone()).exp(), q)
}

pub(super) fn scan<B: Backend>(
    [r, k, v]: [Tensor<B, 3>; 3],
    [decay, bonus]: [Tensor<B, 2>; 2],
    [mut a, mut b, mut p]: WkvState<B>,
) -> (Tensor<B, 3>, WkvState<B>) {
    let (w, n) = (rate(decay), k.dims()[1]);
    let mut rows = Vec::with_capacity(n);
    for t in 0..n {
        let (k, v) = (at(&k, t), at(&v, t));
        let (past, own, _) = scaled(p.clone(), k.clone() + bonus.clone());
        let num = past.clone() * a.clone() + own.clone() * v.clone();
        rows.push(num / (past * b.clone() + own));
        let (past, own, q) = scaled(p - w.clone(), k);
        a = past.clone() * a + own.clone() * v;
        b = past * b + own;
        p = q;
    }
    (sigmoid(r) * stack(rows), [a, b, p])
}

/// Gradients of the rows and of decay and bonus: the scan again, with its slopes by decay, then one backwards.
pub(super) fn backward<B: Backend>(
    [r, k, v]: [Tensor<B, 3>; 3],
    [decay, bonus]: [Tensor<B, 2>; 2],
    gradient: Tensor<B, 3>,
) -> ([Tensor<B, 3>; 3], [Tensor<B, 2>; 2]) {
    let [batch, n, c] = k.dims();
    let gate = sigmoid(r);
    let of_sum = gradient.clone() * gate.clone();
    let w = rate(decay);
    let [mut a, mut b, mut p] = empty_state::<B>(batch, c, &k.device()).map(|part| part.cast(k.dtype()));
    let zeros = || Tensor::<B, 2>::zeros([batch, c], (&k.device(), k.dtype()));
    let (mut slope_a, mut slope_b, mut d_decay, mut d_bonus) = (zeros(), zeros(), zeros(), zeros());
    let (mut sums, mut inverses, mut exponents) = (vec![], vec![], vec![]);
    for t in 0..n {
        let (k, v, g) = (at(&k, t), at(&v, t), at(&of_sum, t));
        let (past, own, q) = scaled(p.clone(), k.clone() + bonus.clone());
        let inverse = (past.clone() * b.clone() + own.clone()).recip();
        let y = (past.clone() * a.clone() + own.clone() * v.clone()) * inverse.clone();
        let g = g * inverse.clone();
        d_decay = d_decay + g.clone() * past * (slope_a.clone() - slope_b.clone() * y.clone());
        d_bonus = d_bonus + g * own * (v.clone() - y.clone());
        sums.push(y);
        inverses.push(inverse);
        exponents.push(q);
        let (past, own, q) = scaled(p - w.clone(), k);
        slope_a = past.clone() * (a.clone() + slope_a);
        slope_b = past.clone() * (b.clone() + slope_b);
        a = past.clone() * a + own.clone() * v;
        b = past * b + own;
        p = q;
    }
    // what later tokens say of earlier ones: sums over them, scaled by an exponent of their own
    let [mut of_num, mut of_den, mut p] =
        empty_state::<B>(batch, c, &k.device()).map(|part| part.cast(k.dtype()));
    let (mut dk, mut dv) = (vec![], vec![]);
    for t in (0..n).rev() {
        let (k, v) = (at(&k, t), at(&v, t));
        let (y, q) = (sums[t].clone(), exponents[t].clone());
        let g = at(&of_sum, t) * inverses[t].clone();
        let own = g.clone() * (k.clone() + bonus.clone() - q.clone()).exp();
        let later = (k + p.clone()).exp();
        dk.push(
            own.clone() * (v.clone() - y.clone()) + later.clone() * (of_num.clone() * v + of_den.clone()),
        );
        dv.push(own + later * of_num.clone());
        let (past, own, q) = scaled(p - w.clone(), q.neg());
        let own = own * g;
        of_num = past.clone() * of_num + own.clone();
        of_den = past * of_den - own * y;
        p = q;
    }
    dk.reverse();
    dv.reverse();
    let dr = gradient * stack(sums) * gate.clone() * (gate.neg() + 1.0);
    // the derivative is by -w, and w = e^decay
    let d_decay = d_decay.sum_dim(0) * w.neg();
    ([dr, stack(dk), stack(dv)], [d_decay, d_bonus.sum_dim(0)])
}

//! Causal linear attention (2006.16236): `o_i = Σ_{j≤i} (φ(q_i)·φ(k_j)) v_j / Σ_{j≤i} φ(q_i)·φ(k_j)`, `φ(x) = elu(x) + 1`.
//!
//! Training goes chunk by chunk: pairs within a chunk directly, everything before through the running state
//! `S = Σ φ(k_j) v_jᵀ`, `z = Σ φ(k_j)`. Decoding is the recurrence on that state. Key/value heads may be shared.

use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops as Step, OpsKind},
        },
        flex::FlexTensor,
    },
    tensor::{Tensor, TensorMetadata, backend::Backend, ops::FloatTensor},
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{contiguous, cpu_tensor, simd, unwrap, values, wrap};
use crate::counter;

/// Keeps the division finite where every feature is near zero.
const EPSILON: f32 = 1e-6;

/// Causal linear attention. Shapes: `q [b, n, h, d]`, `k` and `v` `[b, n, g, d]` with `g` dividing `h`.
pub trait LinearAttentionOp: Backend {
    /// The output `[b, n, h, d]` and the denominators `[b, n, h]`.
    fn linear_attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        chunk: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (o, den) = reference::forward::<Self>(wrap(q), wrap(k), wrap(v), chunk);
        (unwrap(o), unwrap(den))
    }

    /// Gradients of `q`, `k` and `v`, from the output, the denominators and the output's gradient.
    fn linear_attention_backward(
        inputs: [FloatTensor<Self>; 3],
        o: FloatTensor<Self>,
        den: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        chunk: usize,
    ) -> [FloatTensor<Self>; 3] {
        let [q, k, v] = inputs;
        reference::backward::<Self>(
            [wrap(q), wrap(k), wrap(v)],
            wrap(o),
            wrap(den),
            wrap(gradient),
            chunk,
        )
        .map(unwrap)
    }

    /// One position: adds `k`, `v` `[b, 1, g, d]` to the state `s [b, g, d, d]`, `z [b, g, d]` and reads it with
    /// `q [b, 1, h, d]`. Gives the output `[b, 1, h, d]` and the new state.
    fn linear_attention_recurrent(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        state: [FloatTensor<Self>; 2],
    ) -> (FloatTensor<Self>, [FloatTensor<Self>; 2]) {
        let [s, z] = state;
        let (o, s, z) = reference::step::<Self>(wrap(q), wrap(k), wrap(v), wrap(s), wrap(z));
        (unwrap(o), [unwrap(s), unwrap(z)])
    }
}

/// Causal linear attention over a whole sequence; see [`LinearAttentionOp::linear_attention_forward`].
pub fn linear_attention<B: LinearAttentionOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    chunk: usize,
) -> Tensor<B, 4> {
    wrap(B::linear_attention_forward(unwrap(q), unwrap(k), unwrap(v), chunk).0)
}

/// One decoding step; see [`LinearAttentionOp::linear_attention_recurrent`].
pub fn linear_attention_step<B: LinearAttentionOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    (s, z): (Tensor<B, 4>, Tensor<B, 3>),
) -> (Tensor<B, 4>, (Tensor<B, 4>, Tensor<B, 3>)) {
    let (o, [s, z]) = B::linear_attention_recurrent(unwrap(q), unwrap(k), unwrap(v), [unwrap(s), unwrap(z)]);
    (wrap(o), (wrap(s), wrap(z)))
}

#[cfg(feature = "cuda")]
impl LinearAttentionOp for burn::backend::Cuda {}

/// Plain tensor operations, chunk by chunk; what a GPU executes.
mod reference {
    use super::*;

    fn phi<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
        let positive = x.clone().clamp_min(0.0);
        x.clamp_max(0.0).exp() + positive
    }

    /// The slope of φ where φ(x) is given: 1 above 0, e^x = φ(x) below.
    fn slope<B: Backend, const D: usize>(phi: Tensor<B, D>) -> Tensor<B, D> {
        phi.clamp_max(1.0)
    }

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
        chunk: usize,
    ) -> (Tensor<B, 4>, Tensor<B, 3>) {
        let [b, n, h, d] = q.dims();
        let (q, k, v) = (phi(q.swap_dims(1, 2)), phi(spread(k, h)), spread(v, h));
        let mut s = Tensor::<B, 4>::zeros([b, h, d, d], &q.device());
        let mut z = Tensor::<B, 4>::zeros([b, h, d, 1], &q.device());
        let (mut outputs, mut denominators) = (vec![], vec![]);
        for rows in chunks(n, chunk) {
            let (q, k, v) = (at(&q, rows.clone()), at(&k, rows.clone()), at(&v, rows));
            let a = causal(product(q.clone(), k.clone().swap_dims(2, 3)));
            let den = a.clone().sum_dim(3) + q.clone().matmul(z.clone()) + EPSILON;
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
        chunk: usize,
    ) -> [Tensor<B, 4>; 3] {
        let [b, n, h, d] = q.dims();
        let g = k.dims()[2];
        let (q, k, v) = (phi(q.swap_dims(1, 2)), phi(spread(k, h)), spread(v, h));
        let den = den.swap_dims(1, 2).unsqueeze_dim::<4>(3);
        let (o, gradient) = (o.swap_dims(1, 2), gradient.swap_dims(1, 2) / den.clone());
        // gradient of the denominator: -(g·o)/den, g being divided already
        let of_den = (gradient.clone() * o).sum_dim(3).neg();
        let device = q.device();
        let zeros = |columns: usize| Tensor::<B, 4>::zeros([b, h, d, columns], &device);
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
                product(da, kc.clone())
                    + product(gc, s.clone().swap_dims(2, 3))
                    + e * z.clone().swap_dims(2, 3),
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
            x.reshape([b, g, h / g, n, d])
                .sum_dim(2)
                .squeeze_dim::<4>(2)
                .swap_dims(1, 2)
        };
        let dq = Tensor::cat(dq, 2) * slope(q);
        let dk = Tensor::cat(dk, 2) * slope(k);
        [dq.swap_dims(1, 2), gather(dk), gather(Tensor::cat(dv, 2))]
    }

    pub(super) fn step<B: Backend>(
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        s: Tensor<B, 4>,
        z: Tensor<B, 3>,
    ) -> (Tensor<B, 4>, Tensor<B, 4>, Tensor<B, 3>) {
        let [b, _, h, d] = q.dims();
        let g = k.dims()[2];
        let k = phi(k.swap_dims(1, 2));
        let s = s + product(k.clone().swap_dims(2, 3), v.swap_dims(1, 2));
        let z = z + k.squeeze_dim::<3>(2);
        let q = phi(q.swap_dims(1, 2)).reshape([b, g, h / g, d]);
        let den = q.clone().matmul(z.clone().unsqueeze_dim::<4>(3)) + EPSILON;
        let o = product(q, s.clone()) / den;
        (o.reshape([b, h, 1, d]).swap_dims(1, 2), s, z)
    }
}

/// Sizes of one call.
#[derive(Clone, Copy)]
struct Sizes {
    n: usize,
    heads: usize,
    groups: usize,
    d: usize,
    chunk: usize,
}

impl Sizes {
    fn of(q: &FlexTensor, k: &FlexTensor, chunk: usize) -> (usize, Sizes) {
        let (q, k) = (q.shape(), k.shape());
        assert!(
            q[2] % k[2] == 0,
            "{} query heads cannot share {} key/value heads",
            q[2],
            k[2]
        );
        (
            q[0],
            Sizes {
                n: q[1],
                heads: q[2],
                groups: k[2],
                d: q[3],
                chunk: chunk.min(q[1]),
            },
        )
    }

    fn share(&self) -> usize {
        self.heads / self.groups
    }
}

impl LinearAttentionOp for Flex {
    fn linear_attention_forward(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        chunk: usize,
    ) -> (FlexTensor, FlexTensor) {
        let (q, k, v) = (contiguous(q), contiguous(k), contiguous(v));
        let (batch, sizes) = Sizes::of(&q, &k, chunk);
        let (qs, ks, vs) = (values(&q), values(&k), values(&v));
        let (q_len, k_len) = (qs.len() / batch, ks.len() / batch);
        let parts: Vec<(Vec<f32>, Vec<f32>, usize)> = (0..batch * sizes.groups)
            .into_par_iter()
            .map(|task| {
                let (b, g) = (task / sizes.groups, task % sizes.groups);
                forward_group(
                    &qs[b * q_len..][..q_len],
                    &ks[b * k_len..][..k_len],
                    &vs[b * k_len..][..k_len],
                    g,
                    sizes,
                )
            })
            .collect();
        counter::add_macs(parts.iter().map(|p| p.2).sum());
        let o = interleave(
            parts.iter().map(|p| p.0.as_slice()),
            sizes,
            sizes.share() * sizes.d,
        );
        let den = interleave(parts.iter().map(|p| p.1.as_slice()), sizes, sizes.share());
        (
            cpu_tensor(o, &q.shape()),
            cpu_tensor(den, &[batch, sizes.n, sizes.heads]),
        )
    }

    fn linear_attention_backward(
        inputs: [FlexTensor; 3],
        o: FlexTensor,
        den: FlexTensor,
        gradient: FlexTensor,
        chunk: usize,
    ) -> [FlexTensor; 3] {
        let [q, k, v] = inputs.map(contiguous);
        let (o, den, gradient) = (contiguous(o), contiguous(den), contiguous(gradient));
        let (batch, sizes) = Sizes::of(&q, &k, chunk);
        let (q_len, k_len) = (values(&q).len() / batch, values(&k).len() / batch);
        let parts: Vec<([Vec<f32>; 3], usize)> = (0..batch * sizes.groups)
            .into_par_iter()
            .map(|task| {
                let (b, g) = (task / sizes.groups, task % sizes.groups);
                let sequence = Sequence {
                    q: &values(&q)[b * q_len..][..q_len],
                    k: &values(&k)[b * k_len..][..k_len],
                    v: &values(&v)[b * k_len..][..k_len],
                    o: &values(&o)[b * q_len..][..q_len],
                    den: &values(&den)[b * sizes.n * sizes.heads..][..sizes.n * sizes.heads],
                    gradient: &values(&gradient)[b * q_len..][..q_len],
                };
                backward_group(sequence, g, sizes)
            })
            .collect();
        counter::add_macs(parts.iter().map(|p| p.1).sum());
        let join = |which: usize, like: &FlexTensor, width: usize| {
            cpu_tensor(
                interleave(parts.iter().map(|p| p.0[which].as_slice()), sizes, width),
                &like.shape(),
            )
        };
        [
            join(0, &q, sizes.share() * sizes.d),
            join(1, &k, sizes.d),
            join(2, &v, sizes.d),
        ]
    }

    fn linear_attention_recurrent(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        state: [FlexTensor; 2],
    ) -> (FlexTensor, [FlexTensor; 2]) {
        let (q, k, v) = (contiguous(q), contiguous(k), contiguous(v));
        let (batch, sizes) = Sizes::of(&q, &k, 1);
        let [mut s, mut z] = state;
        let mut out = vec![0.0f32; values(&q).len()];
        let (d, share) = (sizes.d, sizes.share());
        let states = s
            .storage_mut::<f32>()
            .chunks_exact_mut(d * d)
            .zip(z.storage_mut::<f32>().chunks_exact_mut(d));
        let inputs = values(&k)
            .chunks_exact(d)
            .zip(values(&v).chunks_exact(d))
            .zip(values(&q).chunks_exact(share * d));
        for (((s, z), ((k, v), q)), o) in states.zip(inputs).zip(out.chunks_exact_mut(share * d)) {
            step_group(q, k, v, s, z, o);
        }
        counter::add_macs(batch * d * d * (sizes.groups + sizes.heads));
        (cpu_tensor(out, &q.shape()), [s, z])
    }
}

/// Puts the columns of each group back between those of the other groups.
fn interleave<'a>(parts: impl Iterator<Item = &'a [f32]>, sizes: Sizes, width: usize) -> Vec<f32> {
    let parts: Vec<&[f32]> = parts.collect();
    let mut out = vec![0.0f32; parts.len() * sizes.n * width];
    for (task, part) in parts.iter().enumerate() {
        let (b, g) = (task / sizes.groups, task % sizes.groups);
        for (r, row) in part.chunks_exact(width).enumerate() {
            out[((b * sizes.n + r) * sizes.groups + g) * width..][..width].copy_from_slice(row);
        }
    }
    out
}

#[inline(always)]
fn phi(x: f32) -> f32 {
    if x > 0.0 { x + 1.0 } else { simd::exp(x) }
}

/// φ of `rows` rows of one head, as rows and turned.
#[inline(always)]
fn features(x: &[f32], stride: usize, rows: usize, d: usize) -> (Vec<f32>, Vec<f32>) {
    let mut plain = vec![0.0f32; rows * d];
    for (row, source) in plain.chunks_exact_mut(d).zip(x.chunks(stride)) {
        for (y, x) in row.iter_mut().zip(source) {
            *y = phi(*x);
        }
    }
    let mut turned = vec![0.0f32; rows * d];
    simd::transpose(&plain, d, rows, d, &mut turned);
    (plain, turned)
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward_group(q: &[f32], k: &[f32], v: &[f32], group: usize, sizes: Sizes) -> (Vec<f32>, Vec<f32>, usize) {
    let Sizes {
        n,
        heads,
        groups,
        d,
        chunk,
    } = sizes;
    let share = sizes.share();
    let (q_stride, k_stride) = (heads * d, groups * d);
    let (k, v) = (&k[group * d..], &v[group * d..]);
    let mut out = vec![0.0f32; n * share * d];
    let mut denominators = vec![0.0f32; n * share];
    let (mut s, mut z) = (vec![0.0f32; d * d], vec![0.0f32; d]);
    let (mut a, mut f) = (vec![0.0f32; chunk], vec![0.0f32; d]);
    let mut macs = 0;
    for start in (0..n).step_by(chunk) {
        let rows = chunk.min(n - start);
        let (fk, fk_turned) = features(&k[start * k_stride..], k_stride, rows, d);
        let v = &v[start * k_stride..];
        for i in 0..rows {
            for h in 0..share {
                let q_row = &q[(start + i) * q_stride + (group * share + h) * d..][..d];
                for (f, x) in f.iter_mut().zip(q_row) {
                    *f = phi(*x);
                }
                let a = &mut a[..=i];
                a.fill(0.0);
                simd::add_weighted_rows(a, &f, &fk_turned, rows);
                let at = (start + i) * share + h;
                let o = &mut out[at * d..][..d];
                simd::add_weighted_rows(o, a, v, k_stride);
                let mut den = simd::sum(a) + EPSILON;
                macs += 2 * a.len() * d;
                if start > 0 {
                    simd::add_weighted_rows(o, &f, &s, d);
                    den += simd::dot(&f, &z);
                    macs += d * d;
                }
                for o in o.iter_mut() {
                    *o /= den;
                }
                denominators[at] = den;
            }
        }
        if start + rows < n {
            macs += add_to_state(&mut s, &mut z, &fk, &fk_turned, v, k_stride, rows, d);
        }
    }
    (out, denominators, macs)
}

/// `S += Σ φ(k_j) v_jᵀ`, `z += Σ φ(k_j)`; gives the multiply-adds.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "slices of one chunk, inlined into its loop"
)]
fn add_to_state(
    s: &mut [f32],
    z: &mut [f32],
    fk: &[f32],
    fk_turned: &[f32],
    v: &[f32],
    stride: usize,
    rows: usize,
    d: usize,
) -> usize {
    for (c, s) in s.chunks_exact_mut(d).enumerate() {
        simd::add_weighted_rows(s, &fk_turned[c * rows..(c + 1) * rows], v, stride);
    }
    for row in fk.chunks_exact(d) {
        simd::add_scaled(z, 1.0, row);
    }
    rows * d * d
}

/// What the backward pass reads of one sequence.
struct Sequence<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    o: &'a [f32],
    den: &'a [f32],
    gradient: &'a [f32],
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward_group(x: Sequence, group: usize, sizes: Sizes) -> ([Vec<f32>; 3], usize) {
    let Sizes {
        n,
        heads,
        groups,
        d,
        chunk,
    } = sizes;
    let share = sizes.share();
    let (q_stride, k_stride) = (heads * d, groups * d);
    let (k, v) = (&x.k[group * d..], &x.v[group * d..]);
    let [mut dq, mut dk, mut dv] = [n * share * d, n * d, n * d].map(|len| vec![0.0f32; len]);
    let mut macs = 0;

    // gradients of numerator and denominator, and the features of the queries, once for both sweeps
    let mut of_num = vec![0.0f32; n * share * d];
    let mut of_den = vec![0.0f32; n * share];
    let mut fq = vec![0.0f32; n * share * d];
    for i in 0..n {
        for h in 0..share {
            let (at, head) = (i * share + h, group * share + h);
            let row = i * q_stride + head * d;
            let den = x.den[i * heads + head];
            for c in 0..d {
                of_num[at * d + c] = x.gradient[row + c] / den;
                fq[at * d + c] = phi(x.q[row + c]);
            }
            of_den[at] = -simd::dot(&of_num[at * d..][..d], &x.o[row..row + d]);
        }
    }

    let (mut s, mut z) = (vec![0.0f32; d * d], vec![0.0f32; d]);
    let mut s_turned = vec![0.0f32; d * d];
    let (mut a, mut da) = (vec![0.0f32; chunk], vec![0.0f32; chunk]);
    for start in (0..n).step_by(chunk) {
        let rows = chunk.min(n - start);
        let (fk, fk_turned) = features(&k[start * k_stride..], k_stride, rows, d);
        let v = &v[start * k_stride..];
        let mut v_turned = vec![0.0f32; rows * d];
        simd::transpose(v, k_stride, rows, d, &mut v_turned);
        simd::transpose(&s, d, d, d, &mut s_turned);
        for i in 0..rows {
            for h in 0..share {
                let at = (start + i) * share + h;
                let g = &of_num[at * d..][..d];
                let da = &mut da[..=i];
                da.fill(of_den[at]);
                simd::add_weighted_rows(da, g, &v_turned, rows);
                let dq = &mut dq[at * d..][..d];
                simd::add_weighted_rows(dq, da, &fk, d);
                macs += 2 * da.len() * d;
                if start > 0 {
                    simd::add_weighted_rows(dq, g, &s_turned, d);
                    simd::add_scaled(dq, of_den[at], &z);
                    macs += d * d;
                }
                for (dq, f) in dq.iter_mut().zip(&fq[at * d..][..d]) {
                    *dq *= f.min(1.0);
                }
            }
        }
        if start + rows < n {
            macs += add_to_state(&mut s, &mut z, &fk, &fk_turned, v, k_stride, rows, d);
        }
    }

    // backwards: what later chunks say of earlier keys and values
    let (mut r, mut e_sum) = (vec![0.0f32; d * d], vec![0.0f32; d]);
    let mut r_turned = vec![0.0f32; d * d];
    for start in (0..n).step_by(chunk).rev() {
        let rows = chunk.min(n - start);
        let (fk, fk_turned) = features(&k[start * k_stride..], k_stride, rows, d);
        let v = &v[start * k_stride..];
        let mut v_turned = vec![0.0f32; rows * d];
        simd::transpose(v, k_stride, rows, d, &mut v_turned);
        for i in 0..rows {
            for h in 0..share {
                let at = (start + i) * share + h;
                let (f, g) = (&fq[at * d..][..d], &of_num[at * d..][..d]);
                let (a, da) = (&mut a[..=i], &mut da[..=i]);
                a.fill(0.0);
                da.fill(of_den[at]);
                simd::add_weighted_rows(a, f, &fk_turned, rows);
                simd::add_weighted_rows(da, g, &v_turned, rows);
                for j in 0..=i {
                    simd::add_scaled(&mut dk[(start + j) * d..][..d], da[j], f);
                    simd::add_scaled(&mut dv[(start + j) * d..][..d], a[j], g);
                }
                macs += 4 * a.len() * d;
            }
        }
        if start + rows < n {
            simd::transpose(&r, d, d, d, &mut r_turned);
            for j in 0..rows {
                let dk = &mut dk[(start + j) * d..][..d];
                simd::add_weighted_rows(dk, &v[j * k_stride..][..d], &r_turned, d);
                simd::add_scaled(dk, 1.0, &e_sum);
                simd::add_weighted_rows(&mut dv[(start + j) * d..][..d], &fk[j * d..][..d], &r, d);
            }
            macs += 2 * rows * d * d;
        }
        if start > 0 {
            for at in start * share..(start + rows) * share {
                let (f, g) = (&fq[at * d..][..d], &of_num[at * d..][..d]);
                for (r, f) in r.chunks_exact_mut(d).zip(f) {
                    simd::add_scaled(r, *f, g);
                }
                simd::add_scaled(&mut e_sum, of_den[at], f);
            }
            macs += rows * share * d * d;
        }
        for (dk, f) in dk[start * d..(start + rows) * d].iter_mut().zip(&fk) {
            *dk *= f.min(1.0);
        }
    }
    ([dq, dk, dv], macs)
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn step_group(q: &[f32], k: &[f32], v: &[f32], s: &mut [f32], z: &mut [f32], out: &mut [f32]) {
    let d = z.len();
    for ((s, z), k) in s.chunks_exact_mut(d).zip(z.iter_mut()).zip(k) {
        let f = phi(*k);
        simd::add_scaled(s, f, v);
        *z += f;
    }
    for (q, o) in q.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
        let mut den = EPSILON;
        for ((x, s), z) in q.iter().zip(s.chunks_exact(d)).zip(z.iter()) {
            let f = phi(*x);
            simd::add_scaled(o, f, s);
            den += f * z;
        }
        for o in o.iter_mut() {
            *o /= den;
        }
    }
}

impl<B: LinearAttentionOp, C: CheckpointStrategy> LinearAttentionOp for Autodiff<B, C> {
    fn linear_attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        chunk: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct LinearAttention;
        impl<B: LinearAttentionOp> Backward<B, 3> for LinearAttention {
            type State = ([FloatTensor<B>; 3], FloatTensor<B>, FloatTensor<B>, usize);

            fn backward(self, ops: Step<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (inputs, o, den, chunk) = ops.state;
                let gradients = B::linear_attention_backward(inputs, o, den, g, chunk);
                for (node, gradient) in ops.parents.into_iter().zip(gradients) {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }
        let nodes = [q.node.clone(), k.node.clone(), v.node.clone()];
        let inputs = [q.primitive, k.primitive, v.primitive];
        let [q, k, v] = inputs.clone();
        let (o, den) = B::linear_attention_forward(q, k, v, chunk);
        let kept = <Self as burn::tensor::backend::AutodiffBackend>::from_inner(den.clone());
        let o = match LinearAttention.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, o.clone(), den, chunk), o),
            OpsKind::UnTracked(prep) => prep.finish(o),
        };
        (o, kept)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, TensorData, Tolerance};

    use super::*;

    type A = Autodiff<Flex>;

    fn close(a: TensorData, b: TensorData) {
        a.assert_approx_eq::<f32>(&b, Tolerance::rel_abs(1e-3, 1e-4));
    }

    fn inputs(n: usize, h: usize, g: usize) -> [Tensor<A, 4>; 3] {
        let device = Default::default();
        let random =
            |heads| Tensor::<A, 4>::random([2, n, heads, 8], Distribution::Normal(0.0, 1.0), &device);
        [random(h), random(g), random(g)].map(Tensor::require_grad)
    }

    /// The row-normalised, masked product of all features: quadratic, and differentiated by burn itself.
    fn quadratic([q, k, v]: [Tensor<A, 4>; 3]) -> Tensor<A, 4> {
        let [b, n, h, d] = q.dims();
        let g = k.dims()[2];
        let phi = |x: Tensor<A, 4>| x.clone().clamp_max(0.0).exp() + x.clamp_min(0.0);
        let spread = |x: Tensor<A, 4>| {
            x.swap_dims(1, 2)
                .unsqueeze_dim::<5>(2)
                .expand([b, g, h / g, n, d])
                .reshape([b, h, n, d])
        };
        let a = phi(q.swap_dims(1, 2))
            .matmul(phi(spread(k)).swap_dims(2, 3))
            .tril(0);
        let o = a.clone().matmul(spread(v)) / (a.sum_dim(3) + EPSILON);
        o.swap_dims(1, 2)
    }

    #[test]
    fn every_chunk_size_equals_the_quadratic_form_with_gradients() {
        for (n, h, g) in [(1, 2, 2), (13, 2, 2), (13, 4, 1), (32, 4, 2)] {
            let x = inputs(n, h, g);
            let expected = quadratic(x.clone());
            let grads = (expected.clone() * expected.clone().sin()).sum().backward();
            let expected_grads = x.each_ref().map(|t| t.grad(&grads).unwrap().into_data());
            for chunk in [1, 4, 8, 64] {
                let [q, k, v] = x.clone();
                let o = linear_attention(q, k, v, chunk);
                close(o.to_data(), expected.to_data());
                let grads = (o.clone() * o.sin()).sum().backward();
                for (t, expected) in x.iter().zip(&expected_grads) {
                    close(t.grad(&grads).unwrap().into_data(), expected.clone());
                }
            }
        }
    }

    #[test]
    fn the_reference_body_agrees_with_the_kernel() {
        let [q, k, v] = inputs(13, 4, 2).map(Tensor::inner);
        let (o, den) = reference::forward(q.clone(), k.clone(), v.clone(), 4);
        let (o2, den2) =
            Flex::linear_attention_forward(unwrap(q.clone()), unwrap(k.clone()), unwrap(v.clone()), 4);
        close(wrap::<Flex, 4>(o2).into_data(), o.clone().into_data());
        close(wrap::<Flex, 3>(den2).into_data(), den.clone().into_data());
        let gradient = o.clone() + 0.3;
        let plain = reference::backward(
            [q.clone(), k.clone(), v.clone()],
            o.clone(),
            den.clone(),
            gradient.clone(),
            4,
        );
        let ours = Flex::linear_attention_backward(
            [unwrap(q), unwrap(k), unwrap(v)],
            unwrap(o),
            unwrap(den),
            unwrap(gradient),
            4,
        );
        for (ours, plain) in ours.into_iter().zip(plain) {
            close(wrap::<Flex, 4>(ours).into_data(), plain.into_data());
        }
    }

    #[test]
    fn decoding_equals_training_and_the_state_does_not_grow() {
        let [q, k, v] = inputs(11, 4, 2).map(Tensor::inner);
        let whole = linear_attention(q.clone(), k.clone(), v.clone(), 4);
        let device = q.device();
        let mut state = (
            Tensor::<Flex, 4>::zeros([2, 2, 8, 8], &device),
            Tensor::<Flex, 3>::zeros([2, 2, 8], &device),
        );
        let mut plain = state.clone();
        for t in 0..11 {
            let at = |x: &Tensor<Flex, 4>| x.clone().slice([0..2, t..t + 1]);
            let (o, next) = linear_attention_step(at(&q), at(&k), at(&v), state);
            state = next;
            close(o.clone().into_data(), at(&whole).into_data());
            let (o2, s, z) = reference::step(at(&q), at(&k), at(&v), plain.0, plain.1);
            plain = (s, z);
            close(o2.into_data(), o.into_data());
        }
        assert_eq!(state.0.dims(), [2, 2, 8, 8]);
    }
}

//! The kernels for processors: chunks for a sequence, the recurrence for a step.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{
    EPSILON, LinearAttentionOp,
    backward::{Sequence, backward_group},
};
use crate::{
    counter,
    ops::{contiguous, cpu_tensor, heads::interleave, simd, values},
};

/// Sizes of one call.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) n: usize,
    pub(super) heads: usize,
    pub(super) groups: usize,
    pub(super) d: usize,
    pub(super) chunk: usize,
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

    pub(super) fn share(&self) -> usize {
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
            sizes.groups,
            sizes.share() * sizes.d,
        );
        let den = interleave(parts.iter().map(|p| p.1.as_slice()), sizes.groups, sizes.share());
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
            let parts = parts.iter().map(|p| p.0[which].as_slice());
            cpu_tensor(interleave(parts, sizes.groups, width), &like.shape())
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

#[inline(always)]
pub(super) fn phi(x: f32) -> f32 {
    if x > 0.0 { x + 1.0 } else { simd::exp(x) }
}

/// φ of `rows` rows of one head, as rows and turned.
#[inline(always)]
pub(super) fn features(x: &[f32], stride: usize, rows: usize, d: usize) -> (Vec<f32>, Vec<f32>) {
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
pub(super) fn add_to_state(
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

//! The kernels for processors: chunks for a sequence, the recurrence for a step.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{
    FeatureMap, LinearAttentionOp,
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
    /// Components of queries and keys, as many as features.
    pub(super) f: usize,
    /// Components of values.
    pub(super) d: usize,
    pub(super) map: FeatureMap,
    pub(super) chunk: usize,
}

impl Sizes {
    fn of(q: &FlexTensor, v: &FlexTensor, map: FeatureMap, chunk: usize) -> (usize, Sizes) {
        let (q, v) = (q.shape(), v.shape());
        assert!(
            q[2] % v[2] == 0,
            "{} query heads cannot share {} key/value heads",
            q[2],
            v[2]
        );
        (
            q[0],
            Sizes {
                n: q[1],
                heads: q[2],
                groups: v[2],
                f: q[3],
                d: v[3],
                map,
                chunk: chunk.min(q[1]),
            },
        )
    }

    pub(super) fn share(&self) -> usize {
        self.heads / self.groups
    }
}

/// What one sequence of a batch has.
fn of_sequence(x: &FlexTensor, sequence: usize) -> &[f32] {
    let len = x.shape().num_elements() / x.shape()[0];
    &values(x)[sequence * len..][..len]
}

impl LinearAttentionOp for Flex {
    fn linear_attention_forward(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        map: FeatureMap,
        chunk: usize,
    ) -> (FlexTensor, FlexTensor) {
        let (q, k, v) = (contiguous(q), contiguous(k), contiguous(v));
        let (batch, sizes) = Sizes::of(&q, &v, map, chunk);
        let parts: Vec<(Vec<f32>, Vec<f32>, usize)> = (0..batch * sizes.groups)
            .into_par_iter()
            .map(|task| {
                let (b, g) = (task / sizes.groups, task % sizes.groups);
                let [q, k, v] = [&q, &k, &v].map(|x| of_sequence(x, b));
                forward_group(q, k, v, g, sizes)
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
            cpu_tensor(o, &[batch, sizes.n, sizes.heads, sizes.d]),
            cpu_tensor(den, &[batch, sizes.n, sizes.heads]),
        )
    }

    fn linear_attention_backward(
        inputs: [FlexTensor; 3],
        o: FlexTensor,
        den: FlexTensor,
        gradient: FlexTensor,
        map: FeatureMap,
        chunk: usize,
    ) -> [FlexTensor; 3] {
        let [q, k, v] = inputs.map(contiguous);
        let (o, den, gradient) = (contiguous(o), contiguous(den), contiguous(gradient));
        let (batch, sizes) = Sizes::of(&q, &v, map, chunk);
        let parts: Vec<([Vec<f32>; 3], usize)> = (0..batch * sizes.groups)
            .into_par_iter()
            .map(|task| {
                let (b, g) = (task / sizes.groups, task % sizes.groups);
                let sequence = Sequence {
                    q: of_sequence(&q, b),
                    k: of_sequence(&k, b),
                    v: of_sequence(&v, b),
                    o: of_sequence(&o, b),
                    den: of_sequence(&den, b),
                    gradient: of_sequence(&gradient, b),
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
            join(0, &q, sizes.share() * sizes.f),
            join(1, &k, sizes.f),
            join(2, &v, sizes.d),
        ]
    }

    fn linear_attention_recurrent(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        state: [FlexTensor; 2],
        map: FeatureMap,
    ) -> (FlexTensor, [FlexTensor; 2]) {
        let (q, k, v) = (contiguous(q), contiguous(k), contiguous(v));
        let (batch, sizes) = Sizes::of(&q, &v, map, 1);
        let [mut s, mut z] = state;
        let (f, d, share) = (sizes.f, sizes.d, sizes.share());
        let mut out = vec![0.0f32; batch * sizes.heads * d];
        let states = s
            .storage_mut::<f32>()
            .chunks_exact_mut(f * d)
            .zip(z.storage_mut::<f32>().chunks_exact_mut(f));
        let inputs = values(&k)
            .chunks_exact(f)
            .zip(values(&v).chunks_exact(d))
            .zip(values(&q).chunks_exact(share * f));
        for (((s, z), ((k, v), q)), o) in states.zip(inputs).zip(out.chunks_exact_mut(share * d)) {
            step_group(q, k, v, s, z, map, o);
        }
        counter::add_macs(batch * f * d * (sizes.groups + sizes.heads));
        (cpu_tensor(out, &[batch, 1, sizes.heads, d]), [s, z])
    }
}

/// Features of `rows` rows of one head, as rows and turned.
#[inline(always)]
pub(super) fn features(
    x: &[f32],
    stride: usize,
    rows: usize,
    f: usize,
    map: FeatureMap,
) -> (Vec<f32>, Vec<f32>) {
    let mut plain = vec![0.0f32; rows * f];
    for (row, source) in plain.chunks_exact_mut(f).zip(x.chunks(stride)) {
        map.of_row(&source[..f], row);
    }
    let mut turned = vec![0.0f32; rows * f];
    simd::transpose(&plain, f, rows, f, &mut turned);
    (plain, turned)
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward_group(q: &[f32], k: &[f32], v: &[f32], group: usize, sizes: Sizes) -> (Vec<f32>, Vec<f32>, usize) {
    let Sizes {
        n,
        heads,
        groups,
        f,
        d,
        map,
        chunk,
    } = sizes;
    let share = sizes.share();
    let (q_stride, k_stride, v_stride) = (heads * f, groups * f, groups * d);
    let (k, v) = (&k[group * f..], &v[group * d..]);
    let mut out = vec![0.0f32; n * share * d];
    let mut denominators = vec![0.0f32; n * share];
    let (mut s, mut z) = (vec![0.0f32; f * d], vec![0.0f32; f]);
    let (mut a, mut fq) = (vec![0.0f32; chunk], vec![0.0f32; f]);
    let mut macs = 0;
    for start in (0..n).step_by(chunk) {
        let rows = chunk.min(n - start);
        let (fk, fk_turned) = features(&k[start * k_stride..], k_stride, rows, f, map);
        let v = &v[start * v_stride..];
        for i in 0..rows {
            for h in 0..share {
                let q_row = &q[(start + i) * q_stride + (group * share + h) * f..][..f];
                map.of_row(q_row, &mut fq);
                let a = &mut a[..=i];
                a.fill(0.0);
                simd::add_weighted_rows(a, &fq, &fk_turned, rows);
                let at = (start + i) * share + h;
                let o = &mut out[at * d..][..d];
                simd::add_weighted_rows(o, a, v, v_stride);
                let mut den = simd::sum(a) + map.epsilon();
                macs += a.len() * (f + d);
                if start > 0 {
                    simd::add_weighted_rows(o, &fq, &s, d);
                    den += simd::dot(&fq, &z);
                    macs += f * d;
                }
                for o in o.iter_mut() {
                    *o /= den;
                }
                denominators[at] = den;
            }
        }
        if start + rows < n {
            macs += add_to_state(&mut s, &mut z, &fk, &fk_turned, v, v_stride, rows, d);
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
    for row in fk.chunks_exact(z.len()) {
        simd::add_scaled(z, 1.0, row);
    }
    rows * z.len() * d
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn step_group(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    s: &mut [f32],
    z: &mut [f32],
    map: FeatureMap,
    out: &mut [f32],
) {
    let d = v.len();
    for ((s, z), k) in s.chunks_exact_mut(d).zip(z.iter_mut()).zip(k) {
        let f = map.of(*k);
        simd::add_scaled(s, f, v);
        *z += f;
    }
    for (q, o) in q.chunks_exact(z.len()).zip(out.chunks_exact_mut(d)) {
        let mut den = map.epsilon();
        for ((x, s), z) in q.iter().zip(s.chunks_exact(d)).zip(z.iter()) {
            let f = map.of(*x);
            simd::add_scaled(o, f, s);
            den += f * z;
        }
        for o in o.iter_mut() {
            *o /= den;
        }
    }
}

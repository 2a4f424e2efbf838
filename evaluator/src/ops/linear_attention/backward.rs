//! The backward kernel for processors, chunk by chunk, forwards for queries and backwards for keys and values.

use multiversion::multiversion;

use super::cpu::{Sizes, add_to_state, features};
use crate::ops::simd;

/// What the backward pass reads of one sequence.
pub(super) struct Sequence<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) o: &'a [f32],
    pub(super) den: &'a [f32],
    pub(super) gradient: &'a [f32],
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn backward_group(x: Sequence, group: usize, sizes: Sizes) -> ([Vec<f32>; 3], usize) {
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
    let (k, v) = (&x.k[group * f..], &x.v[group * d..]);
    let [mut dq, mut dk, mut dv] = [n * share * f, n * f, n * d].map(|len| vec![0.0f32; len]);
    let mut macs = 0;

    // gradients of numerator and denominator, and the features of the queries, once for both sweeps
    let mut of_num = vec![0.0f32; n * share * d];
    let mut of_den = vec![0.0f32; n * share];
    let mut fq = vec![0.0f32; n * share * f];
    for i in 0..n {
        for h in 0..share {
            let (at, head) = (i * share + h, group * share + h);
            let row = (i * heads + head) * d;
            let den = x.den[i * heads + head];
            for c in 0..d {
                of_num[at * d + c] = x.gradient[row + c] / den;
            }
            map.of_row(&x.q[i * q_stride + head * f..][..f], &mut fq[at * f..][..f]);
            of_den[at] = -simd::dot(&of_num[at * d..][..d], &x.o[row..row + d]);
        }
    }

    let (mut s, mut z) = (vec![0.0f32; f * d], vec![0.0f32; f]);
    let mut s_turned = vec![0.0f32; f * d];
    let (mut a, mut da) = (vec![0.0f32; chunk], vec![0.0f32; chunk]);
    for start in (0..n).step_by(chunk) {
        let rows = chunk.min(n - start);
        let (fk, fk_turned) = features(&k[start * k_stride..], k_stride, rows, f, map);
        let v = &v[start * v_stride..];
        let mut v_turned = vec![0.0f32; rows * d];
        simd::transpose(v, v_stride, rows, d, &mut v_turned);
        simd::transpose(&s, d, f, d, &mut s_turned);
        for i in 0..rows {
            for h in 0..share {
                let at = (start + i) * share + h;
                let g = &of_num[at * d..][..d];
                let da = &mut da[..=i];
                da.fill(of_den[at]);
                simd::add_weighted_rows(da, g, &v_turned, rows);
                let dq = &mut dq[at * f..][..f];
                simd::add_weighted_rows(dq, da, &fk, f);
                macs += da.len() * (f + d);
                if start > 0 {
                    simd::add_weighted_rows(dq, g, &s_turned, f);
                    simd::add_scaled(dq, of_den[at], &z);
                    macs += f * d;
                }
                map.pull_back(dq, &fq[at * f..][..f]);
            }
        }
        if start + rows < n {
            macs += add_to_state(&mut s, &mut z, &fk, &fk_turned, v, v_stride, rows, d);
        }
    }

    // backwards: what later chunks say of earlier keys and values
    let (mut r, mut e_sum) = (vec![0.0f32; f * d], vec![0.0f32; f]);
    let mut r_turned = vec![0.0f32; f * d];
    for start in (0..n).step_by(chunk).rev() {
        let rows = chunk.min(n - start);
        let (fk, fk_turned) = features(&k[start * k_stride..], k_stride, rows, f, map);
        let v = &v[start * v_stride..];
        let mut v_turned = vec![0.0f32; rows * d];
        simd::transpose(v, v_stride, rows, d, &mut v_turned);
        for i in 0..rows {
            for h in 0..share {
                let at = (start + i) * share + h;
                let (fq, g) = (&fq[at * f..][..f], &of_num[at * d..][..d]);
                let (a, da) = (&mut a[..=i], &mut da[..=i]);
                a.fill(0.0);
                da.fill(of_den[at]);
                simd::add_weighted_rows(a, fq, &fk_turned, rows);
                simd::add_weighted_rows(da, g, &v_turned, rows);
                for j in 0..=i {
                    simd::add_scaled(&mut dk[(start + j) * f..][..f], da[j], fq);
                    simd::add_scaled(&mut dv[(start + j) * d..][..d], a[j], g);
                }
                macs += 2 * a.len() * (f + d);
            }
        }
        if start + rows < n {
            simd::transpose(&r, d, f, d, &mut r_turned);
            for j in 0..rows {
                let dk = &mut dk[(start + j) * f..][..f];
                simd::add_weighted_rows(dk, &v[j * v_stride..][..d], &r_turned, f);
                simd::add_scaled(dk, 1.0, &e_sum);
                simd::add_weighted_rows(&mut dv[(start + j) * d..][..d], &fk[j * f..][..f], &r, d);
            }
            macs += 2 * rows * f * d;
        }
        if start > 0 {
            for at in start * share..(start + rows) * share {
                let (fq, g) = (&fq[at * f..][..f], &of_num[at * d..][..d]);
                for (r, weight) in r.chunks_exact_mut(d).zip(fq) {
                    simd::add_scaled(r, *weight, g);
                }
                simd::add_scaled(&mut e_sum, of_den[at], fq);
            }
            macs += rows * share * f * d;
        }
        map.pull_back(&mut dk[start * f..(start + rows) * f], &fk);
    }
    ([dq, dk, dv], macs)
}

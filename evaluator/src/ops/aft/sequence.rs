//! One pass over the positions of a sequence, forwards or backwards; no pair without a bias is visited.
//!
//! Exponentials of keys are held relative to a running maximum of each channel. It follows the true one only when that
//! is far above it, and what is held is scaled then. So what a position gives depends on nothing behind it.

use multiversion::multiversion;

use super::biases::Biases;
use crate::ops::simd;

/// How far a key may be above the running maximum before that follows.
const RISE: f32 = 16.0;

/// Some columns of a matrix.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub values: &'a [f32],
    pub stride: usize,
    pub width: usize,
}

impl<'a> View<'a> {
    #[inline(always)]
    fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..self.width]
    }
}

/// Writes `exp(k - max)` and that times `v`.
#[inline(always)]
fn exponentials(k: &[f32], v: &[f32], max: &[f32], e: &mut [f32], ev: &mut [f32]) {
    for (((e, ev), (k, v)), max) in e.iter_mut().zip(ev).zip(k.iter().zip(v)).zip(max) {
        *e = simd::exp(k - max);
        *ev = *e * v;
    }
}

/// Whether the running maximum of any channel has to follow these keys.
#[inline(always)]
fn rises(k: &[f32], max: &[f32]) -> bool {
    k.iter().zip(max).any(|(k, max)| *k > max + RISE)
}

/// Means, logarithms of denominators, and multiply-adds.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn forward_task(k: View, v: View, n: usize, biases: &Biases) -> (Vec<f32>, Vec<f32>, usize) {
    let (width, window) = (k.width, biases.window());
    let (mut means, mut log_dens) = (vec![0.0f32; n * width], vec![0.0f32; n * width]);
    let (mut e, mut ev) = (vec![0.0f32; n * width], vec![0.0f32; n * width]);
    // sums over positions beyond the window
    let (mut far, mut far_v) = (vec![0.0f32; width], vec![0.0f32; width]);
    let mut max = k.row(0).to_vec();
    let (mut p, mut den) = (vec![0.0f32; window.min(n)], vec![0.0f32; width]);
    let mut macs = 0;
    for t in 0..n {
        if rises(k.row(t), &max) {
            for (c, k) in k.row(t).iter().enumerate() {
                if *k > max[c] + RISE {
                    let scale = simd::exp(max[c] - k);
                    max[c] = *k;
                    far[c] *= scale;
                    far_v[c] *= scale;
                    for r in t.saturating_sub(window)..t {
                        e[r * width + c] *= scale;
                        ev[r * width + c] *= scale;
                    }
                }
            }
        }
        let row = t * width..(t + 1) * width;
        exponentials(
            k.row(t),
            v.row(t),
            &max,
            &mut e[row.clone()],
            &mut ev[row.clone()],
        );
        if t >= window {
            let leaving = (t - window) * width..(t - window + 1) * width;
            simd::add_scaled(&mut far, 1.0, &e[leaving.clone()]);
            simd::add_scaled(&mut far_v, 1.0, &ev[leaving]);
        }
        let start = (t + 1).saturating_sub(window);
        let p = &mut p[..t + 1 - start];
        let (top, of_biases) = biases.weights(t, start, p);
        let of_far = simd::exp(-top);
        let (mean, log_den) = (&mut means[row.clone()], &mut log_dens[row]);
        den.fill(0.0);
        simd::add_scaled(&mut den, of_far, &far);
        simd::add_scaled(mean, of_far, &far_v);
        simd::add_weighted_rows(&mut den, p, &e[start * width..], width);
        simd::add_weighted_rows(mean, p, &ev[start * width..], width);
        macs += 2 * p.len() * width + of_biases;
        for c in 0..width {
            let den = den[c].max(f32::MIN_POSITIVE);
            mean[c] /= den;
            log_den[c] = den.ln() + max[c] + top;
        }
    }
    (means, log_dens, macs)
}

/// What one task says of its inputs.
pub(super) struct Gradients {
    pub k: Vec<f32>,
    pub v: Vec<f32>,
    pub tables: Vec<Vec<f32>>,
    pub macs: usize,
}

/// The running maxima of all positions.
#[inline(always)]
fn maxima(k: View, n: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(n * k.width);
    let mut max = k.row(0).to_vec();
    for t in 0..n {
        if rises(k.row(t), &max) {
            for (max, k) in max.iter_mut().zip(k.row(t)) {
                if *k > *max + RISE {
                    *max = *k;
                }
            }
        }
        all.extend_from_slice(&max);
    }
    all
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn backward_task([k, v, s, log_den, gradient]: [View; 5], n: usize, biases: &Biases) -> Gradients {
    let (width, window) = (k.width, biases.window());
    let zeros = || vec![0.0f32; n * width];
    let (mut dk, mut dv, mut e, mut ev) = (zeros(), zeros(), zeros(), zeros());
    // for each key Σ exp(w_tj - log_den_t) g_t and the same times s_t, over the queries that see it; relative to the
    // running maximum. Queries that see it without a bias are summed for all such keys at once.
    let (mut seen, mut seen_s) = (zeros(), zeros());
    let (mut far, mut far_s) = (vec![0.0f32; width], vec![0.0f32; width]);
    let maxima = maxima(k, n);
    let (mut p, mut of_biases) = (vec![0.0f32; window.min(n)], vec![0.0f32; window.min(n)]);
    let (mut g, mut gs) = (vec![0.0f32; width], vec![0.0f32; width]);
    let mut tables = biases.gradients();
    let mut macs = 0;
    let last = &maxima[(n - 1) * width..];
    for r in n.saturating_sub(window)..n {
        let row = r * width..(r + 1) * width;
        exponentials(k.row(r), v.row(r), last, &mut e[row.clone()], &mut ev[row]);
    }
    for t in (0..n).rev() {
        let max = &maxima[t * width..(t + 1) * width];
        let start = (t + 1).saturating_sub(window);
        let (p, of_biases) = (&mut p[..t + 1 - start], &mut of_biases[..t + 1 - start]);
        let (top, of_weights) = biases.weights(t, start, p);
        let (s, log_den, gradient) = (s.row(t), log_den.row(t), gradient.row(t));
        for c in 0..width {
            g[c] = gradient[c] * simd::exp(max[c] + top - log_den[c]);
            gs[c] = g[c] * s[c];
        }
        let of_far = simd::exp(-top);
        simd::add_scaled(&mut far, of_far, &g);
        simd::add_scaled(&mut far_s, of_far, &gs);
        for (i, p) in p.iter().enumerate() {
            let row = (start + i) * width..(start + i + 1) * width;
            simd::add_scaled(&mut seen[row.clone()], *p, &g);
            simd::add_scaled(&mut seen_s[row.clone()], *p, &gs);
            of_biases[i] = p * (simd::dot(&ev[row.clone()], &g) - simd::dot(&e[row], &gs));
        }
        macs += 4 * p.len() * width + of_weights + biases.add_gradients(t, start, of_biases, &mut tables);
        if t >= window {
            // the queries behind this one are all that see this key without a bias
            let r = t - window;
            let row = r * width..(r + 1) * width;
            seen[row.clone()].copy_from_slice(&far);
            seen_s[row.clone()].copy_from_slice(&far_s);
            exponentials(k.row(r), v.row(r), max, &mut e[row.clone()], &mut ev[row]);
        }
        for c in t * width..(t + 1) * width {
            dv[c] = e[c] * seen[c];
            dk[c] = ev[c] * seen[c] - e[c] * seen_s[c];
        }
        if t > 0 {
            let before = &maxima[(t - 1) * width..t * width];
            for c in 0..width {
                if before[c] != max[c] {
                    let scale = simd::exp(before[c] - max[c]);
                    far[c] *= scale;
                    far_s[c] *= scale;
                    for r in t.saturating_sub(window)..t {
                        let at = r * width + c;
                        seen[at] *= scale;
                        seen_s[at] *= scale;
                        e[at] = simd::exp(k.row(r)[c] - before[c]);
                        ev[at] = e[at] * v.row(r)[c];
                    }
                }
            }
        }
    }
    Gradients {
        k: dk,
        v: dv,
        tables,
        macs,
    }
}

//! The kernels for processors: one pass over positions, forwards or backwards; no pair without a bias is visited.
//!
//! Exponentials of keys are held relative to a running maximum of each channel. It follows the true one only when that
//! is far above it, and what is held is scaled then. So what a position gives depends on nothing behind it.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{AftBias, AftOp};
use crate::{
    counter,
    ops::{contiguous, cpu_tensor, simd, values},
};

/// How far a key may be above the running maximum before that follows.
const RISE: f32 = 16.0;

/// Sizes of one call. Biases of products are the same for all heads, so they are not divided among tasks.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    n: usize,
    channels: usize,
    tasks: usize,
}

impl Sizes {
    fn of(k: &FlexTensor, bias: AftBias) -> Self {
        let shape = k.shape();
        Sizes {
            batch: shape[0],
            n: shape[1],
            channels: shape[2] * shape[3],
            tasks: match bias {
                AftBias::None | AftBias::Conv(_) => shape[2],
                AftBias::Full | AftBias::Local(_) => 1,
            },
        }
    }

    /// Channels of one task.
    fn width(&self) -> usize {
        self.channels / self.tasks
    }

    /// What one task sees of a tensor `[b, n, channels]`.
    fn view<'a>(&self, x: &'a FlexTensor, task: usize) -> View<'a> {
        let (b, part) = (task / self.tasks, task % self.tasks);
        View {
            values: &values(x)[b * self.n * self.channels + part * self.width()..],
            stride: self.channels,
            width: self.width(),
        }
    }

    /// Puts the columns of each task in their place.
    fn join<'a>(&self, parts: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
        let width = self.width();
        let mut out = vec![0.0f32; self.batch * self.n * self.channels];
        for (task, part) in parts.enumerate() {
            let (b, column) = (task / self.tasks, task % self.tasks);
            for (r, row) in part.chunks_exact(width).enumerate() {
                out[(b * self.n + r) * self.channels + column * width..][..width].copy_from_slice(row);
            }
        }
        out
    }
}

/// Some columns of a matrix.
#[derive(Clone, Copy)]
struct View<'a> {
    values: &'a [f32],
    stride: usize,
    width: usize,
}

impl<'a> View<'a> {
    #[inline(always)]
    fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..self.width]
    }
}

/// Where biases come from.
#[derive(Clone)]
enum Biases<'a> {
    None,
    Product {
        u: &'a [f32],
        v: &'a [f32],
        v_turned: Vec<f32>,
        rank: usize,
        window: usize,
        n: usize,
    },
    Distance(&'a [f32]),
}

impl<'a> Biases<'a> {
    /// Those of one task over `n` positions.
    fn of(bias: AftBias, tables: &'a [FlexTensor], head: usize, n: usize) -> Self {
        match bias {
            AftBias::None => Biases::None,
            AftBias::Full | AftBias::Local(_) => {
                let rank = tables[0].shape()[1];
                let (u, v) = (values(&tables[0]), values(&tables[1]));
                let mut v_turned = vec![0.0f32; rank * n];
                simd::transpose(v, rank, n, rank, &mut v_turned);
                Biases::Product {
                    u,
                    v,
                    v_turned,
                    rank,
                    window: bias.window(),
                    n,
                }
            }
            AftBias::Conv(window) => Biases::Distance(&values(&tables[0])[head * window..][..window]),
        }
    }

    #[inline(always)]
    fn window(&self) -> usize {
        match self {
            Biases::None => 0,
            Biases::Product { window, .. } => *window,
            Biases::Distance(table) => table.len(),
        }
    }

    /// Writes `exp(w_tj - top)` for `j` in `start..=t`; gives `top`, the largest bias, and the multiply-adds.
    #[inline(always)]
    fn weights(&self, t: usize, start: usize, out: &mut [f32]) -> (f32, usize) {
        let mut macs = 0;
        match self {
            Biases::None => {}
            Biases::Product {
                u, v_turned, rank, n, ..
            } => {
                out.fill(0.0);
                simd::add_weighted_rows(out, &u[t * rank..][..*rank], &v_turned[start..], *n);
                macs = out.len() * rank;
            }
            Biases::Distance(table) => {
                for (out, w) in out.iter_mut().rev().zip(*table) {
                    *out = *w;
                }
            }
        }
        let top = if start > 0 {
            simd::max(out).max(0.0)
        } else {
            simd::max(out)
        };
        for w in out.iter_mut() {
            *w = simd::exp(*w - top);
        }
        (top, macs)
    }

    /// Gradients of the tables, empty.
    fn gradients(&self) -> Vec<Vec<f32>> {
        match self {
            Biases::None => vec![],
            Biases::Product { rank, n, .. } => vec![vec![0.0; n * rank]; 2],
            Biases::Distance(table) => vec![vec![0.0; table.len()]],
        }
    }

    /// Adds what the gradients `of_biases` of `w_tj` for `j` in `start..=t` say of the tables.
    #[inline(always)]
    fn add_gradients(&self, t: usize, start: usize, of_biases: &[f32], sums: &mut [Vec<f32>]) -> usize {
        match self {
            Biases::None => 0,
            Biases::Product { u, v, rank, .. } => {
                let (u, of_u) = (&u[t * rank..][..*rank], &mut sums[0][t * rank..][..*rank]);
                simd::add_weighted_rows(of_u, of_biases, &v[start * rank..], *rank);
                for (of_v, w) in sums[1][start * rank..].chunks_exact_mut(*rank).zip(of_biases) {
                    simd::add_scaled(of_v, *w, u);
                }
                2 * of_biases.len() * rank
            }
            Biases::Distance(_) => {
                for (sum, w) in sums[0].iter_mut().zip(of_biases.iter().rev()) {
                    *sum += w;
                }
                0
            }
        }
    }
}

impl AftOp for Flex {
    fn aft_forward(
        k: FlexTensor,
        v: FlexTensor,
        tables: Vec<FlexTensor>,
        bias: AftBias,
    ) -> (FlexTensor, FlexTensor) {
        let (k, v) = (contiguous(k), contiguous(v));
        let tables: Vec<FlexTensor> = tables.into_iter().map(contiguous).collect();
        let sizes = Sizes::of(&k, bias);
        let parts: Vec<(Vec<f32>, Vec<f32>, usize)> = (0..sizes.batch * sizes.tasks)
            .into_par_iter()
            .map(|task| {
                let biases = Biases::of(bias, &tables, task % sizes.tasks, sizes.n);
                forward_task(sizes.view(&k, task), sizes.view(&v, task), sizes.n, &biases)
            })
            .collect();
        counter::add_macs(parts.iter().map(|p| p.2).sum());
        let means = sizes.join(parts.iter().map(|p| p.0.as_slice()));
        let log_dens = sizes.join(parts.iter().map(|p| p.1.as_slice()));
        (cpu_tensor(means, &k.shape()), cpu_tensor(log_dens, &k.shape()))
    }

    fn aft_backward(
        inputs: [FlexTensor; 2],
        tables: Vec<FlexTensor>,
        bias: AftBias,
        results: [FlexTensor; 2],
        gradient: FlexTensor,
    ) -> Vec<FlexTensor> {
        let [k, v] = inputs.map(contiguous);
        let [s, log_den] = results.map(contiguous);
        let gradient = contiguous(gradient);
        let tables: Vec<FlexTensor> = tables.into_iter().map(contiguous).collect();
        let sizes = Sizes::of(&k, bias);
        let parts: Vec<Gradients> = (0..sizes.batch * sizes.tasks)
            .into_par_iter()
            .map(|task| {
                let biases = Biases::of(bias, &tables, task % sizes.tasks, sizes.n);
                let views = [&k, &v, &s, &log_den, &gradient].map(|x| sizes.view(x, task));
                backward_task(views, sizes.n, &biases)
            })
            .collect();
        counter::add_macs(parts.iter().map(|p| p.macs).sum());
        let dk = sizes.join(parts.iter().map(|p| p.k.as_slice()));
        let dv = sizes.join(parts.iter().map(|p| p.v.as_slice()));
        let of_tables = tables.iter().enumerate().map(|(i, table)| {
            let mut sum = vec![0.0f32; values(table).len()];
            let of_task = sum.len() / sizes.tasks;
            for (task, part) in parts.iter().enumerate() {
                let at = task % sizes.tasks * of_task;
                simd::add_scaled(&mut sum[at..at + of_task], 1.0, &part.tables[i]);
            }
            cpu_tensor(sum, &table.shape())
        });
        [cpu_tensor(dk, &k.shape()), cpu_tensor(dv, &v.shape())]
            .into_iter()
            .chain(of_tables)
            .collect()
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
fn forward_task(k: View, v: View, n: usize, biases: &Biases) -> (Vec<f32>, Vec<f32>, usize) {
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
struct Gradients {
    k: Vec<f32>,
    v: Vec<f32>,
    tables: Vec<Vec<f32>>,
    macs: usize,
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
fn backward_task([k, v, s, log_den, gradient]: [View; 5], n: usize, biases: &Biases) -> Gradients {
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

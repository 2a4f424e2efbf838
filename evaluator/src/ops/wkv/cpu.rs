//! The kernels for processors: one task for each sequence and block of channels, vector instructions over channels.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{EMPTY, MAX_DECAY, WkvOp};
use crate::ops::{contiguous, cpu_tensor, simd, values};

/// Channels of one task: a row of them is a few cache lines, their state fits the fastest cache.
const BLOCK: usize = 64;

type Channels = [f32; BLOCK];

/// The inputs of one task: `n` rows, `stride` apart, of which the first `width` values are its own.
#[derive(Clone, Copy)]
struct Task<'a> {
    r: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    decay: &'a [f32],
    bonus: &'a [f32],
    n: usize,
    stride: usize,
    width: usize,
}

impl Task<'_> {
    fn rates(&self) -> Channels {
        let mut rates = [0.0; BLOCK];
        for (w, decay) in rates.iter_mut().zip(self.decay) {
            *w = simd::exp(decay.min(MAX_DECAY));
        }
        rates
    }

    /// Where its values of row `t` are.
    fn row(&self, t: usize) -> std::ops::Range<usize> {
        t * self.stride..t * self.stride + self.width
    }
}

/// Sequences and channels of one call, and its tasks in order.
struct Call<'a> {
    inputs: &'a [FlexTensor; 5],
    batch: usize,
    n: usize,
    channels: usize,
}

impl<'a> Call<'a> {
    fn of(inputs: &'a [FlexTensor; 5]) -> Self {
        let shape = inputs[1].shape();
        Call {
            inputs,
            batch: shape[0],
            n: shape[1],
            channels: shape[2],
        }
    }

    fn blocks(&self) -> usize {
        self.channels.div_ceil(BLOCK)
    }

    fn tasks(&self) -> usize {
        self.batch * self.blocks()
    }

    /// Sequence, first channel and number of channels.
    fn place(&self, task: usize) -> (usize, usize, usize) {
        let (b, first) = (task / self.blocks(), task % self.blocks() * BLOCK);
        (b, first, BLOCK.min(self.channels - first))
    }

    /// The values of `x [b, n, c]` from a task's first one on.
    fn from<'x>(&self, x: &'x FlexTensor, task: usize) -> &'x [f32] {
        let (b, first, _) = self.place(task);
        &values(x)[b * self.n * self.channels + first..]
    }

    fn task(&self, task: usize) -> Task<'a> {
        let (_, first, width) = self.place(task);
        let [r, k, v, decay, bonus] = self.inputs;
        Task {
            r: self.from(r, task),
            k: self.from(k, task),
            v: self.from(v, task),
            decay: &values(decay)[first..first + width],
            bonus: &values(bonus)[first..first + width],
            n: self.n,
            stride: self.channels,
            width,
        }
    }

    /// Puts the rows of all tasks beside each other, `[b, rows, c]`.
    fn gather<'p>(&self, parts: impl Iterator<Item = &'p [f32]>, rows: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.batch * rows * self.channels];
        for (task, part) in parts.enumerate() {
            let (b, first, width) = self.place(task);
            for (t, row) in part.chunks_exact(width).take(rows).enumerate() {
                out[(b * rows + t) * self.channels + first..][..width].copy_from_slice(row);
            }
        }
        out
    }
}

impl WkvOp for Flex {
    fn wkv_scan(inputs: [FlexTensor; 5], state: [FlexTensor; 3]) -> (FlexTensor, [FlexTensor; 3]) {
        let (inputs, state) = (inputs.map(contiguous), state.map(contiguous));
        let call = Call::of(&inputs);
        let parts: Vec<(Vec<f32>, [Channels; 3])> = (0..call.tasks())
            .into_par_iter()
            .map(|task| {
                let (b, first, width) = call.place(task);
                let before = state.each_ref().map(|x| {
                    let mut own = [0.0; BLOCK];
                    own[..width].copy_from_slice(&values(x)[b * call.channels + first..][..width]);
                    own
                });
                scan(call.task(task), before)
            })
            .collect();
        let o = call.gather(parts.iter().map(|p| p.0.as_slice()), call.n);
        let state = [0, 1, 2].map(|which| {
            let rows = parts.iter().enumerate();
            let rows = rows.map(|(task, p)| &p.1[which][..call.place(task).2]);
            cpu_tensor(call.gather(rows, 1), &[call.batch, call.channels])
        });
        (cpu_tensor(o, &inputs[1].shape()), state)
    }

    fn wkv_backward(inputs: [FlexTensor; 5], gradient: FlexTensor) -> [FlexTensor; 5] {
        let (inputs, gradient) = (inputs.map(contiguous), contiguous(gradient));
        let call = Call::of(&inputs);
        let parts: Vec<([Vec<f32>; 3], [Channels; 2])> = (0..call.tasks())
            .into_par_iter()
            .map(|task| backward(call.task(task), call.from(&gradient, task)))
            .collect();
        let rows = |which: usize| {
            let rows = call.gather(parts.iter().map(|p| p.0[which].as_slice()), call.n);
            cpu_tensor(rows, &inputs[which].shape())
        };
        let sums = |which: usize| {
            let mut sum = vec![0.0; call.channels];
            for (task, part) in parts.iter().enumerate() {
                let (_, first, width) = call.place(task);
                simd::add_scaled(&mut sum[first..first + width], 1.0, &part.1[which]);
            }
            cpu_tensor(sum, &[1, call.channels])
        };
        [rows(0), rows(1), rows(2), sums(0), sums(1)]
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + simd::exp(-x))
}

#[inline(always)]
fn larger(x: f32, y: f32) -> f32 {
    if x > y { x } else { y }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn scan(x: Task, [mut a, mut b, mut p]: [Channels; 3]) -> (Vec<f32>, [Channels; 3]) {
    let (n, width, w) = (x.n, x.width, x.rates());
    let mut out = vec![0.0f32; n * width];
    for t in 0..n {
        let (r, k, v) = (&x.r[x.row(t)], &x.k[x.row(t)], &x.v[x.row(t)]);
        let (u, w, o) = (&x.bonus[..width], &w[..width], &mut out[t * width..][..width]);
        let (a, b, p) = (&mut a[..width], &mut b[..width], &mut p[..width]);
        for c in 0..width {
            let own = u[c] + k[c];
            let q = larger(p[c], own);
            let (past, own) = (simd::exp(p[c] - q), simd::exp(own - q));
            o[c] = sigmoid(r[c]) * (past * a[c] + own * v[c]) / (past * b[c] + own);
            let past = p[c] - w[c];
            let q = larger(past, k[c]);
            let (past, own) = (simd::exp(past - q), simd::exp(k[c] - q));
            a[c] = past * a[c] + own * v[c];
            b[c] = past * b[c] + own;
            p[c] = q;
        }
    }
    (out, [a, b, p])
}

/// Gradients of `r`, `k`, `v` and of decay and bonus: the scan again, with its slopes by decay, then one backwards.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward(x: Task, gradient: &[f32]) -> ([Vec<f32>; 3], [Channels; 2]) {
    let (n, width, w) = (x.n, x.width, x.rates());
    let [mut dr, mut dk, mut dv] = [(); 3].map(|()| vec![0.0f32; n * width]);
    // of each token and channel: the sum, its gradient over the denominator, and the exponent of both
    let [mut sums, mut shares, mut exponents] = [(); 3].map(|()| vec![0.0f32; n * width]);
    let [mut d_decay, mut d_bonus] = [[0.0f32; BLOCK]; 2];
    let [mut a, mut b, mut slope_a, mut slope_b] = [[0.0f32; BLOCK]; 4];
    let mut p = [EMPTY; BLOCK];
    for t in 0..n {
        let (r, k, v) = (&x.r[x.row(t)], &x.k[x.row(t)], &x.v[x.row(t)]);
        let (u, w, g) = (&x.bonus[..width], &w[..width], &gradient[x.row(t)]);
        let own_row = t * width..(t + 1) * width;
        let (dr, y) = (&mut dr[own_row.clone()], &mut sums[own_row.clone()]);
        let (share, exponent) = (&mut shares[own_row.clone()], &mut exponents[own_row]);
        let (a, b, p) = (&mut a[..width], &mut b[..width], &mut p[..width]);
        let (slope_a, slope_b) = (&mut slope_a[..width], &mut slope_b[..width]);
        let (d_decay, d_bonus) = (&mut d_decay[..width], &mut d_bonus[..width]);
        for c in 0..width {
            let own = u[c] + k[c];
            let q = larger(p[c], own);
            let (past, own) = (simd::exp(p[c] - q), simd::exp(own - q));
            let inverse = 1.0 / (past * b[c] + own);
            y[c] = (past * a[c] + own * v[c]) * inverse;
            let gate = sigmoid(r[c]);
            dr[c] = g[c] * y[c] * gate * (1.0 - gate);
            share[c] = g[c] * gate * inverse;
            exponent[c] = q;
            // the derivative is by -w, and w = e^decay
            d_decay[c] -= share[c] * past * (slope_a[c] - slope_b[c] * y[c]) * w[c];
            d_bonus[c] += share[c] * own * (v[c] - y[c]);
            let past = p[c] - w[c];
            let q = larger(past, k[c]);
            let (past, own) = (simd::exp(past - q), simd::exp(k[c] - q));
            slope_a[c] = past * (a[c] + slope_a[c]);
            slope_b[c] = past * (b[c] + slope_b[c]);
            a[c] = past * a[c] + own * v[c];
            b[c] = past * b[c] + own;
            p[c] = q;
        }
    }
    // what later tokens say of earlier ones: sums over them, scaled by an exponent of their own
    let [mut of_num, mut of_den] = [[0.0f32; BLOCK]; 2];
    p.fill(EMPTY);
    for t in (0..n).rev() {
        let (k, v) = (&x.k[x.row(t)], &x.v[x.row(t)]);
        let (u, w) = (&x.bonus[..width], &w[..width]);
        let own_row = t * width..(t + 1) * width;
        let (dk, dv) = (&mut dk[own_row.clone()], &mut dv[own_row.clone()]);
        let (y, share, exponent) = (
            &sums[own_row.clone()],
            &shares[own_row.clone()],
            &exponents[own_row],
        );
        let (of_num, of_den, p) = (&mut of_num[..width], &mut of_den[..width], &mut p[..width]);
        for c in 0..width {
            let own = share[c] * simd::exp(u[c] + k[c] - exponent[c]);
            let later = simd::exp(k[c] + p[c]);
            dk[c] = own * (v[c] - y[c]) + later * (of_num[c] * v[c] + of_den[c]);
            dv[c] = own + later * of_num[c];
            let (past, own) = (p[c] - w[c], -exponent[c]);
            let q = larger(past, own);
            let (past, own) = (simd::exp(past - q), share[c] * simd::exp(own - q));
            of_num[c] = past * of_num[c] + own;
            of_den[c] = past * of_den[c] - own * y[c];
            p[c] = q;
        }
    }
    ([dr, dk, dv], [d_decay, d_bonus])
}

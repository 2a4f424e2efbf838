//! Keys gathered in columns, and the estimator of one query over them, forward and backward.

use super::sampling::attend;
use crate::ops::simd;

/// The rows of one head of one sequence.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    values: &'a [f32],
    stride: usize,
    width: usize,
}

impl<'a> Rows<'a> {
    /// Those of the sequence and head `task` of `values [batch, n, heads, width]`.
    pub(super) fn of(values: &'a [f32], task: usize, batch: usize, heads: usize, width: usize) -> Self {
        let (b, h) = (task / heads, task % heads);
        let from = values.len() / batch * b + h * width;
        Rows {
            // a tensor without rows has no columns either
            values: &values[from.min(values.len())..],
            stride: heads * width,
            width,
        }
    }

    #[inline(always)]
    pub(super) fn row(&self, i: usize) -> &'a [f32] {
        &self.values[i * self.stride..][..self.width]
    }
}

/// The keys that some queries see, in the order of their positions in `index`.
#[derive(Default)]
pub(super) struct Columns {
    /// Positions.
    pub(super) index: Vec<usize>,
    /// Logarithms of weights.
    pub(super) bias: Vec<f32>,
    /// So many of the last ones have the weight zero.
    pub(super) left_out: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
    // component after component of all columns, `[d, columns]`
    keys_turned: Vec<f32>,
    values_turned: Vec<f32>,
    dk_turned: Vec<f32>,
    dv_turned: Vec<f32>,
    /// The query at hand, scaled, the weight of each column, and the gradient of its score.
    query: Vec<f32>,
    weights: Vec<f32>,
    slopes: Vec<f32>,
}

impl Columns {
    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.bias.clear();
        self.left_out = 0;
    }

    /// Fetches keys and values of the positions in `index`.
    pub(super) fn gather(&mut self, k: Rows<'_>, v: Rows<'_>) {
        self.keys.clear();
        self.values.clear();
        for j in &self.index {
            self.keys.extend_from_slice(k.row(*j));
            self.values.extend_from_slice(v.row(*j));
        }
        self.keys_turned.resize(self.keys.len(), 0.0);
        simd::transpose(
            &self.keys,
            k.width,
            self.index.len(),
            k.width,
            &mut self.keys_turned,
        );
    }

    /// Gets ready for gradients of what was gathered last.
    pub(super) fn start_back(&mut self) {
        let all = self.index.len();
        let d = self.values.len() / all;
        self.values_turned.resize(all * d, 0.0);
        simd::transpose(&self.values, d, all, d, &mut self.values_turned);
        for turned in [&mut self.dk_turned, &mut self.dv_turned] {
            turned.clear();
            turned.resize(all * d, 0.0);
        }
    }

    #[inline(always)]
    fn take(&mut self, q: &[f32], seen: usize) {
        let scale = 1.0 / (q.len() as f32).sqrt();
        self.query.resize(q.len(), 0.0);
        simd::scale_into(&mut self.query, scale, q);
        self.weights.clear();
        self.weights.extend_from_slice(&self.bias[..seen]);
    }

    /// Adds to `out` what a query has of the first `seen` columns; gives the logarithm of its denominator.
    #[inline(always)]
    pub(super) fn attend(&mut self, q: &[f32], seen: usize, out: &mut [f32]) -> f32 {
        self.take(q, seen);
        let (all, kept) = (self.index.len(), seen - self.left_out);
        let (keys, values) = (&self.keys_turned, &self.values);
        attend(&self.query, keys, all, values, &mut self.weights, kept, out)
    }

    /// Adds to `dq` and to the gradients of the columns what flows back to them from the output `o` of a query, whose
    /// gradient is `g`; weights of the draw count as constants.
    #[inline(always)]
    pub(super) fn back(&mut self, q: &[f32], [o, g]: [&[f32]; 2], log_sum: f32, seen: usize, dq: &mut [f32]) {
        self.take(q, seen);
        let (d, all) = (q.len(), self.index.len());
        simd::add_weighted_rows(&mut self.weights, &self.query, &self.keys_turned, all);
        let (kept, left_out) = self.weights.split_at_mut(seen - self.left_out);
        for w in kept {
            *w = simd::exp(*w - log_sum);
        }
        left_out.fill(0.0);
        self.slopes.clear();
        // Σ p ∂o/∂p, which the softmax takes off
        self.slopes.resize(seen, -simd::dot(g, o));
        simd::add_weighted_rows(&mut self.slopes, g, &self.values_turned, all);
        for (s, w) in self.slopes.iter_mut().zip(&self.weights) {
            *s *= w;
        }
        simd::add_weighted_rows(dq, &self.slopes, &self.keys, d);
        let scale = 1.0 / (d as f32).sqrt();
        for x in dq.iter_mut() {
            *x *= scale;
        }
        for (c, (q, g)) in self.query.iter().zip(g).enumerate() {
            simd::add_scaled(&mut self.dk_turned[c * all..][..seen], *q, &self.slopes);
            simd::add_scaled(&mut self.dv_turned[c * all..][..seen], *g, &self.weights);
        }
    }

    /// Adds the gradients of the columns to those of their positions, `[n, d]`; a key drawn twice gets both shares.
    pub(super) fn finish_back(&self, dk: &mut [f32], dv: &mut [f32]) {
        let all = self.index.len();
        let d = self.values.len() / all;
        for (column, index) in self.index.iter().enumerate() {
            for c in 0..d {
                dk[index * d + c] += self.dk_turned[c * all + column];
                dv[index * d + c] += self.dv_turned[c * all + column];
            }
        }
    }
}

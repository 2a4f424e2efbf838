//! Biases of single queries, and what their gradients say of the tables.

use burn::{backend::flex::FlexTensor, tensor::TensorMetadata};

use super::AftBias;
use crate::ops::{simd, values};

/// Where biases come from.
#[derive(Clone)]
pub(super) enum Biases<'a> {
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
    pub(super) fn of(bias: AftBias, tables: &'a [FlexTensor], head: usize, n: usize) -> Self {
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
    pub(super) fn window(&self) -> usize {
        match self {
            Biases::None => 0,
            Biases::Product { window, .. } => *window,
            Biases::Distance(table) => table.len(),
        }
    }

    /// Writes `exp(w_tj - top)` for `j` in `start..=t`; gives `top`, the largest bias, and the multiply-adds.
    #[inline(always)]
    pub(super) fn weights(&self, t: usize, start: usize, out: &mut [f32]) -> (f32, usize) {
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
    pub(super) fn gradients(&self) -> Vec<Vec<f32>> {
        match self {
            Biases::None => vec![],
            Biases::Product { rank, n, .. } => vec![vec![0.0; n * rank]; 2],
            Biases::Distance(table) => vec![vec![0.0; table.len()]],
        }
    }

    /// Adds what the gradients `of_biases` of `w_tj` for `j` in `start..=t` say of the tables.
    #[inline(always)]
    pub(super) fn add_gradients(
        &self,
        t: usize,
        start: usize,
        of_biases: &[f32],
        sums: &mut [Vec<f32>],
    ) -> usize {
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

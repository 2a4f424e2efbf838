//! One position, from a ring of the latest keys and values and sums over older ones.

use burn::{backend::flex::FlexTensor, tensor::TensorMetadata};
use multiversion::multiversion;

use super::AftBias;
use crate::ops::{simd, values};

/// Rows of which the one at `position % rows` is the latest.
#[derive(Clone, Copy)]
pub(super) struct Ring {
    pub rows: usize,
    pub position: usize,
}

impl Ring {
    /// Rows that hold a position.
    pub(super) fn filled(&self) -> usize {
        self.rows.min(self.position + 1)
    }

    /// How many positions before the latest one a row's is.
    fn age(&self, row: usize) -> usize {
        (self.position % self.rows + self.rows - row) % self.rows
    }

    /// The bias of each filled row, one after the other for each head that has its own, and the multiply-adds.
    pub(super) fn biases(&self, bias: AftBias, tables: &[FlexTensor]) -> (Vec<f32>, usize) {
        let rows = 0..self.filled();
        match bias {
            AftBias::None => (vec![0.0; self.filled()], 0),
            AftBias::Full | AftBias::Local(_) => {
                let rank = tables[0].shape()[1];
                let u = &values(&tables[0])[self.position * rank..][..rank];
                let v = values(&tables[1]);
                let of_row = |row| simd::dot(u, &v[(self.position - self.age(row)) * rank..][..rank]);
                let biases: Vec<f32> = rows.map(of_row).collect();
                let macs = biases.len() * rank;
                (biases, macs)
            }
            AftBias::Conv(window) => {
                let of_head = |table: &[f32]| rows.clone().map(|row| table[self.age(row)]).collect();
                let heads = values(&tables[0]).chunks_exact(window);
                (
                    heads.flat_map(|table| -> Vec<f32> { of_head(table) }).collect(),
                    0,
                )
            }
        }
    }
}

/// Writes the mean of each channel, of rows `[rows, channels]` with their biases and of `older` sums `[3, channels]`
/// (largest key, denominator, numerator); gives the multiply-adds.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn recall(k: &[f32], v: &[f32], older: Option<&[f32]>, biases: &[f32], out: &mut [f32]) -> usize {
    let channels = out.len();
    let rows = k.len() / channels;
    let width = channels * rows / biases.len();
    let (mut largest, mut den) = (vec![0.0f32; width], vec![0.0f32; width]);
    let mut macs = 0;
    for (part, (biases, num)) in biases
        .chunks_exact(rows)
        .zip(out.chunks_exact_mut(width))
        .enumerate()
    {
        let columns = part * width..(part + 1) * width;
        let of = |row: usize| row * channels + columns.start..row * channels + columns.end;
        largest.fill(f32::NEG_INFINITY);
        if let Some(older) = older {
            largest.copy_from_slice(&older[columns.clone()]);
        }
        for (row, bias) in biases.iter().enumerate() {
            for (largest, k) in largest.iter_mut().zip(&k[of(row)]) {
                *largest = largest.max(k + bias);
            }
        }
        den.fill(0.0);
        if let Some(older) = older {
            let [top, den_older, num_older] = [0, 1, 2].map(|row| &older[of(row)]);
            for c in 0..width {
                let scale = simd::exp(top[c] - largest[c]);
                den[c] = scale * den_older[c];
                num[c] = scale * num_older[c];
            }
        }
        for (row, bias) in biases.iter().enumerate() {
            let (k, v) = (&k[of(row)], &v[of(row)]);
            for c in 0..width {
                let e = simd::exp(k[c] + bias - largest[c]);
                den[c] += e;
                num[c] += e * v[c];
            }
            macs += 2 * width;
        }
        for (num, den) in num.iter_mut().zip(&den) {
            *num /= den;
        }
    }
    macs
}

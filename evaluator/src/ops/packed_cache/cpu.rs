//! The kernel for processors: queries read the codes themselves, a row at a time, as is best for few of them.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::{TensorData, TensorMetadata},
};
use half::f16;
use multiversion::multiversion;
use pulp::bytemuck::{cast_slice, cast_slice_mut};
use rayon::prelude::*;

use super::{HALVES, PackedCacheOp, PackedRowsParts, row_bytes};
use crate::{
    counter,
    ops::{
        Band, contiguous, cpu_tensor,
        heads::{SHARE, interleave},
        simd, values,
    },
};

type Parts = PackedRowsParts<FlexTensor, FlexTensor>;

impl PackedCacheOp for Flex {
    fn rows_pack(x: FlexTensor, bits: usize) -> Parts {
        let x = contiguous(x);
        let [b, n, g, depth] = [x.shape()[0], x.shape()[1], x.shape()[2], x.shape()[3]];
        let (rows, bytes) = (b * n * g, row_bytes(depth, bits));
        let mut words = vec![0i32; rows * bytes / 4];
        let mut levels = vec![f16::ZERO; 2 * rows];
        pack(values(&x), depth, bits, cast_slice_mut(&mut words), &mut levels);
        PackedRowsParts {
            words: FlexTensor::from_data(TensorData::new(words, [b, n, g, bytes / 4])),
            levels: FlexTensor::from_data(TensorData::new(levels, [b, n, g, 2])),
            bits,
            depth,
        }
    }

    fn rows_write(mut rows: Parts, x: Parts, at: usize) -> Parts {
        let [b, n] = [x.words.shape()[0], x.words.shape()[1]];
        let capacity = rows.words.shape()[1];
        assert!(
            at + n <= capacity,
            "rows {at}..{} do not fit a cache of {capacity}",
            at + n
        );
        let words: &[i32] = x.words.as_slice().expect("fresh rows are contiguous");
        let levels: &[f16] = x.levels.as_slice().expect("fresh rows are contiguous");
        put(rows.words.storage_mut(), words, b, capacity, at);
        put(rows.levels.storage_mut(), levels, b, capacity, at);
        rows
    }

    fn rows_unpack(rows: Parts, n: usize) -> FlexTensor {
        let shape = rows.words.shape();
        let (b, g, depth) = (shape[0], shape[2], rows.depth);
        let mut out = vec![0.0f32; b * n * g * depth];
        let view = View::of(&rows);
        let per_sequence = (n * g * depth).max(1);
        for (sequence, out) in out.chunks_mut(per_sequence).enumerate() {
            out.par_chunks_mut(g * depth)
                .enumerate()
                .with_min_len(SHARE / (g * depth) + 1)
                .for_each(|(row, out)| {
                    for (group, out) in out.chunks_mut(depth).enumerate() {
                        let row = view.row(sequence, row, group);
                        values_of(row, out);
                    }
                });
        }
        cpu_tensor(out, &[b, n, g, depth])
    }

    fn rows_attention(q: FlexTensor, keys: Parts, rows: Parts, band: Band) -> FlexTensor {
        let shape = q.shape();
        let [batch, n, heads, depth] = [shape[0], shape[1], shape[2], shape[3]];
        let q = contiguous(q);
        let groups = keys.words.shape()[2];
        let (share, pairs) = (heads / groups, band.pairs(n));
        let (qs, k, v) = (values(&q), View::of(&keys), View::of(&rows));
        let least = SHARE.div_ceil((share * pairs * depth).max(1));
        let tasks = (0..batch * groups).into_par_iter().with_min_len(least);
        let parts: Vec<Vec<f32>> = tasks
            .map(|task| {
                let (sequence, group) = (task / groups, task % groups);
                let of_query = |i: usize| &qs[((sequence * n + i) * heads + group * share) * depth..];
                let q: Vec<&[f32]> = (0..n).map(|i| &of_query(i)[..share * depth]).collect();
                let mut out = vec![0.0f32; n * share * depth];
                attend(&q, [k, v], (sequence, group), &band, &mut out);
                out
            })
            .collect();
        counter::add_macs(2 * batch * heads * depth * pairs);
        let parts = parts.iter().map(Vec::as_slice);
        cpu_tensor(interleave(parts, groups, share * depth), &shape)
    }
}

/// Copies the rows of `b` sequences over those from `at` on.
fn put<E: Copy>(rows: &mut [E], x: &[E], b: usize, capacity: usize, at: usize) {
    let (of_sequence, more) = (rows.len() / b, x.len() / b);
    let width = of_sequence / capacity;
    for (rows, x) in rows.chunks_mut(of_sequence).zip(x.chunks(more)) {
        rows[at * width..][..more].copy_from_slice(x);
    }
}

/// Packed rows in memory.
#[derive(Clone, Copy)]
struct View<'a> {
    bytes: &'a [u8],
    levels: &'a [f16],
    capacity: usize,
    groups: usize,
    bits: usize,
    depth: usize,
}

/// One packed row.
#[derive(Clone, Copy)]
struct Row<'a> {
    codes: &'a [u8],
    step: f32,
    least: f32,
    bits: usize,
}

impl<'a> View<'a> {
    fn of(rows: &'a Parts) -> View<'a> {
        View {
            bytes: cast_slice::<i32, u8>(rows.words.as_slice().expect("a cache is never a view")),
            levels: rows.levels.as_slice().expect("a cache is never a view"),
            capacity: rows.words.shape()[1],
            groups: rows.words.shape()[2],
            bits: rows.bits,
            depth: rows.depth,
        }
    }

    #[inline(always)]
    fn row(&self, sequence: usize, row: usize, group: usize) -> Row<'a> {
        let (at, bytes) = (
            (sequence * self.capacity + row) * self.groups + group,
            row_bytes(self.depth, self.bits),
        );
        Row {
            codes: &self.bytes[at * bytes..][..bytes],
            step: self.levels[2 * at].to_f32(),
            least: self.levels[2 * at + 1].to_f32(),
            bits: self.bits,
        }
    }
}

/// Packs rows of `depth` values into bytes and levels.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+fma", "x86_64+avx2+fma"))]
fn pack(x: &[f32], depth: usize, bits: usize, bytes: &mut [u8], levels: &mut [f16]) {
    let highest = ((1u32 << bits) - 1) as f32;
    let rows = x
        .chunks_exact(depth)
        .zip(bytes.chunks_exact_mut(row_bytes(depth, bits)))
        .zip(levels.as_chunks_mut::<2>().0);
    for ((x, bytes), levels) in rows {
        let min = x.iter().copied().fold(f32::INFINITY, f32::min);
        let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let least = f16::from_f32(min);
        let step = (max - least.to_f32()) / highest;
        let step = f16::from_f32(step.clamp(f16::MIN_POSITIVE.to_f32(), f16::MAX.to_f32()));
        *levels = [step, least];
        let (step, least) = (step.to_f32(), least.to_f32());
        let code = |x: f32| ((x - least) / step).round_ties_even().clamp(0.0, highest) as u8;
        if bits == 8 {
            for (byte, x) in bytes.iter_mut().zip(x) {
                *byte = code(*x);
            }
        } else {
            let (first, second) = x.split_at(depth.div_ceil(HALVES));
            for (byte, x) in bytes.iter_mut().zip(first) {
                *byte = code(*x);
            }
            for (byte, x) in bytes.iter_mut().zip(second) {
                *byte |= code(*x) << 4;
            }
        }
    }
}

/// The codes of a row as numbers.
#[inline(always)]
fn codes_of(row: Row, out: &mut [f32]) {
    if row.bits == 8 {
        for (x, code) in out.iter_mut().zip(row.codes) {
            *x = f32::from(*code);
        }
    } else {
        let (first, second) = out.split_at_mut(out.len().div_ceil(HALVES));
        for (x, code) in first.iter_mut().zip(row.codes) {
            *x = f32::from(code & 15);
        }
        for (x, code) in second.iter_mut().zip(row.codes) {
            *x = f32::from(code >> 4);
        }
    }
}

/// The values of a row.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+fma", "x86_64+avx2+fma"))]
fn values_of(row: Row, out: &mut [f32]) {
    codes_of(row, out);
    for x in out {
        *x = *x * row.step + row.least;
    }
}

/// The heads `q[i] [share * depth]` of each query that share the keys and values of one group; `out [n * share * depth]`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+fma", "x86_64+avx2+fma"))]
fn attend(
    q: &[&[f32]],
    [keys, rows]: [View; 2],
    (sequence, group): (usize, usize),
    band: &Band,
    out: &mut [f32],
) {
    let depth = keys.depth;
    let mut codes = vec![0.0f32; depth];
    for (i, (q, out)) in q.iter().zip(out.chunks_exact_mut(q[0].len())).enumerate() {
        let seen = band.row(i);
        let share = q.len() / depth;
        let sums: Vec<f32> = q.chunks_exact(depth).map(simd::sum).collect();
        let mut scores = vec![0.0f32; share * seen.len()];
        for (j, at) in seen.clone().enumerate() {
            let key = keys.row(sequence, at, group);
            codes_of(key, &mut codes);
            for (head, q) in q.chunks_exact(depth).enumerate() {
                let score = key.step * simd::dot(&codes, q) + key.least * sums[head];
                scores[head * seen.len() + j] = score / (depth as f32).sqrt();
            }
        }
        for scores in scores.chunks_exact_mut(seen.len()) {
            simd::softmax(scores);
        }
        let mut least = vec![0.0f32; share];
        for (j, at) in seen.clone().enumerate() {
            let value = rows.row(sequence, at, group);
            codes_of(value, &mut codes);
            for (head, out) in out.chunks_exact_mut(depth).enumerate() {
                let p = scores[head * seen.len() + j];
                least[head] += p * value.least;
                let weight = p * value.step;
                for (o, code) in out.iter_mut().zip(&codes) {
                    *o += weight * code;
                }
            }
        }
        for (out, least) in out.chunks_exact_mut(depth).zip(least) {
            for o in out {
                *o += least;
            }
        }
    }
}

//! Rows of keys and values in few bits: what decoding remembers, and attention to it.
//!
//! A row is what one head keeps of one token. Its levels are evenly spaced between its least and its largest value,
//! `x = least + step · code`, both in half precision (2402.02750, with a group of one head's components). Codes of 8 bits lie
//! one after the other in a row's bytes; of 4 bits a byte holds a code of the row's first half and one of its second, so that
//! either half is unpacked with whole vectors. Bytes are filled up to 32-bit words, little-endian.

mod cpu;

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy},
    tensor::{
        DType, ElementConversion, FloatDType, Int, Tensor,
        backend::Backend,
        ops::{FloatTensor, IntTensor},
    },
};

use super::{AttentionOp, Band, unwrap, wrap};

/// Codes of one byte where they are of 4 bits.
const HALVES: usize = 2;

/// Bytes of the codes of a row of `depth` values, whole words.
pub const fn row_bytes(depth: usize, bits: usize) -> usize {
    let bytes = if bits == 8 { depth } else { depth.div_ceil(HALVES) };
    bytes.next_multiple_of(4)
}

/// Rows `[b, rows, g, depth]`, packed.
#[derive(Clone, Debug)]
pub struct PackedRows<B: Backend> {
    /// Codes, `[b, rows, g, row_bytes / 4]` words.
    words: Tensor<B, 4, Int>,
    /// Step and least value of each row in half precision, `[b, rows, g, 2]`.
    levels: Tensor<B, 4>,
    bits: usize,
    depth: usize,
}

/// The tensors of packed rows and how to read them.
#[derive(Clone, Debug)]
pub struct PackedRowsParts<I, F> {
    /// `[b, rows, g, words]`
    pub words: I,
    /// `[b, rows, g, 2]`
    pub levels: F,
    /// Bits of one code: 4 or 8.
    pub bits: usize,
    /// Values of a row.
    pub depth: usize,
}

type Parts<B> = PackedRowsParts<IntTensor<B>, FloatTensor<B>>;

/// Work on packed rows.
pub trait PackedCacheOp: AttentionOp {
    /// Packs `x [b, n, g, depth]`.
    fn rows_pack(x: FloatTensor<Self>, bits: usize) -> Parts<Self> {
        reference::pack::<Self>(wrap(x), bits)
    }

    /// Writes packed rows `[b, n, g, ..]` over rows `at..at + n`.
    fn rows_write(rows: Parts<Self>, x: Parts<Self>, at: usize) -> Parts<Self> {
        reference::write::<Self>(rows, x, at)
    }

    /// The first `n` rows as floats, `[b, n, g, depth]`.
    fn rows_unpack(rows: Parts<Self>, n: usize) -> FloatTensor<Self> {
        unwrap(reference::unpack::<Self>(rows, n))
    }

    /// Attention of `q [b, n, h, depth]` over packed keys and values; see [`AttentionOp`].
    fn rows_attention(
        q: FloatTensor<Self>,
        keys: Parts<Self>,
        values: Parts<Self>,
        band: Band,
    ) -> FloatTensor<Self> {
        let (k, v) = (
            Self::rows_unpack(keys, band.keys),
            Self::rows_unpack(values, band.keys),
        );
        Self::attention_output(q, k, v, band)
    }
}

#[cfg(feature = "cuda")]
impl PackedCacheOp for burn::backend::Cuda {}

impl<B: PackedCacheOp, C: CheckpointStrategy> PackedCacheOp for Autodiff<B, C> {}

impl<B: PackedCacheOp> PackedRows<B> {
    /// Room for `rows` rows of each of `b` sequences and `g` heads.
    pub fn empty([b, rows, g, depth]: [usize; 4], bits: usize, device: &B::Device) -> Self {
        PackedRows {
            words: Tensor::zeros([b, rows, g, row_bytes(depth, bits) / 4], (device, DType::I32)),
            levels: Tensor::zeros([b, rows, g, 2], (device, DType::F16)),
            bits,
            depth,
        }
    }

    /// Packs `x [b, n, g, depth]`.
    pub fn of(x: Tensor<B, 4>, bits: usize) -> Self {
        Self::from_parts(B::rows_pack(unwrap(x), bits))
    }

    /// Writes rows over those from `at` on, in place.
    #[must_use]
    pub fn write(self, x: PackedRows<B>, at: usize) -> Self {
        Self::from_parts(B::rows_write(self.into_parts(), x.into_parts(), at))
    }

    /// The first `n` rows as floats, `[b, n, g, depth]`.
    pub fn unpack(self, n: usize) -> Tensor<B, 4> {
        wrap(B::rows_unpack(self.into_parts(), n))
    }

    /// Bits of one code.
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// Rows of each sequence.
    pub fn rows(&self) -> usize {
        self.words.dims()[1]
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        4 * self.words.shape().num_elements() + 2 * self.levels.shape().num_elements()
    }

    fn from_parts(parts: Parts<B>) -> Self {
        PackedRows {
            words: Tensor::from_primitive(parts.words),
            levels: wrap(parts.levels),
            bits: parts.bits,
            depth: parts.depth,
        }
    }

    fn into_parts(self) -> Parts<B> {
        PackedRowsParts {
            words: self.words.into_primitive(),
            levels: unwrap(self.levels),
            bits: self.bits,
            depth: self.depth,
        }
    }
}

/// Attention of `q [b, n, h, depth]` over packed keys and values, those of `band`.
pub fn packed_attention<B: PackedCacheOp>(
    q: Tensor<B, 4>,
    [keys, values]: [PackedRows<B>; 2],
    band: Band,
) -> Tensor<B, 4> {
    wrap(B::rows_attention(
        unwrap(q),
        keys.into_parts(),
        values.into_parts(),
        band,
    ))
}

/// The same in plain tensor operations; what a GPU executes.
mod reference {
    use super::*;

    pub(super) fn pack<B: Backend>(x: Tensor<B, 4>, bits: usize) -> Parts<B> {
        let [b, n, g, depth] = x.dims();
        let highest = ((1u32 << bits) - 1) as f32;
        let least = half(x.clone().min_dim(3));
        let step = half(
            ((x.clone().max_dim(3) - least.clone()) / highest)
                .clamp(half::f16::MIN_POSITIVE.to_f32(), half::f16::MAX.to_f32()),
        );
        let codes = ((x - least.clone()) / step.clone()).round().clamp(0.0, highest);
        let bytes = row_bytes(depth, bits);
        let filled = |codes: Tensor<B, 4>| {
            let have = codes.dims()[3];
            // a GPU fills no tensor without elements
            if have == bytes {
                return codes;
            }
            let rest = Tensor::zeros([b, n, g, bytes - have], &codes.device());
            Tensor::cat(vec![codes, rest], 3)
        };
        let codes = if bits == 8 {
            filled(codes)
        } else {
            let first = depth.div_ceil(HALVES);
            let low = filled(codes.clone().narrow(3, 0, first));
            let high = filled(codes.narrow(3, first, depth - first));
            low + high * 16.0
        };
        let bytes: Tensor<B, 5, Int> = codes.int().cast(DType::I32).reshape([b, n, g, bytes / 4, 4]);
        let byte = |i: usize| {
            bytes
                .clone()
                .narrow(4, i, 1)
                .reshape([b, n, g, row_bytes(depth, bits) / 4])
        };
        let shifted = |i: usize| byte(i).bitwise_left_shift_scalar((8 * i as i32).elem());
        let words = (1..4).fold(byte(0), |words, i| words.bitwise_or(shifted(i)));
        let levels = Tensor::cat(vec![step, least], 3).cast(FloatDType::F16);
        PackedRowsParts {
            words: words.into_primitive(),
            levels: unwrap(levels),
            bits,
            depth,
        }
    }

    fn half<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
        x.cast(FloatDType::F16).cast(FloatDType::F32)
    }

    pub(super) fn write<B: Backend>(rows: Parts<B>, x: Parts<B>, at: usize) -> Parts<B> {
        let (words, more) = (
            Tensor::<B, 4, Int>::from_primitive(rows.words),
            Tensor::<B, 4, Int>::from_primitive(x.words),
        );
        let [b, n, g, w] = more.dims();
        let words = words.slice_assign([0..b, at..at + n, 0..g, 0..w], more);
        let levels = wrap::<B, 4>(rows.levels).slice_assign([0..b, at..at + n, 0..g, 0..2], wrap(x.levels));
        PackedRowsParts {
            words: words.into_primitive(),
            levels: unwrap(levels),
            ..rows
        }
    }

    pub(super) fn unpack<B: Backend>(rows: Parts<B>, n: usize) -> Tensor<B, 4> {
        let words = Tensor::<B, 4, Int>::from_primitive(rows.words).narrow(1, 0, n);
        let [b, n, g, w] = words.dims();
        let part = |at: usize, bits: usize| {
            let shifted = words.clone().bitwise_right_shift_scalar((at as i32).elem());
            shifted
                .bitwise_and_scalar(((1i32 << bits) - 1).elem())
                .unsqueeze_dim::<5>(4)
        };
        let bytes = |offset: usize, bits: usize| {
            let parts = (0..4).map(|i| part(8 * i + offset, bits)).collect();
            Tensor::cat(parts, 4).reshape([b, n, g, 4 * w])
        };
        let codes = if rows.bits == 8 {
            bytes(0, 8).narrow(3, 0, rows.depth)
        } else {
            let first = rows.depth.div_ceil(HALVES);
            let low = bytes(0, 4).narrow(3, 0, first);
            Tensor::cat(vec![low, bytes(4, 4).narrow(3, 0, rows.depth - first)], 3)
        };
        let levels = wrap::<B, 4>(rows.levels).narrow(1, 0, n).cast(FloatDType::F32);
        let (step, least) = (levels.clone().narrow(3, 0, 1), levels.narrow(3, 1, 1));
        codes.float() * step + least
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::Flex,
        tensor::{Distribution, Tolerance},
    };

    use super::*;

    fn random(shape: [usize; 4]) -> Tensor<Flex, 4> {
        Tensor::random(shape, Distribution::Normal(0.5, 2.0), &Default::default())
    }

    #[test]
    fn values_come_back_within_half_a_step_and_the_kernel_equals_the_definition() {
        for bits in [4, 8] {
            for depth in [2, 6, 8, 18, 32, 64] {
                let x = random([2, 5, 3, depth]);
                let packed = PackedRows::of(x.clone(), bits);
                let known = reference::pack::<Flex>(x.clone(), bits);
                assert_eq!(
                    packed.words.to_data(),
                    Tensor::<Flex, 4, Int>::from_primitive(known.words.clone()).into_data(),
                    "{bits} bits, rows of {depth}"
                );
                let back = packed.clone().unpack(4);
                let plain = reference::unpack::<Flex>(known, 4);
                let close = Tolerance::rel_abs(1e-6, 1e-6);
                back.to_data().assert_approx_eq::<f32>(&plain.into_data(), close);
                let x = x.narrow(1, 0, 4);
                let range = x.clone().max_dim(3) - x.clone().min_dim(3);
                let step = range / ((1u32 << bits) - 1) as f32;
                // half precision of step and least value adds to half a step of rounding
                let allowed = step * (0.5 + 0.002 * (1u32 << bits) as f32) + x.clone().abs() * 1e-3;
                let beyond = ((x.clone() - back).abs() - allowed).max().into_scalar();
                assert!(beyond < 5e-3, "{bits} bits, rows of {depth}: {beyond}");
            }
        }
    }

    #[test]
    fn rows_take_the_bytes_of_their_bits() {
        for (bits, bytes) in [(4, 16 + 4), (8, 32 + 4)] {
            let rows = PackedRows::<Flex>::empty([2, 10, 3, 32], bits, &Default::default());
            assert_eq!(rows.bytes(), 2 * 10 * 3 * bytes);
            let held = rows.words.to_data().bytes.len() + rows.levels.to_data().bytes.len();
            assert_eq!(held, rows.bytes());
        }
    }

    #[test]
    fn rows_are_written_where_they_belong_and_attention_is_that_over_the_unpacked_ones() {
        for bits in [4, 8] {
            for (heads, groups, depth) in [(4, 4, 32), (4, 2, 8), (3, 1, 18)] {
                let mut caches = [(); 2]
                    .map(|()| PackedRows::<Flex>::empty([2, 12, groups, depth], bits, &Default::default()));
                let first = [(); 2].map(|()| random([2, 7, groups, depth]));
                let second = [(); 2].map(|()| random([2, 2, groups, depth]));
                for (i, cache) in caches.iter_mut().enumerate() {
                    let written = cache.clone().write(PackedRows::of(first[i].clone(), bits), 0);
                    *cache = written.write(PackedRows::of(second[i].clone(), bits), 7);
                    let expected = [&first[i], &second[i]].map(|x| PackedRows::of(x.clone(), bits));
                    let [a, b] = expected.map(|rows| {
                        let n = rows.rows();
                        rows.unpack(n)
                    });
                    assert_eq!(
                        cache.clone().unpack(9).into_data(),
                        Tensor::cat(vec![a, b], 1).into_data()
                    );
                }
                for (n, window) in [(1, usize::MAX), (1, 3), (2, usize::MAX), (5, usize::MAX)] {
                    let band = Band {
                        offset: 9 - n,
                        window,
                        ..Band::causal(9)
                    };
                    let q = random([2, n, heads, depth]);
                    let [k, v] = caches.clone().map(|cache| cache.unpack(9));
                    let plain = super::super::attention(q.clone(), k, v, band.clone());
                    let fused = packed_attention(q, caches.clone(), band);
                    fused
                        .into_data()
                        .assert_approx_eq::<f32>(&plain.into_data(), Tolerance::rel_abs(1e-4, 1e-4));
                }
            }
        }
    }
}

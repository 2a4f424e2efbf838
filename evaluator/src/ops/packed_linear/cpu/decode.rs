//! How codes in a vector of words become numbers.

use std::slice::{from_mut, from_ref};

#[cfg(target_arch = "x86_64")]
use pulp::{NullaryFnOnce, f32x16, x86::V4};
use pulp::{Simd, bytemuck::cast_slice, bytemuck::cast_slice_mut};

#[cfg(target_arch = "x86_64")]
use super::product::Job;

/// Bits of a float's mantissa.
const MANTISSA: usize = 23;

/// How a code becomes a number.
pub(super) trait Decode<S: Simd>: Copy {
    /// The numbers of the codes whose lowest bit is at `at` of each word.
    fn number(self, simd: S, words: S::u32s, at: usize) -> S::f32s;
}

/// Codes as the upper bits of a mantissa: `1 + code / 2^bits`.
#[derive(Clone, Copy)]
pub(super) struct Even<S: Simd> {
    mask: S::u32s,
    one: S::u32s,
    lowest: usize,
}

impl<S: Simd> Even<S> {
    #[inline(always)]
    pub(super) fn new(simd: S, bits: usize) -> Self {
        let lowest = MANTISSA - bits;
        Even {
            mask: simd.splat_u32s(((1 << bits) - 1) << lowest),
            one: simd.splat_u32s(1f32.to_bits()),
            lowest,
        }
    }
}

impl<S: Simd> Decode<S> for Even<S> {
    #[inline(always)]
    fn number(self, simd: S, words: S::u32s, at: usize) -> S::f32s {
        let placed = if at > self.lowest {
            simd.wrapping_dyn_shr_u32s(words, simd.splat_u32s((at - self.lowest) as u32))
        } else {
            simd.wrapping_dyn_shl_u32s(words, simd.splat_u32s((self.lowest - at) as u32))
        };
        simd.transmute_f32s_u32s(simd.or_u32s(simd.and_u32s(placed, self.mask), self.one))
    }
}

/// Levels that are looked up one by one.
#[derive(Clone, Copy)]
pub(super) struct Book(pub(super) [f32; 16]);

impl<S: Simd> Decode<S> for Book {
    #[inline(always)]
    fn number(self, simd: S, words: S::u32s, at: usize) -> S::f32s {
        let mut numbers = simd.splat_f32s(0.0);
        let words: &[u32] = cast_slice(from_ref(&words));
        for (number, word) in cast_slice_mut::<_, f32>(from_mut(&mut numbers))
            .iter_mut()
            .zip(words)
        {
            *number = self.0[(word >> at) as usize % 16];
        }
        numbers
    }
}

/// A job whose levels are looked up by an instruction that permutes a vector, of which it reads the low four bits.
#[cfg(target_arch = "x86_64")]
pub(super) struct WithPermutes<'a>(pub(super) V4, pub(super) Job<'a>);

#[cfg(target_arch = "x86_64")]
impl NullaryFnOnce for WithPermutes<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let WithPermutes(simd, job) = self;
        let levels = Permuted(pulp::cast(job.levels()));
        job.work(simd, levels);
    }
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Permuted(f32x16);

#[cfg(target_arch = "x86_64")]
impl Decode<V4> for Permuted {
    #[inline(always)]
    fn number(self, simd: V4, words: <V4 as Simd>::u32s, at: usize) -> f32x16 {
        let codes = simd.wrapping_dyn_shr_u32s(words, simd.splat_u32s(at as u32));
        pulp::cast(
            simd.avx512f
                ._mm512_permutexvar_ps(pulp::cast(codes), pulp::cast(self.0)),
        )
    }
}

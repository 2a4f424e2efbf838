//! Few rows of inputs, as in decoding: the inputs that a row of weights meets are moved together, then both are multiplied as if
//! they were dense, so that no zero is multiplied.

#[cfg(target_arch = "x86_64")]
mod v3;
#[cfg(target_arch = "x86_64")]
mod v4;

#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};
use pulp::{Arch, Simd, WithSimd};

use super::{
    COLUMNS_PER_WORD,
    cpu::{BlockColumns, Matrix, WORDS_PER_BLOCK},
};

/// `y[r][s] = row r · x[s]` for the rows of one task, of which `first` is the first; inputs are filled up to whole words.
pub(super) struct Task<'a> {
    pub(super) m: &'a Matrix<'a>,
    pub(super) first: usize,
    pub(super) inputs: &'a [Vec<f32>],
    pub(super) y: &'a mut [f32],
}

impl Task<'_> {
    /// By the widest vectors that this processor has.
    pub(super) fn multiply(self) {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(simd) = V4::try_new() {
                return simd.vectorize(InVectors(simd, self));
            }
            if let Some(simd) = V3::try_new() {
                return simd.vectorize(InVectors(simd, self));
            }
        }
        self.multiply_plainly();
    }

    /// The same without instructions that move inputs within vectors.
    pub(super) fn multiply_plainly(self) {
        Arch::new().dispatch(self);
    }
}

/// A task for vectors of a kind whose inputs can be moved within them.
#[cfg(target_arch = "x86_64")]
pub(super) struct InVectors<'a, S>(pub(super) S, pub(super) Task<'a>);

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Task { m, first, inputs, y } = self;
        let mut columns: BlockColumns = [0; _];
        let mut met = vec![0.0f32; m.words_per_row * COLUMNS_PER_WORD];
        for (r, y) in y.chunks_exact_mut(inputs.len()).enumerate() {
            let weights = m.row(first + r);
            for (y, x) in y.iter_mut().zip(inputs) {
                let mut n = 0;
                let blocks = x.chunks(WORDS_PER_BLOCK * COLUMNS_PER_WORD);
                for (words, x) in m.places(first + r).chunks(WORDS_PER_BLOCK).zip(blocks) {
                    let more = m.columns_of(words, weights.len() - n, &mut columns);
                    for (met, column) in met[n..n + more].iter_mut().zip(&columns) {
                        *met = x[*column as usize];
                    }
                    n += more;
                }
                *y = product(simd, weights, &met[..n]);
            }
        }
    }
}

/// `Σ a b` in four vectors of sums, so that no addition waits for the one before.
#[inline(always)]
fn product<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = S::as_simd_f32s(a);
    let (b, b_rest) = S::as_simd_f32s(b);
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (a_fours, a_single) = a.as_chunks::<4>();
    let (b_fours, b_single) = b.as_chunks::<4>();
    for (a, b) in a_fours.iter().zip(b_fours) {
        for i in 0..4 {
            sums[i] = simd.mul_add_e_f32s(a[i], b[i], sums[i]);
        }
    }
    for (a, b) in a_single.iter().zip(b_single) {
        sums[0] = simd.mul_add_e_f32s(*a, *b, sums[0]);
    }
    if !a_rest.is_empty() {
        let (a, b) = (simd.partial_load_f32s(a_rest), simd.partial_load_f32s(b_rest));
        sums[1] = simd.mul_add_e_f32s(a, b, sums[1]);
    }
    sum(simd, sums)
}

#[inline(always)]
fn sum<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> f32 {
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)))
}

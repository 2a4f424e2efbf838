//! A packed matrix in memory, and its weights row by row.

use burn::{backend::flex::FlexTensor, tensor::TensorMetadata};
use half::{f16, slice::HalfFloatSliceExt};
use multiversion::multiversion;
use pulp::bytemuck::cast_slice;

use super::super::{Levels, PackedMatrixParts, ZEROS_PER_WORD, streams, words_per_row};

/// Numbers that go side by side.
pub(super) const LANES: usize = 16;

/// A packed matrix in memory.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    words: &'a [i32],
    scales: &'a [f16],
    pub(super) levels: View<'a>,
    words_per_row: usize,
    /// Words of a row's first stream.
    split: usize,
    pub(super) rows: usize,
    pub(super) groups: usize,
    pub(super) bits: usize,
    pub(super) group: usize,
    pub(super) columns: usize,
}

/// What codes stand for.
#[derive(Clone, Copy)]
pub(super) enum View<'a> {
    /// Words of zeros.
    Even(&'a [i32]),
    /// A level for each code.
    Book(&'a [f32; 16]),
}

impl<'a> Matrix<'a> {
    pub(super) fn of(w: &'a PackedMatrixParts<FlexTensor, FlexTensor>) -> Matrix<'a> {
        Matrix {
            words: w.words.as_slice().expect("codes are contiguous 32-bit words"),
            scales: w.scales.as_slice().expect("scales are contiguous half floats"),
            levels: match &w.levels {
                Levels::Even(zeros) => {
                    View::Even(zeros.as_slice().expect("zeros are contiguous 32-bit words"))
                }
                Levels::Book(levels) => View::Book(levels),
            },
            words_per_row: w.words.shape()[1],
            split: words_per_row(w.columns, streams(w.bits)[0]),
            rows: w.scales.shape()[0],
            groups: w.scales.shape()[1],
            bits: w.bits,
            group: w.group,
            columns: w.columns,
        }
    }

    /// The words of a row's two streams.
    #[inline(always)]
    pub(super) fn words(&self, row: usize) -> [&'a [i32]; 2] {
        let (low, high) = self.words[row * self.words_per_row..][..self.words_per_row].split_at(self.split);
        [low, high]
    }

    /// Writes the scales `[rows, groups]` of as many rows as there is room for.
    #[inline(always)]
    pub(super) fn scales(&self, first: usize, scales: &mut [f32]) {
        self.scales[first * self.groups..][..scales.len()].convert_to_f32_slice(scales);
    }

    /// The scales of a row, as 16 bits.
    #[inline(always)]
    pub(super) fn half_scales(&self, row: usize) -> &'a [u16] {
        self.scales[row * self.groups..][..self.groups].reinterpret_cast()
    }

    /// The zeros of a row, as they lie in these words.
    #[inline(always)]
    pub(super) fn byte_zeros(&self, words: &'a [i32], row: usize) -> &'a [u8] {
        let per_row = self.zeros_per_row();
        &cast_slice(words)[row * per_row..][..self.groups]
    }

    /// Zeros of a row, those that fill up its last word included.
    pub(super) fn zeros_per_row(&self) -> usize {
        self.groups.next_multiple_of(ZEROS_PER_WORD)
    }

    /// Writes the zeros `[rows, zeros_per_row]` of as many rows as there is room for.
    #[inline(always)]
    pub(super) fn zeros(&self, words: &[i32], first: usize, zeros: &mut [f32]) {
        let words = &words[first * self.zeros_per_row() / ZEROS_PER_WORD..];
        set::<8, ZEROS_PER_WORD>(words, zeros);
    }

    /// Groups of a row, filled up to whole vectors.
    pub(super) fn padded_groups(&self) -> usize {
        self.groups.next_multiple_of(LANES)
    }
}

/// Writes the weights of some rows, `[rows, columns]`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+fma", "x86_64+avx2+fma"))]
pub(super) fn unpack_rows(m: Matrix, first: usize, out: &mut [f32]) {
    let mut codes = vec![0.0f32; m.columns.next_multiple_of(32)];
    let mut scales = vec![0.0f32; m.groups];
    let mut zeros = vec![0.0f32; m.zeros_per_row()];
    for (r, out) in out.chunks_exact_mut(m.columns).enumerate() {
        let row = first + r;
        let [low, high] = m.words(row);
        m.scales(row, &mut scales);
        if let View::Even(words) = m.levels {
            m.zeros(words, row, &mut zeros);
        }
        let groups = out.chunks_mut(m.group).zip(scales.iter().zip(&zeros));
        match (m.bits, m.levels) {
            // a code is a byte, or a word has eight: no second pass over numbers
            (8, View::Even(_)) => {
                for ((out, (scale, zero)), bytes) in groups.zip(cast_slice::<_, u8>(low).chunks(m.group)) {
                    for (w, code) in out.iter_mut().zip(bytes) {
                        *w = scale * (f32::from(*code) - zero);
                    }
                }
            }
            (4, View::Even(_)) => {
                for ((out, (scale, zero)), words) in groups.zip(low.chunks(m.group / 8)) {
                    let (eights, rest) = out.as_chunks_mut::<8>();
                    for (eight, word) in eights.iter_mut().zip(words) {
                        *eight = weights_of(*word, *scale, *zero);
                    }
                    if let Some(word) = words.get(eights.len()) {
                        rest.copy_from_slice(&weights_of(*word, *scale, *zero)[..rest.len()]);
                    }
                }
            }
            (bits, levels) => {
                match bits {
                    4..=6 => set::<4, 8>(low, &mut codes),
                    _ => set::<2, 16>(low, &mut codes),
                }
                match bits {
                    6 => add_high::<2, 16>(high, 16.0, &mut codes),
                    5 => add_high::<1, 32>(high, 16.0, &mut codes),
                    3 => add_high::<1, 32>(high, 4.0, &mut codes),
                    _ => {}
                }
                for ((out, (scale, zero)), codes) in groups.zip(codes.chunks(m.group)) {
                    for (w, code) in out.iter_mut().zip(codes) {
                        *w = match levels {
                            View::Even(_) => scale * (code - zero),
                            View::Book(levels) => scale * levels[*code as usize % levels.len()],
                        };
                    }
                }
            }
        }
    }
}

/// The weights of a word of 4-bit codes.
#[inline(always)]
fn weights_of(word: i32, scale: f32, zero: f32) -> [f32; 8] {
    std::array::from_fn(|i| scale * ((word >> (4 * i) & 15) as f32 - zero))
}

/// Writes the codes of a stream, of whole words.
#[inline(always)]
fn set<const BITS: u32, const PER_WORD: usize>(words: &[i32], codes: &mut [f32]) {
    let mask = (1i32 << BITS) - 1;
    for (word, codes) in words.iter().zip(codes.as_chunks_mut::<PER_WORD>().0) {
        for (i, code) in codes.iter_mut().enumerate() {
            *code = ((word >> (BITS * i as u32)) & mask) as f32;
        }
    }
}

/// Adds the codes of a second stream, each worth `worth`.
#[inline(always)]
fn add_high<const BITS: u32, const PER_WORD: usize>(words: &[i32], worth: f32, codes: &mut [f32]) {
    let mask = (1i32 << BITS) - 1;
    for (word, codes) in words.iter().zip(codes.as_chunks_mut::<PER_WORD>().0) {
        for (i, code) in codes.iter_mut().enumerate() {
            *code += worth * ((word >> (BITS * i as u32)) & mask) as f32;
        }
    }
}

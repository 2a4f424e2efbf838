//! A matrix of a model in whole numbers, as it stands in files and among the model's parts.

use std::{marker::PhantomData, sync::Arc};

use burn::{module::Module, tensor::backend::Backend};
use half::f16;

use super::IntegerMatrix;
use crate::techniques::quantization::packed::PackedWeights;

/// A matrix `[out, in]` of 8-bit numbers with a step for each row; its model multiplies with it, not it itself.
#[derive(Module, Debug)]
pub struct Integer<B: Backend> {
    /// The numbers, which the model in whole numbers shares.
    #[module(skip)]
    pub(super) codes: Arc<IntegerMatrix>,
    /// What one of them stands for, row by row.
    #[module(skip)]
    pub(super) steps: Arc<[f16]>,
    backend: PhantomData<B>,
}

impl<B: Backend> Integer<B> {
    /// Of weights packed in rows around zero.
    pub(crate) fn of(packed: &PackedWeights) -> Self {
        let shape = packed.shape;
        let rows = packed.words.chunks_exact(shape.words_per_row());
        let codes = rows.flat_map(|words| {
            let codes = words.iter().flat_map(|word| word.to_le_bytes());
            // from 128 on: the sign is in the first digit
            codes.take(shape.columns).map(|code| (code ^ 0x80) as i8)
        });
        Integer {
            codes: Arc::new(IntegerMatrix::new([shape.rows, shape.columns], codes.collect())),
            steps: packed.scales.as_slice().into(),
            backend: PhantomData,
        }
    }

    /// Rows and columns of the matrix.
    pub fn dims(&self) -> [usize; 2] {
        self.codes.dims()
    }

    /// The weights packed, as files have them.
    pub(crate) fn to_host(&self) -> PackedWeights {
        let [rows, columns] = self.dims();
        let codes = |row: usize| self.codes.row(row).iter().map(|code| *code as u8 ^ 0x80);
        PackedWeights::of_bytes([rows, columns], codes, self.steps.to_vec())
    }
}

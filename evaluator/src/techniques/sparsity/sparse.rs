//! Weights stored as their nonzeros: the form in memory, on disk and under multiplication. Nonzeros are floats, or packed to few bits.
//!
//! The layout itself is described where it is multiplied, in `ops/sparse_linear/`.

use burn::{
    module::Module,
    tensor::{DType, Int, Tensor, TensorData, backend::Backend},
};

use super::coded::{CodeForm, Coded, NonzeroCodes};
use crate::{
    counter,
    ops::{COLUMNS_PER_WORD, NonzeroParts, Ops, SparseLayout, SparseMatrixParts, sparse_linear, with_zeros},
};

/// Size of a sparse matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SparseShape {
    /// Output size.
    pub rows: usize,
    /// Input size.
    pub columns: usize,
    /// Nonzeros for each row; a row may have more where another one has less.
    pub kept: usize,
    /// How places are told.
    pub layout: SparseLayout,
    /// How nonzeros are packed; `None` for 32-bit floats.
    pub codes: Option<CodeForm>,
}

impl SparseShape {
    /// Weights that are stored and multiplied.
    pub fn nonzeros(&self) -> usize {
        self.rows * self.kept
    }

    /// 32-bit words in a row that tell where nonzeros stand.
    pub fn words_per_row(&self) -> usize {
        self.columns.div_ceil(COLUMNS_PER_WORD)
    }

    /// Bytes of nonzeros and places.
    pub fn bytes(&self) -> usize {
        let nonzeros = match self.codes {
            None => 4 * self.nonzeros(),
            Some(form) => form.bytes([self.rows, self.columns], self.nonzeros()),
        };
        nonzeros + 4 * self.rows * self.words_per_row()
    }
}

/// Sparse weights on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseWeights {
    /// Their size.
    shape: SparseShape,
    /// Words that tell where nonzeros stand.
    pub(crate) places: Vec<i32>,
    /// Nonzeros, row after row.
    pub(crate) values: HostNonzeros,
}

/// Nonzeros on the host, row after row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HostNonzeros {
    /// 32-bit floats.
    Floats(Vec<f32>),
    /// Codes of few bits.
    Codes(NonzeroCodes),
}

impl SparseWeights {
    /// Stores the weights `[rows, columns]` that are kept.
    pub(super) fn new(shape: SparseShape, weights: &[f32], kept: &[bool]) -> Self {
        let words = shape.words_per_row();
        let mut all_places = vec![0; shape.rows * words];
        let mut values = Vec::with_capacity(shape.nonzeros());
        for (r, (weights, kept)) in weights
            .chunks_exact(shape.columns)
            .zip(kept.chunks_exact(shape.columns))
            .enumerate()
        {
            let places = &mut all_places[r * words..(r + 1) * words];
            let row = (0..shape.columns).filter(|c| kept[*c]);
            for (number, c) in row.enumerate() {
                let (word, bits) = match shape.layout {
                    SparseLayout::Bitmap => (c / 32, 1 << (c % 32)),
                    SparseLayout::TwoOfFour => (number / 16, (c as u32 % 4) << (2 * (number % 16))),
                };
                places[word] = (places[word] as u32 | bits) as i32;
                values.push(weights[c]);
            }
        }
        SparseWeights {
            shape,
            places: all_places,
            values: HostNonzeros::Floats(values),
        }
    }

    /// Takes weights as a file has them.
    ///
    /// # Errors
    /// A sentence if the places are not those of so many nonzeros.
    pub(crate) fn read(shape: SparseShape, places: Vec<i32>, values: HostNonzeros) -> Result<Self, String> {
        let sparse = SparseWeights {
            shape,
            places,
            values,
        };
        let told = sparse.starts().last().map_or(0, |end| *end as usize);
        let stored = shape.nonzeros();
        if told != stored {
            return Err(format!("places of {told} nonzeros stand beside {stored}"));
        }
        Ok(sparse)
    }

    /// Where the nonzeros of each row begin and where the last ones end.
    fn starts(&self) -> Vec<i32> {
        let mut end = 0;
        let rows = self.places.chunks_exact(self.shape.words_per_row());
        let ends = rows.map(|row| {
            end += match self.shape.layout {
                SparseLayout::Bitmap => row.iter().map(|word| word.count_ones() as i32).sum(),
                SparseLayout::TwoOfFour => self.shape.kept as i32,
            };
            end
        });
        std::iter::once(0).chain(ends).collect()
    }

    /// The size.
    pub(crate) fn shape(&self) -> SparseShape {
        self.shape
    }

    /// The columns of a row's nonzeros, rising.
    pub(crate) fn columns_of(&self, row: usize) -> Vec<usize> {
        let (columns, words) = (self.shape.columns, self.shape.words_per_row());
        let places = &self.places[row * words..][..words];
        match self.shape.layout {
            SparseLayout::Bitmap => {
                let is_kept = |c: &usize| places[c / 32] as u32 >> (c % 32) & 1 == 1;
                (0..columns).filter(is_kept).collect()
            }
            SparseLayout::TwoOfFour => {
                let among_four = |i: usize| places[i / 16] as u32 >> (2 * (i % 16)) & 3;
                let column = |i: usize| i / 2 * 4 + among_four(i) as usize;
                (0..self.shape.kept).map(column).collect()
            }
        }
    }

    /// The same places with these codes for nonzeros.
    pub(crate) fn with_codes(self, codes: NonzeroCodes) -> Self {
        SparseWeights {
            shape: SparseShape {
                codes: Some(codes.form),
                ..self.shape
            },
            values: HostNonzeros::Codes(codes),
            ..self
        }
    }

    /// Moves the weights to a device.
    pub(crate) fn into_module<B: Backend>(self, device: &B::Device) -> Sparse<B> {
        let (shape, starts) = (self.shape, self.starts());
        let places = TensorData::new(self.places, [shape.rows, shape.words_per_row()]);
        let values = match self.values {
            HostNonzeros::Floats(floats) => {
                let floats = TensorData::new(floats, [shape.nonzeros()]);
                Nonzeros::Floats(Tensor::from_data(floats, (device, DType::F32)))
            }
            HostNonzeros::Codes(codes) => Nonzeros::Codes(codes.into_module(device)),
        };
        let starts = TensorData::new(starts, [shape.rows + 1]);
        Sparse {
            places: Tensor::from_data(places, (device, DType::I32)),
            values,
            starts: Tensor::from_data(starts, (device, DType::I32)),
            columns: shape.columns,
            layout: shape.layout,
        }
    }
}

/// A sparse matrix `[out, in]`.
#[derive(Module, Debug)]
pub struct Sparse<B: Backend> {
    places: Tensor<B, 2, Int>,
    values: Nonzeros<B>,
    starts: Tensor<B, 1, Int>,
    columns: usize,
    #[module(skip)]
    layout: SparseLayout,
}

/// Nonzeros, row after row.
#[derive(Module, Debug)]
pub enum Nonzeros<B: Backend> {
    /// 32-bit floats.
    Floats(Tensor<B, 1>),
    /// Codes of few bits.
    Codes(Coded<B>),
}

impl<B: Backend> Sparse<B> {
    /// Rows and columns of the matrix.
    pub fn dims(&self) -> [usize; 2] {
        [self.places.dims()[0], self.columns]
    }

    pub(crate) fn device(&self) -> B::Device {
        self.starts.device()
    }

    /// Weights that are stored and multiplied.
    pub fn nonzeros(&self) -> usize {
        match &self.values {
            Nonzeros::Floats(floats) => floats.dims()[0],
            Nonzeros::Codes(codes) => codes.nonzeros,
        }
    }

    /// The weights on the host, still sparse.
    pub(crate) fn to_host(&self) -> SparseWeights {
        let [rows, columns] = self.dims();
        SparseWeights {
            shape: SparseShape {
                rows,
                columns,
                kept: self.nonzeros() / rows,
                layout: self.layout,
                codes: match &self.values {
                    Nonzeros::Floats(_) => None,
                    Nonzeros::Codes(codes) => Some(codes.form()),
                },
            },
            places: self.places.to_data().iter::<i32>().collect(),
            values: match &self.values {
                Nonzeros::Floats(floats) => HostNonzeros::Floats(floats.to_data().iter::<f32>().collect()),
                Nonzeros::Codes(codes) => HostNonzeros::Codes(codes.to_host(columns)),
            },
        }
    }

    /// The dense matrix `[out, in]`, zeros included.
    pub fn with_zeros(&self) -> Tensor<B, 2> {
        with_zeros(self.parts())
    }

    fn parts(&self) -> SparseMatrixParts<burn::tensor::ops::IntTensor<B>, burn::tensor::ops::FloatTensor<B>> {
        SparseMatrixParts {
            places: self.places.clone().into_primitive(),
            values: match &self.values {
                Nonzeros::Floats(floats) => NonzeroParts::Floats(floats.clone().into_primitive().tensor()),
                Nonzeros::Codes(codes) => NonzeroParts::Codes(codes.parts()),
            },
            starts: self.starts.clone().into_primitive(),
            columns: self.columns,
            layout: self.layout,
        }
    }
}

impl<B: Ops> Sparse<B> {
    pub(crate) fn apply<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        counter::add_activity(super::ACTIVITY[1], 1);
        sparse_linear(x, self.parts())
    }
}

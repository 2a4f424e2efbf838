//! The kernels for processors: how work is shared out, for few rows of inputs and for many.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use rayon::prelude::*;

use super::{
    COLUMNS_PER_WORD, NonzeroParts, SparseLayout, SparseLinearOp, SparseMatrixParts,
    codes::{Codes, LANES, unpack},
    few::Task,
    many,
};
use crate::{
    counter,
    ops::{contiguous, cpu_tensor, simd, values},
};

/// Multiply-adds of one task at least.
const MACS_PER_TASK: usize = 32 * 1024;

/// Rows of inputs from which on it is worth finding a row's places once for many inputs that lie side by side.
fn many(layout: SparseLayout) -> usize {
    match layout {
        SparseLayout::Bitmap => 4,
        SparseLayout::TwoOfFour => 8,
    }
}

/// Nonzeros that become floats at once for few inputs: as many as stay in a core's first cache.
const FLOATS_FOR_FEW: usize = 8 * 1024;

/// The same for many inputs, whose tiles are read once for all of these rows.
const FLOATS_FOR_MANY: usize = 64 * 1024;

impl SparseLinearOp for Flex {
    fn sparse_linear_forward(x: FlexTensor, w: SparseMatrixParts<FlexTensor, FlexTensor>) -> FlexTensor {
        let x = contiguous(x);
        let n = x.shape()[0];
        let stored = Stored::of(&w);
        let (rows, columns) = (stored.matrix.rows(), w.columns);
        let nonzeros = stored.matrix.start(rows);
        counter::add_macs(n * nonzeros);
        let per_row = (nonzeros / rows).max(1);
        // every task owns whole rows of the matrix, and work enough to be worth a task
        let share = |n: usize| {
            let least = MACS_PER_TASK.div_ceil(n * per_row);
            least.max(rows.div_ceil(rayon::current_num_threads()))
        };
        let mut turned = vec![0.0f32; rows * n];
        let tasks = turned.par_chunks_mut(n * share(n)).enumerate();
        if n < many(w.layout) {
            let inputs: Vec<Vec<f32>> = values(&x).chunks_exact(columns).map(padded).collect();
            tasks.for_each(|(task, y)| {
                stored.multiply(
                    task * share(n),
                    [n, FLOATS_FOR_FEW / per_row],
                    y,
                    |m, first, y| {
                        let inputs = &inputs;
                        Task { m, first, inputs, y }.multiply();
                    },
                );
            });
            if n == 1 {
                return cpu_tensor(turned, &[1, rows]);
            }
        } else {
            let inputs = many::Inputs::of(values(&x), columns);
            tasks.for_each(|(task, y)| {
                stored.multiply(
                    task * share(n),
                    [n, FLOATS_FOR_MANY / per_row],
                    y,
                    |m, first, y| {
                        many::multiply(m, first, &inputs, y);
                    },
                );
            });
        }
        let mut y = vec![0.0f32; n * rows];
        simd::transpose(&turned, n, rows, n, &mut y);
        cpu_tensor(y, &[n, rows])
    }
}

/// Inputs `[columns]` filled up to whole words.
fn padded(x: &[f32]) -> Vec<f32> {
    let mut padded = vec![0.0; x.len().next_multiple_of(COLUMNS_PER_WORD)];
    padded[..x.len()].copy_from_slice(x);
    padded
}

/// A sparse matrix as it is stored.
struct Stored<'a> {
    /// Without nonzeros where these are codes.
    matrix: Matrix<'a>,
    codes: Option<Codes<'a>>,
}

impl<'a> Stored<'a> {
    fn of(w: &'a SparseMatrixParts<FlexTensor, FlexTensor>) -> Stored<'a> {
        let (floats, codes) = match &w.values {
            NonzeroParts::Floats(floats) => (values(floats), None),
            NonzeroParts::Codes(codes) => (&[][..], Some(Codes::of(codes))),
        };
        let matrix = Matrix {
            places: w.places.as_slice().expect("places are contiguous 32-bit words"),
            values: floats,
            before: 0,
            starts: w.starts.as_slice().expect("starts are contiguous 32-bit words"),
            words_per_row: w.places.shape()[1],
            layout: w.layout,
        };
        Stored { matrix, codes }
    }

    /// Has `work` make the products `y [rows, n]` of rows from `first` on: of all at once, or where nonzeros are codes of so many
    /// rows at a time, whose nonzeros are floats as long as it lasts.
    fn multiply(
        &self,
        first: usize,
        [n, rows_at_once]: [usize; 2],
        y: &mut [f32],
        work: impl Fn(&Matrix, usize, &mut [f32]),
    ) {
        let Some(codes) = self.codes else {
            return work(&self.matrix, first, y);
        };
        let (m, rows_at_once) = (self.matrix, rows_at_once.max(1));
        let mut floats = vec![];
        for (block, y) in y.chunks_mut(n * rows_at_once).enumerate() {
            let first = first + block * rows_at_once;
            let rows = first..first + y.len() / n;
            let before = m.start(rows.start);
            floats.resize(m.start(rows.end) - before + LANES, 0.0);
            unpack(m, codes, rows, &mut floats);
            let unpacked = Matrix {
                values: &floats,
                before,
                ..m
            };
            work(&unpacked, first, y);
        }
    }
}

/// A sparse matrix in memory, or nonzeros of some of its rows.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    places: &'a [i32],
    pub(super) values: &'a [f32],
    /// Nonzeros before the first that is there.
    before: usize,
    starts: &'a [i32],
    pub(super) words_per_row: usize,
    pub(super) layout: SparseLayout,
}

impl<'a> Matrix<'a> {
    fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The words of a row.
    #[inline(always)]
    pub(super) fn places(&self, row: usize) -> &'a [i32] {
        &self.places[row * self.words_per_row..(row + 1) * self.words_per_row]
    }

    /// Where the nonzeros of a row begin.
    #[inline(always)]
    pub(super) fn start(&self, row: usize) -> usize {
        self.starts[row] as usize - self.before
    }

    /// The nonzeros of a row.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        &self.values[self.start(row)..self.start(row + 1)]
    }

    /// Writes the columns of the nonzeros of a block of words, counted from its first, and gives how many there are; `left` are left of the row.
    #[inline(always)]
    pub(super) fn columns_of(&self, words: &[i32], left: usize, columns: &mut BlockColumns) -> usize {
        let mut n = 0;
        match self.layout {
            SparseLayout::Bitmap => {
                // whole eights are written, of which the next one covers what is too much: nothing depends on how many there are
                for (w, word) in words.iter().enumerate() {
                    for (i, byte) in word.to_le_bytes().into_iter().enumerate() {
                        let first = (COLUMNS_PER_WORD * w + 8 * i) as u64;
                        let eight = SET_BITS[byte as usize] + first * 0x0101_0101_0101_0101;
                        columns[n..n + 8].copy_from_slice(&eight.to_le_bytes());
                        n += byte.count_ones() as usize;
                    }
                }
            }
            SparseLayout::TwoOfFour => {
                for (w, word) in words.iter().enumerate() {
                    for i in 0..COLUMNS_PER_WORD / 2 {
                        let place = *word as u32 >> (2 * i) & 3;
                        columns[n + i] = (COLUMNS_PER_WORD * w + 4 * (i / 2)) as u8 + place as u8;
                    }
                    n += COLUMNS_PER_WORD / 2;
                }
                n = n.min(left);
            }
        }
        n
    }
}

/// Words of a row that are taken at once: their inputs stay in a core's first cache, and their columns are told in a byte.
pub(super) const WORDS_PER_BLOCK: usize = 4;

/// The columns of a block's nonzeros, with room for what is written too much.
pub(super) type BlockColumns = [u8; WORDS_PER_BLOCK * COLUMNS_PER_WORD + 8];

/// For each byte the numbers of its bits that are set, one in each byte.
const SET_BITS: [u64; 256] = {
    let mut all = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut n) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                all[byte] |= bit << (8 * n);
                n += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    all
};

#[cfg(test)]
pub(super) mod tests {
    use burn::tensor::{DType, Distribution, Int, Tensor, TensorData, Tolerance};

    use super::{super::few, *};
    use crate::ops::{sparse_linear, unwrap, with_zeros};

    /// A matrix of random places: row `r` of a bitmap keeps about one of `r % 5 + 1` columns, and one row none.
    pub(in super::super) fn matrix(
        rows: usize,
        columns: usize,
        layout: SparseLayout,
    ) -> SparseMatrixParts<FlexTensor, FlexTensor> {
        let words = columns.div_ceil(COLUMNS_PER_WORD);
        let mut state = 1u32;
        let mut next = |n: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % n
        };
        let mut places = vec![0u32; rows * words];
        let (mut values, mut starts) = (vec![], vec![0i32]);
        for r in 0..rows {
            let places = &mut places[r * words..(r + 1) * words];
            let mut add = |values: &mut Vec<f32>| values.push(next(2001) as f32 / 1000.0 - 1.0);
            match layout {
                SparseLayout::Bitmap => {
                    for c in (0..columns).filter(|c| r != 3 && (c * 7 + r * r) % (r % 5 + 1) == 0) {
                        places[c / 32] |= 1 << (c % 32);
                        add(&mut values);
                    }
                }
                SparseLayout::TwoOfFour => {
                    for four in 0..columns / 4 {
                        let (a, b) = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)][(four * 5 + r) % 6];
                        for (i, place) in [a, b].into_iter().enumerate() {
                            let number = 2 * four + i;
                            places[number / 16] |= place << (2 * (number % 16));
                            add(&mut values);
                        }
                    }
                }
            }
            starts.push(values.len() as i32);
        }
        let device = Default::default();
        let ints = |values: Vec<i32>, shape: &[usize]| TensorData::new(values, shape.to_vec());
        let places = ints(places.into_iter().map(|w| w as i32).collect(), &[rows, words]);
        let starts = ints(starts, &[rows + 1]);
        let values = TensorData::new(values.clone(), [values.len()]);
        SparseMatrixParts {
            places: Tensor::<Flex, 2, Int>::from_data(places, (&device, DType::I32)).into_primitive(),
            values: NonzeroParts::Floats(unwrap(Tensor::<Flex, 1>::from_data(
                values,
                (&device, DType::F32),
            ))),
            starts: Tensor::<Flex, 1, Int>::from_data(starts, (&device, DType::I32)).into_primitive(),
            columns,
            layout,
        }
    }

    #[test]
    fn sparse_kernels_equal_the_dense_product_with_zeros() {
        let device = Default::default();
        for (layout, widths) in [
            (SparseLayout::Bitmap, [1, 5, 31, 32, 33, 100, 330]),
            (SparseLayout::TwoOfFour, [4, 8, 28, 32, 36, 100, 332]),
        ] {
            for columns in widths {
                for rows in [1, 19, 150] {
                    let w = matrix(rows, columns, layout);
                    let nonzeros = Stored::of(&w).matrix.values.len();
                    let dense = with_zeros::<Flex>(w.clone());
                    let count: f32 = dense
                        .clone()
                        .abs()
                        .into_data()
                        .iter::<f32>()
                        .filter(|w| *w != 0.0)
                        .count() as f32;
                    assert!(count <= nonzeros as f32 && count >= 0.99 * nonzeros as f32 - 1.0);
                    for n in [1, 2, 4, 7, 9, 17, 64, 130] {
                        let x =
                            Tensor::<Flex, 2>::random([n, columns], Distribution::Normal(0.0, 1.0), &device);
                        let (y, macs) =
                            counter::count_macs(|| sparse_linear::<Flex, 2>(x.clone(), w.clone()));
                        assert_eq!(macs, (n * nonzeros) as u64);
                        let expected = x.matmul(dense.clone().transpose());
                        // of sums of hundreds of products, whose size is about ten
                        y.into_data()
                            .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::rel_abs(1e-5, 1e-4));
                    }
                }
            }
        }
    }

    #[test]
    fn plain_loops_agree_with_the_vector_instructions() {
        for (layout, columns) in [(SparseLayout::Bitmap, 133), (SparseLayout::TwoOfFour, 132)] {
            let w = matrix(23, columns, layout);
            let m = Stored::of(&w).matrix;
            let x: Vec<f32> = (0..columns).map(|i| (i as f32 * 0.37).sin()).collect();
            let x = vec![padded(&x)];
            let mut found: Vec<Vec<f32>> = vec![];
            let mut find = |multiply: &dyn Fn(Task)| {
                let mut y = vec![0.0; 23];
                multiply(Task {
                    m: &m,
                    first: 0,
                    inputs: &x,
                    y: &mut y,
                });
                found.push(y);
            };
            find(&|task| task.multiply_plainly());
            find(&|task| task.multiply());
            // which a processor with wider vectors does not use
            #[cfg(target_arch = "x86_64")]
            if let Some(simd) = pulp::x86::V3::try_new() {
                find(&|task| simd.vectorize(few::InVectors(simd, task)));
            }
            for vectors in &found[1..] {
                for (a, b) in vectors.iter().zip(&found[0]) {
                    assert!((a - b).abs() < 1e-5, "{layout:?}: {a} {b}");
                }
            }
        }
    }
}

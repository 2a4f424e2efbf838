//! Many rows of inputs: they lie side by side, so that one nonzero is multiplied with whole vectors of them.

use pulp::{Arch, Simd, WithSimd};

use super::{
    COLUMNS_PER_WORD,
    cpu::{BlockColumns, Matrix, WORDS_PER_BLOCK},
};

/// Vectors of inputs side by side, where there are so many inputs.
const VECTORS: usize = 4;

/// Inputs in tiles.
pub(super) struct Inputs {
    tiles: Vec<InputTile>,
    n: usize,
    lanes: usize,
}

/// Some inputs side by side, `[columns, inputs]`: columns filled up to whole words and inputs to whole vectors with zeros.
struct InputTile {
    values: Vec<f32>,
    /// 1, 2 or 4.
    vectors: usize,
}

impl Inputs {
    /// Lays out `x [n, columns]`.
    pub(super) fn of(x: &[f32], columns: usize) -> Inputs {
        let lanes = Arch::new().dispatch(Lanes);
        let tile = |x: &[f32]| {
            let vectors = (x.len() / columns).div_ceil(lanes).next_power_of_two();
            let width = vectors * lanes;
            let mut values = vec![0.0f32; columns.next_multiple_of(COLUMNS_PER_WORD) * width];
            for (i, x) in x.chunks_exact(columns).enumerate() {
                for (c, x) in x.iter().enumerate() {
                    values[c * width + i] = *x;
                }
            }
            InputTile { values, vectors }
        };
        Inputs {
            tiles: x.chunks(VECTORS * lanes * columns).map(tile).collect(),
            n: x.len() / columns,
            lanes,
        }
    }
}

/// Numbers of a vector.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// `y[r][s] = row r · x[s]` for the rows of one task, of which `first` is the first.
pub(super) fn multiply(m: &Matrix, first: usize, inputs: &Inputs, y: &mut [f32]) {
    let rows = y.len() / inputs.n;
    let mut begin = 0;
    for InputTile { values, vectors } in &inputs.tiles {
        let width = vectors * inputs.lanes;
        let mut sums = vec![0.0f32; rows * width];
        let (tile, all, arch) = (values, &mut sums[..], Arch::new());
        match vectors {
            1 => arch.dispatch(Tile::<1> {
                m,
                first,
                tile,
                sums: all,
            }),
            2 => arch.dispatch(Tile::<2> {
                m,
                first,
                tile,
                sums: all,
            }),
            _ => arch.dispatch(Tile::<VECTORS> {
                m,
                first,
                tile,
                sums: all,
            }),
        }
        let end = (begin + width).min(inputs.n);
        for (y, sums) in y.chunks_exact_mut(inputs.n).zip(sums.chunks_exact(width)) {
            y[begin..end].copy_from_slice(&sums[..end - begin]);
        }
        begin = end;
    }
}

/// Adds the products of some rows with one tile of inputs to `sums [rows, inputs of a tile]`.
struct Tile<'a, const V: usize> {
    m: &'a Matrix<'a>,
    first: usize,
    tile: &'a [f32],
    sums: &'a mut [f32],
}

impl<const V: usize> WithSimd for Tile<'_, V> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Tile { m, first, tile, sums } = self;
        let tile = S::as_simd_f32s(tile).0.as_chunks::<V>().0;
        let sums = S::as_mut_simd_f32s(sums).0.as_chunks_mut::<V>().0;
        // how far each row's nonzeros are used up
        let mut cursors: Vec<usize> = (first..first + sums.len()).map(|row| m.start(row)).collect();
        let mut columns: BlockColumns = [0; _];
        for block in (0..m.words_per_row).step_by(WORDS_PER_BLOCK) {
            let words = block..(block + WORDS_PER_BLOCK).min(m.words_per_row);
            let inputs = &tile[words.start * COLUMNS_PER_WORD..words.end * COLUMNS_PER_WORD];
            for (r, (sums, cursor)) in sums.iter_mut().zip(&mut cursors).enumerate() {
                let left = m.start(first + r + 1) - *cursor;
                let n = m.columns_of(&m.places(first + r)[words.clone()], left, &mut columns);
                let weights = &m.values[*cursor..*cursor + n];
                *cursor += n;
                add_products(simd, weights, &columns[..n], inputs, sums);
            }
        }
    }
}

/// Adds each weight's product with the inputs of its column. Two sets of sums, so that no addition waits for the one before.
#[inline(always)]
fn add_products<S: Simd, const V: usize>(
    simd: S,
    weights: &[f32],
    columns: &[u8],
    inputs: &[[S::f32s; V]],
    sums: &mut [S::f32s; V],
) {
    let mut even = *sums;
    let mut odd = [simd.splat_f32s(0.0); V];
    let (weights, last_weight) = weights.as_chunks::<2>();
    let (columns, last_column) = columns.as_chunks::<2>();
    for (w, c) in weights.iter().zip(columns) {
        let (a, b) = (simd.splat_f32s(w[0]), simd.splat_f32s(w[1]));
        let (x, z) = (&inputs[c[0] as usize], &inputs[c[1] as usize]);
        for v in 0..V {
            even[v] = simd.mul_add_e_f32s(a, x[v], even[v]);
        }
        for v in 0..V {
            odd[v] = simd.mul_add_e_f32s(b, z[v], odd[v]);
        }
    }
    if let ([w], [c]) = (last_weight, last_column) {
        let x = &inputs[*c as usize];
        for v in 0..V {
            even[v] = simd.mul_add_e_f32s(simd.splat_f32s(*w), x[v], even[v]);
        }
    }
    for v in 0..V {
        sums[v] = simd.add_f32s(even[v], odd[v]);
    }
}

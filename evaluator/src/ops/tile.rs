//! Products of small matrices in register tiles: `out[r][j] += Σ_c weight(r, c) matrix[c][j]`.
//!
//! For products inside a kernel, which are too small or too oddly shaped for a library's packed ones. A tile holds a few
//! rows and two vectors of sums, so that each number that is loaded takes part in several multiply-adds.

#![expect(
    clippy::needless_range_loop,
    reason = "one index runs over several tiles of registers"
)]

use pulp::Simd;

/// Vectors of a tile.
const VECTORS: usize = 2;

/// Numbers in rows: row `r`, column `c` stands at `r * row + c * column`.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    values: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> Weights<'a> {
    /// Rows that are `stride` apart.
    pub(super) fn rows(values: &'a [f32], stride: usize) -> Self {
        Weights {
            values,
            row: stride,
            column: 1,
        }
    }

    /// Columns that are `stride` apart.
    pub(super) fn columns(values: &'a [f32], stride: usize) -> Self {
        Weights {
            values,
            row: 1,
            column: stride,
        }
    }
}

/// Adds the product of `rows` x `depth` weights with a `depth` x `columns` matrix, whose rows are `stride` apart, to rows
/// that are `out_stride` apart.
#[inline(always)]
pub(super) fn add_product<S: Simd>(
    simd: S,
    [rows, depth, columns]: [usize; 3],
    weights: Weights,
    (matrix, stride): (&[f32], usize),
    (out, out_stride): (&mut [f32], usize),
) {
    let (sizes, m) = ([rows, depth, columns], (matrix, stride));
    let mut done = 0;
    // sixteen sums in registers where there are 32 of them, else twelve; eight rows are left to two groups of four
    if S::REGISTER_COUNT >= 32 {
        done = add_rows::<S, 8>(simd, done, sizes, weights, m, (out, out_stride));
    } else {
        let sixes = if rows % 6 == 2 { rows - 8.min(rows) } else { rows };
        done = add_rows::<S, 6>(simd, done, [sixes, depth, columns], weights, m, (out, out_stride));
    }
    done = add_rows::<S, 4>(simd, done, sizes, weights, m, (out, out_stride));
    add_rows::<S, 1>(simd, done, sizes, weights, m, (out, out_stride));
}

/// Takes as many rows from `first` on as make whole groups of `R`; gives the row after them.
#[inline(always)]
fn add_rows<S: Simd, const R: usize>(
    simd: S,
    first: usize,
    [rows, depth, columns]: [usize; 3],
    weights: Weights,
    (matrix, stride): (&[f32], usize),
    (out, out_stride): (&mut [f32], usize),
) -> usize {
    let lanes = S::F32_LANES;
    let wide = VECTORS * lanes;
    let mut r = first;
    while r + R <= rows {
        let weights = Weights {
            values: &weights.values[r * weights.row..],
            ..weights
        };
        let out = &mut out[r * out_stride..];
        let mut j = 0;
        while j + wide <= columns {
            let sums = if R == 1 {
                [sums_of_one(simd, depth, weights, &matrix[j..], stride); R]
            } else {
                sums::<S, R>(simd, depth, weights, &matrix[j..], stride)
            };
            for (r, sums) in sums.iter().enumerate() {
                let (line, _) = S::as_mut_simd_f32s(&mut out[r * out_stride + j..][..wide]);
                for (o, s) in line.iter_mut().zip(sums) {
                    *o = simd.add_f32s(*o, *s);
                }
            }
            j += wide;
        }
        while j < columns {
            let n = lanes.min(columns - j);
            let sums = narrow_sums::<S, R>(simd, depth, weights, &matrix[j..], stride, n);
            for (r, sum) in sums.iter().enumerate() {
                let line = &mut out[r * out_stride + j..][..n];
                let o = simd.partial_load_f32s(line);
                simd.partial_store_f32s(line, simd.add_f32s(o, *sum));
            }
            j += n;
        }
        r += R;
    }
    r
}

/// Sums of a tile.
#[inline(always)]
fn sums<S: Simd, const R: usize>(
    simd: S,
    depth: usize,
    weights: Weights,
    matrix: &[f32],
    stride: usize,
) -> [[S::f32s; VECTORS]; R] {
    // rows and columns apart, so that the bounds of a step's weights are checked once, or never
    if weights.column == 1 {
        let mut rows = [[].as_slice(); R];
        for r in 0..R {
            rows[r] = &weights.values[r * weights.row..][..depth];
        }
        let step = |c| {
            let mut w = [0.0; R];
            for r in 0..R {
                w[r] = rows[r][c];
            }
            w
        };
        sums_of_steps(simd, depth, step, matrix, stride)
    } else {
        let step = |c| weights.values[c * weights.column..].as_chunks().0[0];
        sums_of_steps(simd, depth, step, matrix, stride)
    }
}

/// The same for the weights that each step gives.
#[inline(always)]
fn sums_of_steps<S: Simd, const R: usize>(
    simd: S,
    depth: usize,
    step: impl Fn(usize) -> [f32; R],
    matrix: &[f32],
    stride: usize,
) -> [[S::f32s; VECTORS]; R] {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; R];
    for c in 0..depth {
        let (line, _) = S::as_simd_f32s(&matrix[c * stride..][..VECTORS * S::F32_LANES]);
        let w = step(c);
        for r in 0..R {
            let w = simd.splat_f32s(w[r]);
            for v in 0..VECTORS {
                sums[r][v] = simd.mul_add_e_f32s(w, line[v], sums[r][v]);
            }
        }
    }
    sums
}

/// Sums of one row: four partial ones for each, so that no addition waits for the one before.
#[inline(always)]
fn sums_of_one<S: Simd>(
    simd: S,
    depth: usize,
    weights: Weights,
    matrix: &[f32],
    stride: usize,
) -> [S::f32s; VECTORS] {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; 4];
    let mut c = 0;
    while c < depth {
        let turns = 4.min(depth - c);
        for t in 0..4 {
            if t < turns {
                let (line, _) = S::as_simd_f32s(&matrix[(c + t) * stride..][..VECTORS * S::F32_LANES]);
                let w = simd.splat_f32s(weights.values[(c + t) * weights.column]);
                for v in 0..VECTORS {
                    sums[t][v] = simd.mul_add_e_f32s(w, line[v], sums[t][v]);
                }
            }
        }
        c += 4;
    }
    for t in 1..4 {
        for v in 0..VECTORS {
            sums[0][v] = simd.add_f32s(sums[0][v], sums[t][v]);
        }
    }
    sums[0]
}

/// The same for the first `n` lanes of one vector.
#[inline(always)]
fn narrow_sums<S: Simd, const R: usize>(
    simd: S,
    depth: usize,
    weights: Weights,
    matrix: &[f32],
    stride: usize,
    n: usize,
) -> [S::f32s; R] {
    let mut sums = [simd.splat_f32s(0.0); R];
    for c in 0..depth {
        let line = simd.partial_load_f32s(&matrix[c * stride..][..n]);
        for r in 0..R {
            let w = simd.splat_f32s(weights.values[r * weights.row + c * weights.column]);
            sums[r] = simd.mul_add_e_f32s(w, line, sums[r]);
        }
    }
    sums
}

/// Products of `x` with each of the first rows of `w`, which are `stride` apart. Plain loops: what takes a closure is not compiled for the vectors.
#[inline(always)]
pub(super) fn dots<S: Simd, const R: usize>(simd: S, x: &[f32], w: &[f32], stride: usize) -> [f32; R] {
    let k = x.len();
    let (x, x_rest) = S::as_simd_f32s(x);
    let mut rows: [(&[S::f32s], &[f32]); R] = [(&[], &[]); R];
    for r in 0..R {
        rows[r] = S::as_simd_f32s(&w[r * stride..][..k]);
    }
    let mut sums = [simd.splat_f32s(0.0); R];
    for c in 0..x.len() {
        for r in 0..R {
            sums[r] = simd.mul_add_e_f32s(rows[r].0[c], x[c], sums[r]);
        }
    }
    if !x_rest.is_empty() {
        let x = simd.partial_load_f32s(x_rest);
        for r in 0..R {
            sums[r] = simd.mul_add_e_f32s(simd.partial_load_f32s(rows[r].1), x, sums[r]);
        }
    }
    let mut products = [0.0; R];
    for r in 0..R {
        products[r] = simd.reduce_sum_f32s(sums[r]);
    }
    products
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;

    struct Product<'a> {
        sizes: [usize; 3],
        weights: Weights<'a>,
        matrix: (&'a [f32], usize),
        out: (&'a mut [f32], usize),
    }

    impl WithSimd for Product<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            add_product(simd, self.sizes, self.weights, self.matrix, self.out);
        }
    }

    #[test]
    fn tiles_of_every_size_agree_with_plain_loops() {
        let numbers = |n: usize, seed: f32| (0..n).map(|i| (i as f32 * seed).sin()).collect::<Vec<_>>();
        for rows in [1, 2, 3, 4, 6, 8, 13, 14, 16] {
            for depth in [1, 5, 32] {
                for columns in [1, 8, 16, 31, 32, 33, 80] {
                    for turned in [false, true] {
                        let (stride, out_stride) = (columns + 3, columns + 1);
                        let values = numbers(rows * depth, 0.37);
                        let (row, column) = if turned { (1, rows) } else { (depth, 1) };
                        let weights = if turned {
                            Weights::columns(&values, rows)
                        } else {
                            Weights::rows(&values, depth)
                        };
                        let matrix = numbers(depth * stride, 0.73);
                        let before = numbers(rows * out_stride, 0.11);
                        let mut out = before.clone();
                        Arch::new().dispatch(Product {
                            sizes: [rows, depth, columns],
                            weights,
                            matrix: (&matrix, stride),
                            out: (&mut out, out_stride),
                        });
                        for r in 0..rows {
                            for j in 0..out_stride {
                                let sum = |c| values[r * row + c * column] * matrix[c * stride + j];
                                let added = if j < columns {
                                    (0..depth).map(sum).sum()
                                } else {
                                    0.0
                                };
                                let wanted: f32 = before[r * out_stride + j] + added;
                                assert!(
                                    (out[r * out_stride + j] - wanted).abs() < 1e-4,
                                    "{rows} {depth} {columns}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

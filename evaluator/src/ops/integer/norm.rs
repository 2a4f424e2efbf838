//! RMSNorm in whole numbers: one root and one division for each row, then products and shifts.

use rayon::prelude::*;

use super::{Dyadic, i_sqrt, whole};

/// What the residual stream is cut off at, so that sums of squares fit in 64 bits: sixteen times the largest number seen while a model
/// is calibrated.
pub const STREAM_LIMIT: i32 = 1 << 24;

/// Binary digits after the point of a component over the root of the sum of squares.
const UNIT_BITS: u32 = 24;
/// Elements of a task at least.
const ELEMENTS_PER_TASK: usize = 4 * 1024;

whole! {
    /// A norm, with the step of what it gives in its scale.
    #[derive(Clone, Debug)]
    pub struct IntegerNorm {
        gains: Vec<Dyadic>,
        epsilon: i64,
    }
}

impl IntegerNorm {
    /// Of a scale for each component, and what is added to each mean square in squares of the stream's step.
    #[expect(
        clippy::float_arithmetic,
        reason = "a norm is built of floats, and works without"
    )]
    pub fn new(gains: &[f64], epsilon: f64) -> Self {
        // the mean over the width is a sum, and its root a factor of every component
        let width = gains.len() as f64;
        let factor = width.sqrt() / f64::from(1u32 << UNIT_BITS);
        IntegerNorm {
            gains: gains.iter().map(|gain| Dyadic::nearest(gain * factor)).collect(),
            epsilon: ((epsilon * width).round() as i64).clamp(1, 1 << 60),
        }
    }

    /// Normalised rows of `x [n, width]`, of which none exceeds [`STREAM_LIMIT`].
    pub fn apply(&self, x: &[i32], out: &mut [i8]) {
        let width = self.gains.len();
        let rows = out.par_chunks_exact_mut(width).zip(x.par_chunks_exact(width));
        rows.with_min_len(ELEMENTS_PER_TASK.div_ceil(width))
            .for_each(|(out, x)| self.row(x, out));
    }

    fn row(&self, x: &[i32], out: &mut [i8]) {
        let squares = x.iter().map(|x| i64::from(*x) * i64::from(*x));
        let sum = squares.sum::<i64>().saturating_add(self.epsilon) as u64;
        // shifted to 61 or 62 digits, so that its root has 31 whatever the stream's size
        let shift = sum.leading_zeros().saturating_sub(2) / 2;
        let root = i_sqrt(sum << (2 * shift)) as i64;
        let inverse = (1i64 << 61) / root;
        let down = 61 - shift - UNIT_BITS;
        for ((out, x), gain) in out.iter_mut().zip(x).zip(&self.gains) {
            *out = gain.to_i8((i64::from(*x) * inverse) >> down);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_all_sizes_are_within_half_a_step_of_the_definition() {
        let (width, step) = (37, 0.025f64);
        let gains: Vec<f64> = (0..width).map(|i| 1.0 - 0.06 * i as f64).collect();
        for (size, epsilon) in [
            (3, 4.0),
            (90, 4.0),
            (1 << 13, 1e3),
            (1 << 20, 1e7),
            (STREAM_LIMIT, 1e7),
        ] {
            let norm = IntegerNorm::new(&gains.iter().map(|g| g / step).collect::<Vec<_>>(), epsilon);
            let x: Vec<i32> = (0..3 * width as i64)
                .map(|i| (i64::from(size) * ((i * 7919) % 199 - 99) / 99) as i32)
                .collect();
            let mut out = vec![0i8; x.len()];
            norm.apply(&x, &mut out);
            for (x, out) in x.chunks(width).zip(out.chunks(width)) {
                let squares: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
                let root = (squares / width as f64 + epsilon).sqrt();
                for ((x, out), gain) in x.iter().zip(out).zip(&gains) {
                    let exact = f64::from(*x) * gain / root / step;
                    let exact = exact.clamp(-127.0, 127.0);
                    assert!((f64::from(*out) - exact).abs() < 0.502, "{size}: {out} {exact}");
                }
            }
        }
    }

    #[test]
    fn a_row_of_zeros_stays_one() {
        let norm = IntegerNorm::new(&[40.0; 8], 0.0);
        let mut out = [5i8; 8];
        norm.apply(&[0; 8], &mut out);
        assert_eq!(out, [0; 8]);
    }
}

//! Loops over slices that the compiler turns into vector instructions once inlined into a multiversioned function.

/// e^x with a relative error below 2e-7 on [-87, 88]; smaller x give 0-like values, larger x are clamped.
///
/// Range reduction by ln 2 in two parts, then a polynomial of degree 6 (Cephes).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    let x = x.clamp(-87.3, 88.3);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    y * f32::from_bits(((exponent + 127) << 23) as u32)
}

/// Sum of products, in 64 partial sums, so that no addition waits for the one before.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 64];
    let (a_whole, a_rest) = a.as_chunks::<64>();
    let (b_whole, b_rest) = b.as_chunks::<64>();
    for (x, y) in a_whole.iter().zip(b_whole) {
        for i in 0..64 {
            lanes[i] += x[i] * y[i];
        }
    }
    let (a_short, a_rest) = a_rest.as_chunks::<16>();
    let (b_short, b_rest) = b_rest.as_chunks::<16>();
    for (x, y) in a_short.iter().zip(b_short) {
        for i in 0..16 {
            lanes[i] += x[i] * y[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sum(&lanes) + rest
}

/// Sum in sixteen partial sums.
#[inline(always)]
pub(super) fn sum(a: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (whole, rest) = a.as_chunks::<16>();
    for x in whole {
        for i in 0..16 {
            lanes[i] += x[i];
        }
    }
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0] + rest.iter().sum::<f32>()
}

/// Largest value; -inf for an empty slice.
#[inline(always)]
pub(super) fn max(a: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (whole, rest) = a.as_chunks::<16>();
    for x in whole {
        for i in 0..16 {
            lanes[i] = if x[i] > lanes[i] { x[i] } else { lanes[i] };
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |m, x| if *x > m { *x } else { m })
}

/// `out = s * x`
#[inline(always)]
pub(super) fn scale_into(out: &mut [f32], s: f32, x: &[f32]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = s * x;
    }
}

/// `out += s * x`
#[inline(always)]
pub(super) fn add_scaled(out: &mut [f32], s: f32, x: &[f32]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o += s * x;
    }
}

/// `out[j] += sum_r weights[r] * matrix[r * stride + j]`, four rows at a time so that `out` is touched less often.
#[inline(always)]
pub(super) fn add_weighted_rows(out: &mut [f32], weights: &[f32], matrix: &[f32], stride: usize) {
    let n = out.len();
    let (fours, rest) = weights.as_chunks::<4>();
    for (block, w) in fours.iter().enumerate() {
        let at = block * 4 * stride;
        let r0 = &matrix[at..at + n];
        let r1 = &matrix[at + stride..at + stride + n];
        let r2 = &matrix[at + 2 * stride..at + 2 * stride + n];
        let r3 = &matrix[at + 3 * stride..at + 3 * stride + n];
        for j in 0..n {
            out[j] += w[0] * r0[j] + w[1] * r1[j] + w[2] * r2[j] + w[3] * r3[j];
        }
    }
    for (r, w) in rest.iter().enumerate() {
        let at = (fours.len() * 4 + r) * stride;
        add_scaled(out, *w, &matrix[at..at + n]);
    }
}

/// Turns scores into probabilities.
#[inline(always)]
pub(super) fn softmax(scores: &mut [f32]) {
    let max = max(scores);
    for s in scores.iter_mut() {
        *s = exp(*s - max);
    }
    let inverse = 1.0 / sum(scores);
    for s in scores.iter_mut() {
        *s *= inverse;
    }
}

/// `rows` rows of `width` values, `stride` apart in `source`, one after the other.
#[inline(always)]
pub(super) fn pack(source: &[f32], stride: usize, rows: usize, width: usize) -> Vec<f32> {
    let mut packed = Vec::with_capacity(rows * width);
    for r in 0..rows {
        packed.extend_from_slice(&source[r * stride..r * stride + width]);
    }
    packed
}

/// Writes `rows` rows of `width` values, `stride` apart in `source`, as a `width` x `rows` matrix.
#[inline(always)]
pub(super) fn transpose(source: &[f32], stride: usize, rows: usize, width: usize, out: &mut [f32]) {
    for r in 0..rows {
        for (c, x) in source[r * stride..r * stride + width].iter().enumerate() {
            out[c * rows + r] = *x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_library() {
        for i in -8700..8800 {
            let x = i as f32 * 0.01;
            let (fast, slow) = (exp(x), x.exp());
            assert!((fast - slow).abs() <= 2e-7 * slow + 1e-37, "{x}: {fast} {slow}");
        }
        assert!(exp(-1e30) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn sums_and_rows_agree_with_plain_loops() {
        let a: Vec<f32> = (0..137).map(|i| (i as f32 * 0.7).sin()).collect();
        let plain: f32 = a.iter().map(|x| x * x).sum();
        assert!((dot(&a, &a) - plain).abs() < 1e-5);
        assert!((sum(&a) - a.iter().sum::<f32>()).abs() < 1e-5);
        assert_eq!(max(&a), a.iter().copied().fold(f32::MIN, f32::max));
        let mut out = vec![0.0; 5];
        add_weighted_rows(&mut out, &a[..7], &a[..35], 5);
        for j in 0..5 {
            let plain: f32 = (0..7).map(|r| a[r] * a[r * 5 + j]).sum();
            assert!((out[j] - plain).abs() < 1e-5);
        }
        let mut turned = vec![0.0; 12];
        transpose(&a, 5, 4, 3, &mut turned);
        assert_eq!(turned[2 * 4 + 1], a[5 + 2]);
    }
}

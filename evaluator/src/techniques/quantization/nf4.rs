//! 4-bit `NormalFloat` (2305.14314): sixteen levels that hold equal shares of normally distributed weights, scaled by the
//! largest absolute weight of each group. There is no zero to store: it is one of the levels.

use std::sync::LazyLock;

use half::f16;

use super::{
    About,
    packed::{PackedShape, PackedWeights},
};
use crate::counter;

pub(super) const ABOUT: About = About {
    name: "nf4",
    doc: "each weight becomes the nearest of 16 levels that suit normally distributed weights; 4 bits only",
    paper: "2305.14314",
};

/// The counter that is above zero once it has run.
pub(super) const ACTIVITY: &str = "nf4_weights";

/// Bits of a code.
pub(super) const BITS: usize = 4;

/// The levels, rising from -1 over 0 to 1.
pub(super) static LEVELS: LazyLock<[f32; 16]> = LazyLock::new(|| {
    // quantiles of eight and of seven even shares of the two halves, whose last ones end where half a level of 1/32 and of
    // 1/30 is left; 0 between them
    let last = 1.0 - 0.5 * (1.0 / 32.0 + 1.0 / 30.0);
    let quantiles = |levels: usize| {
        let at = move |i: usize| 0.5 + (last - 0.5) * i as f64 / levels as f64;
        (1..=levels).map(move |i| quantile(at(i)) / quantile(last))
    };
    let mut levels = [0.0; 16];
    for (level, q) in levels[..7].iter_mut().rev().zip(quantiles(7)) {
        *level = -q as f32;
    }
    for (level, q) in levels[8..].iter_mut().zip(quantiles(8)) {
        *level = q as f32;
    }
    levels
});

/// The point below which a share `p`, from a half on, of a standard normal distribution lies: Newton's method on its series.
fn quantile(p: f64) -> f64 {
    let mut x = 0.0f64;
    for _ in 0..50 {
        let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        // Φ(x) = 1/2 + φ(x) (x + x³/3 + x⁵/(3·5) + ..)
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term > 1e-18 {
            odd += 2.0;
            term *= x * x / odd;
            sum += term;
        }
        x -= (0.5 + density * sum - p) / density;
    }
    x
}

/// Packs weights `[rows, columns]`.
pub(super) fn pack(weights: &[f32], shape: PackedShape) -> PackedWeights {
    let mut packed = PackedWeights::new(shape);
    for (r, row) in weights.chunks_exact(shape.columns).enumerate() {
        for (g, group) in row.chunks(shape.group).enumerate() {
            let largest = group.iter().fold(0.0f32, |m, w| m.max(w.abs()));
            let scale = f16::from_f32(largest.clamp(f16::MIN_POSITIVE.to_f32(), f16::MAX.to_f32()));
            packed.set_scale(r, g, scale);
            for (i, w) in group.iter().enumerate() {
                packed.set_code(r, g * shape.group + i, nearest(w / scale.to_f32()));
            }
        }
    }
    counter::add_activity(ACTIVITY, weights.len());
    packed
}

/// The code of the level nearest to `x`.
fn nearest(x: f32) -> u32 {
    let above = |pair: &[f32]| x > 0.5 * (pair[0] + pair[1]);
    LEVELS.windows(2).filter(|pair| above(pair)).count() as u32
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::techniques::quantization::{fixture::normal, packed::Spacing};

    /// The code book of the paper's appendix.
    #[test]
    fn levels_are_the_published_ones() {
        let published = [
            -1.0,
            -0.6961928,
            -0.52507305,
            -0.3949175,
            -0.28444138,
            -0.18477343,
            -0.09105004,
            0.0,
            0.0795803,
            0.1609302,
            0.2461123,
            0.33791524,
            0.44070983,
            0.562617,
            0.72295684,
            1.0,
        ];
        for (level, known) in LEVELS.iter().zip(published) {
            assert!((level - known).abs() < 1e-5, "{level} {known}");
        }
        assert!(LEVELS.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((LEVELS[0], LEVELS[7], LEVELS[15]), (-1.0, 0.0, 1.0));
    }

    #[test]
    fn codes_are_the_nearest_levels_and_normal_weights_lose_less_than_to_even_ones() {
        for (code, level) in LEVELS.iter().enumerate() {
            assert_eq!(nearest(*level), code as u32);
        }
        let (weights, group) = (normal(64 * 256, 8), 64);
        let shape = PackedShape {
            rows: 64,
            columns: 256,
            bits: BITS,
            group,
            spacing: Spacing::NormalFloat,
            integer: false,
        };
        let back = pack(&weights, shape)
            .into_module::<Flex>(&Default::default())
            .all_rows();
        let back: Vec<f32> = back.into_data().iter().collect();
        let (mut lost, mut lost_to_even) = (0.0, 0.0);
        for (group, back) in weights.chunks(group).zip(back.chunks(group)) {
            let scale = f16::from_f32(group.iter().fold(0.0f32, |m, w| m.max(w.abs()))).to_f32();
            for (w, b) in group.iter().zip(back) {
                let distances = LEVELS.iter().map(|level| (w - scale * level).abs());
                let least = distances.fold(f32::INFINITY, f32::min);
                assert!((w - b).abs() <= least + 1e-6, "{w} {b}");
                lost += (w - b).powi(2);
                // sixteen even levels from -1 to 1
                let even = ((w / scale + 1.0) * 7.5).round() / 7.5 - 1.0;
                lost_to_even += (w - scale * even).powi(2);
            }
        }
        assert!(lost < 0.9 * lost_to_even, "{lost} {lost_to_even}");
    }
}

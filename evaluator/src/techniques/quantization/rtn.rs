//! Round to nearest: each weight becomes the level of its group that is nearest to it, whatever it is multiplied with.

use super::{
    About,
    levels::EvenLevels,
    packed::{PackedShape, PackedWeights},
};

pub(super) const ABOUT: About = About {
    name: "rtn",
    doc: "each weight becomes the nearest of 2^bits evenly spaced levels of its group",
    paper: "2210.17323 (baseline)",
};

/// Packs weights `[rows, columns]`.
pub(super) fn pack(weights: &[f32], shape: PackedShape) -> PackedWeights {
    let mut packed = PackedWeights::new(shape);
    for (r, row) in weights.chunks_exact(shape.columns).enumerate() {
        for (g, group) in row.chunks(shape.group).enumerate() {
            let levels = EvenLevels::of(group, shape.bits);
            packed.set_scale(r, g, levels.scale);
            packed.set_zero(r, g, levels.zero);
            for (i, w) in group.iter().enumerate() {
                packed.set_code(r, g * shape.group + i, levels.code(*w));
            }
        }
    }
    packed
}

/// Rounds weights `[rows, columns]` in their place to what [`pack`] stores of them.
pub(super) fn round(weights: &mut [f32], shape: PackedShape) {
    for row in weights.chunks_exact_mut(shape.columns) {
        for group in row.chunks_mut(shape.group) {
            let levels = EvenLevels::of(group, shape.bits);
            for w in group {
                *w = levels.value(levels.code(*w));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::techniques::quantization::fixture::{Fixture, normal, shape};

    fn unpacked(weights: &[f32], shape: PackedShape) -> Vec<f32> {
        let module = pack(weights, shape).into_module::<Flex>(&Default::default());
        module.all_rows().into_data().to_vec().unwrap()
    }

    #[test]
    fn each_weight_is_within_half_a_step() {
        for bits in [2, 3, 4, 5, 6, 8] {
            for columns in [7, 64, 100] {
                let shape = shape(5, columns, bits, 32);
                let weights = normal(5 * columns, 1);
                let back = unpacked(&weights, shape);
                let mut rounded = weights.clone();
                round(&mut rounded, shape);
                assert_eq!(rounded, back, "what is foretold is what is stored");
                for (row, back) in weights.chunks(columns).zip(back.chunks(columns)) {
                    for (group, back) in row.chunks(32).zip(back.chunks(32)) {
                        let levels = EvenLevels::of(group, bits);
                        let (low, high) = (levels.value(0), levels.value((1 << bits) - 1));
                        let step = levels.scale.to_f32();
                        for (w, b) in group.iter().zip(back) {
                            // beyond the end levels, which the rounded zero and the 16-bit scale move, a weight is cut off
                            let (inside, moved) = (w.clamp(low, high), 0.5 + ((1 << bits) as f32) / 2048.0);
                            assert!((inside - b).abs() <= 0.5001 * step, "{bits} bits: {w} {b}");
                            assert!(
                                (w - inside).abs() <= 1.001 * moved * step,
                                "{bits} bits: {w} in {low} to {high}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn each_bit_is_worth_six_decibels() {
        let weights = normal(128 * 256, 2);
        let power: f32 = weights.iter().map(|w| w * w).sum();
        let decibels = |bits| {
            let back = unpacked(&weights, shape(128, 256, bits, 64));
            let noise: f32 = weights.iter().zip(back).map(|(w, b)| (w - b).powi(2)).sum();
            10.0 * (power / noise).log10()
        };
        for (fewer, more) in [(4, 5), (5, 6), (6, 8)] {
            let gain = (decibels(more) - decibels(fewer)) / (more - fewer) as f32;
            assert!(
                (gain - 6.02).abs() < 0.5,
                "{gain} dB for each bit from {fewer} to {more}"
            );
        }
    }

    #[test]
    fn the_error_on_outlier_channels_is_the_known_one() {
        let fixture = Fixture::new();
        for (bits, golden) in [(8, 0.0055), (4, 0.093), (3, 0.202), (2, 0.469)] {
            fixture.assert_error(&unpacked(&fixture.weights, fixture.shape(bits)), golden, bits);
        }
    }
}

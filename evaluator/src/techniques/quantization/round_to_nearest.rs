//! Round to nearest, asymmetric, in groups: `s = (max - min) / (2^b - 1)` over a range that holds 0, `z = round(-min / s)`.

use half::f16;

use super::{
    About,
    packed::{PackedShape, PackedWeights},
};

pub(super) const ABOUT: About = About {
    name: "round_to_nearest",
    doc: "each weight becomes the nearest of 2^bits levels of its group",
    paper: "2210.17323 (baseline)",
};

/// Packs weights `[rows, columns]`.
pub(super) fn pack(weights: &[f32], shape: PackedShape) -> PackedWeights {
    let levels = ((1u32 << shape.bits) - 1) as f32;
    let mut packed = PackedWeights::new(shape);
    for (r, row) in weights.chunks_exact(shape.columns).enumerate() {
        for (g, group) in row.chunks(shape.group).enumerate() {
            let min = group.iter().copied().fold(0.0, f32::min);
            let max = group.iter().copied().fold(0.0, f32::max);
            // the scale as it is stored, so that codes are chosen for the levels that are read back
            let scale = f16::from_f32(((max - min) / levels).max(f16::MIN_POSITIVE.to_f32()));
            let step = scale.to_f32();
            let zero = (-min / step).round().clamp(0.0, levels);
            packed.set_group(r, g, scale, zero as u8);
            for (i, w) in group.iter().enumerate() {
                let code = ((w / step).round() + zero).clamp(0.0, levels);
                packed.set_code(r, g * shape.group + i, code as u32);
            }
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    fn unpacked(weights: &[f32], shape: PackedShape) -> Vec<f32> {
        let module = pack(weights, shape).into_module::<Flex>(&Default::default());
        module.all_rows().into_data().to_vec().unwrap()
    }

    fn normal(n: usize, seed: u64) -> Vec<f32> {
        StandardNormal
            .sample_iter(ChaCha8Rng::seed_from_u64(seed))
            .take(n)
            .collect()
    }

    #[test]
    fn each_weight_is_within_half_a_step() {
        for bits in [2, 4, 8] {
            for columns in [7, 64, 100] {
                let shape = PackedShape {
                    rows: 5,
                    columns,
                    bits,
                    group: 32,
                };
                let weights = normal(5 * columns, 1);
                for (r, (row, back)) in weights
                    .chunks(columns)
                    .zip(unpacked(&weights, shape).chunks(columns))
                    .enumerate()
                {
                    for (group, back) in row.chunks(32).zip(back.chunks(32)) {
                        let spread = group.iter().copied().fold(0.0, f32::max)
                            - group.iter().copied().fold(0.0, f32::min);
                        let step = spread / ((1 << bits) - 1) as f32;
                        for (w, b) in group.iter().zip(back) {
                            // the end levels move by the rounding of the zero and of the 16-bit scale
                            assert!(
                                (w - b).abs() <= step * 1.01 + 1e-3 * spread,
                                "row {r}: {w} {b} step {step}"
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
        let noise = |bits| -> f32 {
            let shape = PackedShape {
                rows: 128,
                columns: 256,
                bits,
                group: 64,
            };
            weights
                .iter()
                .zip(unpacked(&weights, shape))
                .map(|(w, b)| (w - b) * (w - b))
                .sum()
        };
        let decibels = |bits| 10.0 * (power / noise(bits)).log10();
        let gain = (decibels(8) - decibels(4)) / 4.0;
        assert!((gain - 6.02).abs() < 0.3, "{gain} dB for each bit");
    }

    /// The outlier fixture's numbers (techniques reference, group 64): 0.0055 at 8 bits, 0.093 at 4, 0.469 at 2.
    #[test]
    fn the_error_on_outlier_channels_is_the_known_one() {
        let (out, input, samples) = (128, 256, 1024);
        let weights = normal(out * input, 3);
        let (z, mix) = (normal(samples * input, 4), normal(input * input, 5));
        let mut x = vec![0.0f32; samples * input];
        for s in 0..samples {
            for i in 0..input {
                let own = 0.3 * z[s * input + i];
                let mixed: f32 = (0..input).map(|j| z[s * input + j] * mix[j * input + i]).sum();
                x[s * input + i] = own + mixed / 16.0;
            }
            for channel in [17, 90, 131, 222] {
                x[s * input + channel] *= 20.0;
            }
        }
        let norm = |w: &[f32]| -> f64 {
            let rows = x.chunks(input).flat_map(|x| w.chunks(input).map(move |w| (x, w)));
            rows.map(|(x, w)| f64::from(x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>()).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        for (bits, golden) in [(8, 0.0055), (4, 0.093), (2, 0.469)] {
            let shape = PackedShape {
                rows: out,
                columns: input,
                bits,
                group: 64,
            };
            let error: Vec<f32> = weights
                .iter()
                .zip(unpacked(&weights, shape))
                .map(|(w, b)| w - b)
                .collect();
            let relative = norm(&error) / norm(&weights);
            assert!(
                (relative / golden - 1.0).abs() < 0.2,
                "{bits} bits: {relative}, known {golden}"
            );
        }
    }
}

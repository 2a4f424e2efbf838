//! The fixture that methods are compared on: weights and inputs of which four channels are twenty times larger than the rest.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::packed::{PackedShape, Spacing};
use crate::techniques::calibration::InputStatistics;

const OUT: usize = 128;
pub(super) const INPUT: usize = 256;
const SAMPLES: usize = 1024;

/// Normal values.
pub(super) fn normal(n: usize, seed: u64) -> Vec<f32> {
    StandardNormal
        .sample_iter(ChaCha8Rng::seed_from_u64(seed))
        .take(n)
        .collect()
}

pub(super) fn shape(rows: usize, columns: usize, bits: usize, group: usize) -> PackedShape {
    PackedShape {
        rows,
        columns,
        bits,
        group,
        spacing: Spacing::Even,
        integer: false,
    }
}

/// Weights `[128, 256]`, inputs `[1024, 256]` and their sums.
pub(super) struct Fixture {
    pub(super) weights: Vec<f32>,
    /// `[1024, 256]`.
    pub(super) x: Vec<f32>,
    pub(super) inputs: InputStatistics,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let weights = normal(OUT * INPUT, 3);
        let (z, mix) = (normal(SAMPLES * INPUT, 4), normal(INPUT * INPUT, 5));
        let mut x = vec![0.0f32; SAMPLES * INPUT];
        for (x, z) in x.chunks_mut(INPUT).zip(z.chunks(INPUT)) {
            for (j, z_j) in z.iter().enumerate() {
                for (x, m) in x.iter_mut().zip(&mix[j * INPUT..]) {
                    *x += z_j * m / 16.0;
                }
            }
            for (x, z) in x.iter_mut().zip(z) {
                *x += 0.3 * z;
            }
            for channel in [17, 90, 131, 222] {
                x[channel] *= 20.0;
            }
        }
        let mut inputs = InputStatistics {
            rows: SAMPLES,
            second_moment: vec![0.0; INPUT * INPUT],
            absolute: vec![0.0; INPUT],
            largest: vec![0.0; INPUT],
        };
        for x in x.chunks(INPUT) {
            for (i, a) in x.iter().enumerate() {
                inputs.absolute[i] += f64::from(a.abs());
                inputs.largest[i] = inputs.largest[i].max(a.abs());
                for (sum, b) in inputs.second_moment[i * INPUT..].iter_mut().zip(x) {
                    *sum += f64::from(a * b);
                }
            }
        }
        Fixture { weights, x, inputs }
    }

    pub(super) fn shape(&self, bits: usize) -> PackedShape {
        shape(OUT, INPUT, bits, 64)
    }

    /// `‖X (W - Ŵ)ᵀ‖ / ‖X Wᵀ‖`
    pub(super) fn error(&self, rounded: &[f32]) -> f64 {
        let norm = |w: &[f32]| -> f64 {
            let rows = self
                .x
                .chunks(INPUT)
                .flat_map(|x| w.chunks(INPUT).map(move |w| (x, w)));
            rows.map(|(x, w)| f64::from(x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>()).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        let lost: Vec<f32> = self.weights.iter().zip(rounded).map(|(w, r)| w - r).collect();
        norm(&lost) / norm(&self.weights)
    }

    /// `‖Y - X Wᵀ‖ / ‖X Wᵀ‖` of products `y [1024, 128]`.
    pub(super) fn error_of_products(&self, y: &[f32]) -> f64 {
        let rows = self.x.chunks(INPUT).flat_map(|x| {
            let product = move |w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(x * w)).sum::<f64>();
            self.weights.chunks(INPUT).map(product)
        });
        let (mut lost, mut whole) = (0.0, 0.0);
        for (y, exact) in y.iter().zip(rows) {
            lost += (f64::from(*y) - exact).powi(2);
            whole += exact.powi(2);
        }
        (lost / whole).sqrt()
    }

    /// Asserts that the error is within a fifth of the known one.
    pub(super) fn assert_error(&self, rounded: &[f32], golden: f64, bits: usize) {
        let error = self.error(rounded);
        assert!(
            (error / golden - 1.0).abs() < 0.2,
            "{bits} bits: {error}, known {golden}"
        );
    }
}

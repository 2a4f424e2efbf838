//! The standard normal distribution.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use libm::erfc;

/// Its density.
pub(crate) fn density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / (2.0 * PI).sqrt()
}

/// The probability of a number below `z`.
pub(crate) fn below(z: f64) -> f64 {
    0.5 * erfc(-z * FRAC_1_SQRT_2)
}

/// Expected improvement below `best` of a number with that mean and variance (Jones et al. 1998).
pub(crate) fn expected_improvement(best: f64, mean: f64, variance: f64) -> f64 {
    let gain = best - mean;
    let deviation = variance.sqrt();
    if deviation <= 0.0 {
        return gain.max(0.0);
    }
    let z = gain / deviation;
    // far below, rounding may leave a little less than nothing
    (gain * below(z) + deviation * density(z)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert!((below(1.959_963_984_540_054) - 0.975).abs() < 1e-12);
        assert!((density(0.0) - 0.398_942_280_401_432_7).abs() < 1e-15);
        // at the mean it is the deviation over the square root of two pi
        assert!((expected_improvement(1.0, 1.0, 4.0) - 2.0 * density(0.0)).abs() < 1e-15);
        assert_eq!(expected_improvement(1.0, 0.25, 0.0), 0.75);
        assert_eq!(expected_improvement(1.0, 2.0, 0.0), 0.0);
    }
}

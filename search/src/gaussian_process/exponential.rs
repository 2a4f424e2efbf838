//! `exp` of numbers that are not positive, in a form that the compiler turns into vector instructions.

/// `exp(x)` for `x <= 0`, to about 1e-14 of the value; 0 below -700.
///
/// Cody-Waite reduction to `|r| <= ln 2 / 2` and a Taylor polynomial: branch-free, so a loop over it is vectorised.
#[inline(always)]
pub(crate) fn exp_neg(x: f64) -> f64 {
    /// Adding and subtracting this rounds to a whole number.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let x = if x < -700.0 { -700.0 } else { x };
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let mut p = 1.0 / 39_916_800.0;
    p = p * r + 1.0 / 3_628_800.0;
    p = p * r + 1.0 / 362_880.0;
    p = p * r + 1.0 / 40_320.0;
    p = p * r + 1.0 / 5_040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    // the whole number stands in the low bits of `shifted`
    let power = f64::from_bits((shifted.to_bits().wrapping_add(1023)) << 52);
    p * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_exponential() {
        for i in 0..=70_000 {
            let x = -f64::from(i) * 0.01;
            let (ours, exact) = (exp_neg(x), x.exp());
            assert!((ours - exact).abs() <= 1e-13 * exact, "{x}: {ours} {exact}");
        }
        assert!(exp_neg(-1e9) < 1e-300);
    }
}

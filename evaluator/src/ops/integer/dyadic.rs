//! Factors as whole numbers: a multiplier and a shift.

use super::whole;

/// Binary digits of a multiplier. Products with 44-bit numbers then fit in 64 bits, and what is lost, 2⁻¹⁸, is far below
/// what 8-bit numbers lose.
const DIGITS: i32 = 18;

whole! {
    /// A factor `multiplier / 2^shift`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Dyadic {
        multiplier: i64,
        shift: u32,
    }
}

impl Dyadic {
    /// The nearest to a factor, while a model is built; of those from 2¹⁷ on 2¹⁷.
    #[expect(
        clippy::float_arithmetic,
        reason = "factors become whole numbers here, before anything is computed"
    )]
    pub fn nearest(factor: f64) -> Self {
        // of 2^e to 2^(e + 1) in size
        let exponent = ((factor.to_bits() >> 52) & 0x7ff) as i32 - 1023;
        let shift = (DIGITS - 1 - exponent).clamp(1, 62);
        let multiplier = (factor * 2f64.powi(shift)).round() as i64;
        Dyadic {
            multiplier: multiplier.clamp(-1 << DIGITS, 1 << DIGITS),
            shift: shift as u32,
        }
    }

    /// The whole number nearest to `x` times the factor, halves upwards; `x` of up to 44 bits.
    #[inline(always)]
    pub fn times(self, x: i64) -> i64 {
        let half = 1i64 << (self.shift - 1);
        (x * self.multiplier + half) >> self.shift
    }

    /// [`Dyadic::times`], cut off at `±limit`.
    #[inline(always)]
    pub fn within(self, x: i64, limit: i32) -> i32 {
        self.times(x).clamp(i64::from(-limit), i64::from(limit)) as i32
    }

    /// [`Dyadic::times`], cut off at ±127.
    #[inline(always)]
    pub fn to_i8(self, x: i64) -> i8 {
        self.within(x, 127) as i8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_of_all_sizes_are_kept_to_a_quarter_millionth() {
        for factor in [
            1e-9, 3.7e-4, 0.25, 0.999_999, 1.0, 7.3, 1234.5, 100_000.0, -0.037, -5.0,
        ] {
            let dyadic = Dyadic::nearest(factor);
            for x in [1i64, -1, 127, -5000, 1 << 20, -(1 << 31), 1 << 40] {
                let (exact, found) = (x as f64 * factor, dyadic.times(x) as f64);
                assert!(
                    (found - exact).abs() <= 0.5 + exact.abs() * 4e-6,
                    "{x} by {factor}: {found}"
                );
            }
        }
        assert_eq!(Dyadic::nearest(0.0).times(1 << 40), 0);
        assert_eq!(Dyadic::nearest(0.5).times(3), 2, "halves upwards");
        assert_eq!(Dyadic::nearest(1000.0).to_i8(-1), -127);
        assert_eq!(Dyadic::nearest(-1e12).times(1), -1 << 17, "none is larger");
    }
}

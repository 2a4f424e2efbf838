//! Exponential, root and gates in whole numbers (I-BERT, 2101.01321, algorithms 2 to 4).

/// Binary digits after the point of what [`i_exp`], [`i_gelu`] and [`i_silu`] are given, and of what the gates give: as many
/// as leave squares of the polynomials' arguments in 32 bits.
pub const FRACTION_BITS: u32 = 14;

/// `ln 2`.
const LN_2: u32 = 11_357;
/// The polynomial of the exponential on `(-ln 2, 0]` is `0.3585 (p + 1.353)² + 0.344`: here 1.353, and 0.344 / 0.3585.
const EXP_ROOT: u32 = 22_168;
const EXP_REST: u32 = 257_578_234;
/// What [`i_exp`] gives stands for a multiple of `0.3585 · 2⁻²⁸`; this many are 1.
pub(super) const EXP_ONE: u32 = 748_773_936;
/// Halvings after which nothing is left.
const MOST_HALVINGS: u32 = 30;

/// `e^x` for `x <= 0` with [`FRACTION_BITS`], in multiples of `0.3585 · 2⁻²⁸`; off by 0.0022 at most.
#[inline(always)]
pub fn i_exp(x: i32) -> i32 {
    // -x = halvings · ln 2 + rest
    let x = x.saturating_neg().clamp(0, (MOST_HALVINGS * LN_2) as i32) as u32;
    let halvings = x / LN_2;
    let root = EXP_ROOT - (x - halvings * LN_2);
    ((root * root + EXP_REST) >> halvings) as i32
}

/// `⌊√x⌋` by Newton's iteration from above.
pub fn i_sqrt(x: u64) -> u64 {
    if x < 2 {
        return x;
    }
    let mut root = 1 << (u64::BITS - x.leading_zeros()).div_ceil(2);
    loop {
        let next = (root + x / root) / 2;
        if next >= root {
            return root;
        }
        root = next;
    }
}

/// `silu(x) = x σ(x)`, both with [`FRACTION_BITS`]; `σ(x) = 1 / (1 + e⁻ˣ)` by [`i_exp`].
#[inline(always)]
pub fn i_silu(x: i32) -> i32 {
    const SIGMOID_BITS: u32 = 15;
    let e = i_exp(-x.abs()) as u32;
    // 1 / (1 + e), 16 digits of the sum being enough for 15 of the quotient
    let half = (EXP_ONE << 1) / ((EXP_ONE + e) >> 14);
    let sigmoid = if x < 0 {
        (1 << SIGMOID_BITS) - half.min(1 << SIGMOID_BITS)
    } else {
        half
    };
    ((i64::from(x) * i64::from(sigmoid) + (1 << (SIGMOID_BITS - 1))) >> SIGMOID_BITS) as i32
}

/// `gelu(x) = x / 2 · (1 + l(x / √2))`, both with [`FRACTION_BITS`], of `x` below 256 in size; off by 0.0185 at most.
///
/// `l(z) = sgn(z) (1 - 0.2888 (min(|z|, 1.769) - 1.769)²)`. The gates of models here are [`i_silu`], which is ten times nearer to
/// its function than `1.702 gelu(x / 1.702)`; this is for networks with GELU, as BERT's are.
#[inline(always)]
pub fn i_gelu(x: i32) -> i32 {
    // 1.769 √2, and 1 in multiples of 0.2888 · 2⁻²⁹
    const END: u32 = 40_989;
    const ONE: u32 = 1_858_971_302;
    // 17 digits of each are enough, and leave room for the product
    const SHORT: i64 = (ONE >> FRACTION_BITS) as i64;
    let root = END.saturating_sub(x.unsigned_abs());
    let l = i64::from(x.signum()) * i64::from((ONE - root * root) >> FRACTION_BITS);
    (i64::from(x) * (SHORT + l) + SHORT).div_euclid(2 * SHORT) as i32
}

#[cfg(test)]
#[expect(clippy::float_arithmetic, reason = "what whole numbers are held against")]
mod tests {
    use super::*;

    const ONE: f64 = (1 << FRACTION_BITS) as f64;

    /// The largest error over whole numbers from `low` to `high`.
    fn worst(low: i32, high: i32, found: impl Fn(i32) -> f64, exact: impl Fn(f64) -> f64) -> f64 {
        let errors = (low..=high).map(|x| (found(x) - exact(f64::from(x) / ONE)).abs());
        errors.fold(0.0, f64::max)
    }

    fn erf(x: f64) -> f64 {
        // the series converges for all x, and fast for those that are not yet 1 to all digits
        if x.abs() > 5.0 {
            return x.signum();
        }
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    fn gelu(x: f64) -> f64 {
        0.5 * x * (1.0 + erf(x / 2f64.sqrt()))
    }

    fn silu(x: f64) -> f64 {
        x / (1.0 + (-x).exp())
    }

    #[test]
    fn the_exponential_is_off_by_its_known_error() {
        let all = worst(
            -12 << 14,
            0,
            |x| f64::from(i_exp(x)) / f64::from(EXP_ONE),
            f64::exp,
        );
        println!("i-exp is off by {all} at most");
        assert!((0.0020..=0.0022).contains(&all), "{all}");
        assert_eq!((i_exp(i32::MIN), i_exp(-1 << 20)), (0, 0));
    }

    #[test]
    fn gelu_is_off_by_its_known_error() {
        let all = worst(-8 << 14, 8 << 14, |x| f64::from(i_gelu(x)) / ONE, gelu);
        println!("i-gelu is off by {all} at most");
        assert!((0.0178..=0.0185).contains(&all), "{all}");
        assert_eq!(i_gelu(255 << 14), 255 << 14);
        assert_eq!(i_gelu(-255 << 14), 0);
    }

    #[test]
    fn silu_is_nearer_by_the_exponential_than_by_gelu() {
        let by_exp = worst(-12 << 14, 12 << 14, |x| f64::from(i_silu(x)) / ONE, silu);
        let scaled = |x: i32| (f64::from(x) / 1.702).round() as i32;
        let by_gelu = worst(
            -12 << 14,
            12 << 14,
            |x| 1.702 * f64::from(i_gelu(scaled(x))) / ONE,
            silu,
        );
        println!("i-silu is off by {by_exp} at most, 1.702 i-gelu(x / 1.702) by {by_gelu}");
        assert!(by_exp < 0.003 && 10.0 * by_exp < by_gelu, "{by_exp} {by_gelu}");
        assert_eq!(i_silu(0), 0);
        assert_eq!(i_silu(100 << 14), 100 << 14);
        assert_eq!(i_silu(-100 << 14), 0);
    }

    #[test]
    fn roots_are_rounded_down() {
        let powers = (0..64).flat_map(|n| [(1u64 << n) - 1, 1 << n, (1 << n) + 1]);
        let squares = [3u64, 10, 99_999, 4_294_967_294, 4_294_967_295].into_iter();
        let squares = squares.flat_map(|root| [root * root - 1, root * root, root * root + 1]);
        for x in (0..5000).chain(powers).chain(squares).chain([u64::MAX]) {
            let root = u128::from(i_sqrt(x));
            let x = u128::from(x);
            assert!(root * root <= x && x < (root + 1) * (root + 1), "√{x}: {root}");
        }
    }
}

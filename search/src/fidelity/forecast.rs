//! Where a learning curve will end, and how sure that is.
//!
//! Families of curves `y = c + a f(x)` with a decreasing `f` (after Domhan et al. 2015): powers `x^-b`, exponentials
//! `e^(-b x)` and the logarithm. For each `b` of a grid, `c`, `a` and the noise are integrated out exactly (a normal and
//! inverse-gamma prior on standardised values), which leaves Student's t and the curve's evidence; the forecast is the
//! mixture of all, each weighted by its evidence. No chance, no iteration.

/// Values of `b` for each family.
const GRID: usize = 16;
/// Prior variance of `c` and `a` in units of the noise's.
const PRIOR_VARIANCE: f64 = 1e4;
/// Prior of the noise's variance: inverse gamma with this shape and scale, on values of unit variance.
const SHAPE: f64 = 1.0;
const SCALE: f64 = 0.003;

/// A mixture of Student's t distributions.
#[derive(Clone, Debug)]
pub struct Forecast {
    parts: Vec<Part>,
    freedom: u32,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    weight: f64,
    mean: f64,
    scale: f64,
}

impl Forecast {
    /// The value at `x = at` of a curve seen at some `x > 0`; `None` for fewer than two points, or where they are all equal.
    pub fn new(points: &[(f64, f64)], at: f64) -> Option<Forecast> {
        let n = points.len() as f64;
        let mean = points.iter().map(|(_, y)| y).sum::<f64>() / n;
        let variance = points.iter().map(|(_, y)| (y - mean).powi(2)).sum::<f64>() / n;
        let spread = variance.sqrt();
        if points.len() < 2 || !(spread > 0.0 && spread.is_finite()) {
            return None;
        }
        let standard: Vec<(f64, f64)> = points
            .iter()
            .map(|(x, y)| (x / at, (y - mean) / spread))
            .collect();
        let grid = |low: f64, high: f64| {
            (0..GRID).map(move |i| low * (high / low).powf(i as f64 / (GRID - 1) as f64))
        };
        let mut fits: Vec<(f64, f64, f64)> = Vec::with_capacity(2 * GRID + 1);
        fits.extend(grid(0.05, 3.0).map(|b| fit(&standard, |x| x.powf(-b))));
        fits.extend(grid(0.5, 10.0).map(|b| fit(&standard, |x| (-b * x).exp())));
        fits.push(fit(&standard, |x| -x.ln()));
        let best = fits
            .iter()
            .map(|(evidence, ..)| *evidence)
            .fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = fits.iter().map(|(evidence, ..)| (evidence - best).exp()).sum();
        let parts = fits.into_iter().map(|(evidence, y, scale)| Part {
            weight: (evidence - best).exp() / total,
            mean: mean + spread * y,
            scale: spread * scale,
        });
        Some(Forecast {
            parts: parts.collect(),
            freedom: 2 * SHAPE as u32 + points.len() as u32,
        })
    }

    /// Probability that the curve ends at or below `y`.
    pub fn probability_below(&self, y: f64) -> f64 {
        let below = |part: &Part| part.weight * student_t((y - part.mean) / part.scale, self.freedom);
        self.parts.iter().map(below).sum()
    }
}

/// Log evidence of `y = c + a f(x)`, and mean and scale of the value at `x = 1`.
fn fit(points: &[(f64, f64)], f: impl Fn(f64) -> f64) -> (f64, f64, f64) {
    // f is scaled to 1 at the first point, so that the prior on `a` means the same for every family
    let size = points
        .iter()
        .map(|(x, _)| f(*x).abs())
        .fold(f64::MIN_POSITIVE, f64::max);
    let f = |x: f64| f(x) / size;
    // posterior precision of (c, a), a symmetric matrix, and its right side
    let prior = 1.0 / PRIOR_VARIANCE;
    let (mut cc, mut ca, mut aa, mut c_y, mut a_y, mut yy) = (prior, 0.0, prior, 0.0, 0.0, 0.0);
    for (x, y) in points {
        let g = f(*x);
        cc += 1.0;
        ca += g;
        aa += g * g;
        c_y += y;
        a_y += g * y;
        yy += y * y;
    }
    let determinant = cc * aa - ca * ca;
    let (c, a) = (
        (aa * c_y - ca * a_y) / determinant,
        (cc * a_y - ca * c_y) / determinant,
    );
    let shape = SHAPE + 0.5 * points.len() as f64;
    let scale = SCALE + 0.5 * (yy - c * c_y - a * a_y).max(0.0);
    let evidence = -0.5 * determinant.ln() - shape * scale.ln();
    let g = f(1.0);
    let variance_of_mean = (aa - 2.0 * ca * g + cc * g * g) / determinant;
    let spread = (scale / shape * (1.0 + variance_of_mean)).sqrt();
    (evidence, c + a * g, spread)
}

/// Probability that Student's t of `n` degrees of freedom is below `t` (Abramowitz and Stegun 26.7.3 and 26.7.4).
fn student_t(t: f64, n: u32) -> f64 {
    let angle = (t / f64::from(n).sqrt()).atan();
    let (sin, square) = (angle.sin(), angle.cos().powi(2));
    let odd = n % 2 == 1;
    let (mut term, mut sum) = (if odd { angle.cos() } else { 1.0 }, 0.0);
    let mut k = if odd { 1 } else { 0 };
    while k + 2 <= n {
        sum += term;
        k += 2;
        term *= square * f64::from(k - 1) / f64::from(k);
    }
    let between = if odd {
        std::f64::consts::FRAC_2_PI * (angle + sin * sum)
    } else {
        sin * sum
    };
    0.5 + 0.5 * between
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn student_t_has_its_known_quantiles() {
        for (n, t) in [
            (1, 6.3138),
            (2, 2.9200),
            (3, 2.3534),
            (4, 2.1318),
            (5, 2.0150),
            (30, 1.6973),
        ] {
            assert!((student_t(t, n) - 0.95).abs() < 1e-5, "{n}: {}", student_t(t, n));
            assert!((student_t(-t, n) - 0.05).abs() < 1e-5);
        }
    }

    #[test]
    fn too_little_is_no_forecast() {
        assert!(Forecast::new(&[], 1.0).is_none());
        assert!(Forecast::new(&[(0.1, 2.0)], 1.0).is_none());
        assert!(Forecast::new(&[(0.1, 2.0), (0.2, 2.0)], 1.0).is_none());
    }
}

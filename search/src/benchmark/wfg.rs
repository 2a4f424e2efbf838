//! Problems made of named transformations: bias, shifts, deception, parameters that depend on each other.
//!
//! Huband, Hingston, Barone and While, "A review of multiobjective test problems and a scalable test problem toolkit"
//! (2006). Parameter `i` lies between 0 and `2 i`; the first `K` place a point along the front. The reference is one
//! distance behind the front's ends, where the furthest points lie.

use std::f64::consts::{FRAC_PI_2, PI};

use spaces::Space;

use super::{
    Benchmark,
    parts::{numbers, real, space},
};

const PAPER: &str = "Huband et al. 2006";
/// Parameters that place a point along the front.
const K: usize = 2;
/// Parameters that measure its distance.
const L: usize = 4;

/// Bias and a flat region before a wavy convex front.
pub(super) const WFG1: Benchmark = Benchmark {
    name: "wfg1",
    doc: "strong bias, flat region, wavy convex front; 6 real parameters, 2 objectives",
    paper: PAPER,
    known: 0,
    ideal: &[0.0, 0.0],
    reference: &[3.0, 5.0],
    // the envelope of the front's curve, summed over 10^7 steps
    best_volume: 12.105_722_5,
    space: parameters,
    evaluate: |c| {
        let mut y = scaled(&numbers(c));
        for v in &mut y[K..] {
            *v = b_flat(s_linear(*v, 0.35), 0.8, 0.75, 0.85);
        }
        for v in &mut y {
            *v = v.powf(0.02);
        }
        let weights: Vec<f64> = (1..=K + L).map(|i| 2.0 * i as f64).collect();
        let place = r_sum(&y[..K], &weights[..K]);
        let distance = r_sum(&y[K..], &weights[K..]);
        shaped(&[place], distance, |h, x| {
            convex(h, x);
            h[1] = 1.0 - x[0] - (10.0 * PI * x[0] + FRAC_PI_2).cos() / (10.0 * PI);
        })
    },
};

/// Distances that depend on each other before a front in pieces.
pub(super) const WFG2: Benchmark = Benchmark {
    name: "wfg2",
    doc: "dependent parameters, front in five pieces; 6 real parameters, 2 objectives",
    paper: PAPER,
    known: 0,
    ideal: &[0.0, 0.0],
    reference: &[3.0, 5.0],
    // the envelope of the front's curve, summed over 10^7 steps
    best_volume: 11.471_117_8,
    space: parameters,
    evaluate: |c| {
        let mut y = scaled(&numbers(c));
        for v in &mut y[K..] {
            *v = s_linear(*v, 0.35);
        }
        let pairs: Vec<f64> = y[K..].chunks(2).map(|pair| r_nonsep(pair, 2)).collect();
        shaped(&[mean(&y[..K])], mean(&pairs), |h, x| {
            convex(h, x);
            h[1] = 1.0 - x[0] * (5.0 * x[0] * PI).cos().powi(2);
        })
    },
};

/// Many hills in each parameter.
pub(super) const WFG4: Benchmark = Benchmark {
    name: "wfg4",
    doc: "many hills in each parameter, elliptic front; 6 real parameters, 3 objectives",
    paper: PAPER,
    known: 0,
    ideal: &[0.0; 3],
    reference: &[3.0, 5.0, 7.0],
    // without the eighth of the ellipsoid with half-axes 2, 4 and 6
    best_volume: 3.0 * 5.0 * 7.0 - 8.0 * PI,
    space: parameters,
    evaluate: |c| {
        let y: Vec<f64> = scaled(&numbers(c))
            .into_iter()
            .map(|v| s_multi(v, 10.0))
            .collect();
        shaped(&y[..K], mean(&y[K..]), concave)
    },
};

/// Deception, and a bias that depends on the other parameters.
pub(super) const WFG9: Benchmark = Benchmark {
    name: "wfg9",
    doc: "deceptive and dependent parameters, elliptic front; 6 real parameters, 3 objectives",
    paper: PAPER,
    known: 0,
    ideal: &[0.0; 3],
    reference: &[3.0, 5.0, 7.0],
    best_volume: 3.0 * 5.0 * 7.0 - 8.0 * PI,
    space: parameters,
    evaluate: |c| {
        let raw = scaled(&numbers(c));
        let last = raw.len() - 1;
        let mut y: Vec<f64> = (0..last)
            .map(|i| raw[i].powf(bias(mean(&raw[i + 1..]))))
            .collect();
        y.push(raw[last]);
        let place: Vec<f64> = y[..K].iter().map(|v| s_decept(*v, 0.35, 0.001, 0.05)).collect();
        let distance: Vec<f64> = y[K..].iter().map(|v| s_multi(*v, 95.0)).collect();
        shaped(&place, r_nonsep(&distance, L), concave)
    },
};

fn parameters() -> Space {
    let one = |i: usize| real(&format!("z{i:02}"), 0.0, 2.0 * (i + 1) as f64);
    space((0..K + L).map(one).collect())
}

/// Every parameter brought to the unit interval.
fn scaled(z: &[f64]) -> Vec<f64> {
    z.iter()
        .enumerate()
        .map(|(i, v)| v / (2.0 * (i + 1) as f64))
        .collect()
}

/// The objectives at these places: the shape stretched by 2, 4, 6 ... and moved away by the distance.
fn shaped(places: &[f64], distance: f64, shape: impl Fn(&mut [f64], &[f64])) -> Vec<f64> {
    let mut h = vec![1.0; places.len() + 1];
    shape(&mut h, places);
    let stretched = h.iter().enumerate();
    stretched
        .map(|(m, h)| distance + 2.0 * (m + 1) as f64 * h)
        .collect()
}

fn convex(h: &mut [f64], x: &[f64]) {
    product(h, x, |a| 1.0 - a.cos(), |a| 1.0 - a.sin());
}

fn concave(h: &mut [f64], x: &[f64]) {
    product(h, x, f64::sin, f64::cos);
}

fn product(h: &mut [f64], x: &[f64], along: fn(f64) -> f64, across: fn(f64) -> f64) {
    let last = x.len();
    for (i, x) in x.iter().enumerate() {
        for value in &mut h[..last - i] {
            *value *= along(x * FRAC_PI_2);
        }
        h[last - i] *= across(x * FRAC_PI_2);
    }
}

fn mean(y: &[f64]) -> f64 {
    y.iter().sum::<f64>() / y.len() as f64
}

fn r_sum(y: &[f64], weights: &[f64]) -> f64 {
    y.iter().zip(weights).map(|(y, w)| y * w).sum::<f64>() / weights.iter().sum::<f64>()
}

/// Each value with its differences to the `degree - 1` after it.
fn r_nonsep(y: &[f64], degree: usize) -> f64 {
    let (n, half) = (y.len(), degree.div_ceil(2) as f64);
    let one = |j: usize| y[j] + (1..degree).map(|k| (y[j] - y[(j + k) % n]).abs()).sum::<f64>();
    let a = degree as f64;
    (0..n).map(one).sum::<f64>() / (n as f64 / a * half * (1.0 + 2.0 * a - 2.0 * half))
}

/// 0 at `a` and 1 at both ends.
fn s_linear(y: f64, a: f64) -> f64 {
    ((y - a) / ((a - y).floor() + a)).abs()
}

/// The value `a` between `b` and `c`.
fn b_flat(y: f64, a: f64, b: f64, c: f64) -> f64 {
    let below = (y - b).floor().min(0.0) * a * (b - y) / b;
    let above = (c - y).floor().min(0.0) * (1.0 - a) * (y - c) / (1.0 - c);
    // the bias that follows would turn a rounding error of 1e-17 into 0.46
    match (a + below - above).clamp(0.0, 1.0) {
        tiny if tiny < 1e-10 => 0.0,
        y => y,
    }
}

/// The exponent that a mean `u` of other parameters gives, between 0.02 and 50.
fn bias(u: f64) -> f64 {
    let a = 0.98 / 49.98;
    0.02 + 49.98 * (a - (1.0 - 2.0 * u) * ((0.5 - u).floor() + a).abs())
}

/// A narrow valley of width `b` at `a`, and a slope that leads away from it to `c`.
fn s_decept(y: f64, a: f64, b: f64, c: f64) -> f64 {
    let left = (y - a + b).floor() * (1.0 - c + (a - b) / b) / (a - b);
    let right = (a + b - y).floor() * (1.0 - c + (1.0 - a - b) / b) / (1.0 - a - b);
    1.0 + ((y - a).abs() - b) * (left + right + 1.0 / b)
}

/// Thirty hills; the lowest valley, at 0.35, is 0. The steepness of the whole is `b`.
fn s_multi(y: f64, b: f64) -> f64 {
    let c = 0.35;
    let off = (y - c).abs() / (2.0 * ((c - y).floor() + c));
    (1.0 + (122.0 * PI * (0.5 - off)).cos() + 4.0 * b * off * off) / (b + 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark::tests::{assert_front, at, curve};

    /// Unit coordinates scaled to the parameters' ranges.
    fn z(y: &[f64]) -> Vec<f64> {
        y.iter()
            .enumerate()
            .map(|(i, v)| v * 2.0 * (i + 1) as f64)
            .collect()
    }

    #[test]
    fn curved_fronts_reach_their_volumes() {
        let place = |problem: &Benchmark, t: f64| {
            let y = [t, t, 0.35, 0.35, 0.35, 0.35];
            problem.evaluate(&at(problem, &z(&y)))
        };
        let steps = (0..=4000).map(|i| f64::from(i) / 4000.0);
        // the bias takes a fiftieth power of each place
        let biased: Vec<_> = steps.clone().map(|t| place(&WFG1, t.powi(50))).collect();
        assert_front(&WFG1, &biased, 0.999);
        assert_front(&WFG2, &steps.map(|t| place(&WFG2, t)).collect::<Vec<_>>(), 0.999);
    }

    #[test]
    fn elliptic_fronts_reach_their_volumes() {
        let (mut plain, mut biased) = (Vec::new(), Vec::new());
        for i in 0..=100 {
            for j in 0..=100 {
                let (a, b) = (f64::from(i) / 100.0, f64::from(j) / 100.0);
                plain.push(WFG4.evaluate(&at(&WFG4, &z(&[a, b, 0.35, 0.35, 0.35, 0.35]))));
                // from the last to the first, each undoes the bias that the later ones give it
                let mut y = vec![0.35];
                for place in [0.35, 0.35, 0.35, b, a] {
                    y.insert(0, f64::powf(place, 1.0 / bias(mean(&y))));
                }
                biased.push(WFG9.evaluate(&at(&WFG9, &z(&y))));
            }
        }
        let ellipsoid = |f: &[f64]| {
            f.iter()
                .zip([2.0, 4.0, 6.0])
                .map(|(f, a)| (f / a) * (f / a))
                .sum::<f64>()
        };
        assert!(plain.iter().all(|f| (ellipsoid(f) - 1.0).abs() < 1e-9));
        assert!(biased.iter().all(|f| (ellipsoid(f) - 1.0).abs() < 1e-6));
        assert_front(&WFG4, &plain, 0.97);
        assert_front(&WFG9, &biased, 0.9);
    }

    #[test]
    fn transformations_at_their_marked_points() {
        assert_eq!(
            (s_linear(0.35, 0.35), s_linear(0.0, 0.35), s_linear(1.0, 0.35)),
            (0.0, 1.0, 1.0)
        );
        assert_eq!(
            (b_flat(0.0, 0.8, 0.75, 0.85), b_flat(0.8, 0.8, 0.75, 0.85)),
            (0.0, 0.8)
        );
        assert!((b_flat(1.0, 0.8, 0.75, 0.85) - 1.0).abs() < 1e-12);
        let decept = |y| s_decept(y, 0.35, 0.001, 0.05);
        assert!(decept(0.35).abs() < 1e-12 && (decept(0.0) - 0.05).abs() < 1e-9);
        assert!((decept(1.0) - 0.05).abs() < 1e-9 && decept(0.352) > 0.99);
        assert!(s_multi(0.35, 10.0).abs() < 1e-12 && (s_multi(1.0, 10.0) - 1.0).abs() < 1e-12);
        assert!((bias(0.0) - 0.02).abs() < 1e-12 && (bias(1.0) - 50.0).abs() < 1e-9);
        assert!((r_nonsep(&[1.0, 0.0], 2) - 1.0).abs() < 1e-12 && r_nonsep(&[0.0; 4], 4) == 0.0);
    }

    #[test]
    fn the_volumes_of_curves_are_those_of_their_envelopes() {
        // both objectives along the front, as functions of the place
        let wave = |t: f64| 4.0 * (1.0 - t - (10.0 * PI * t + FRAC_PI_2).cos() / (10.0 * PI));
        let comb = |t: f64| 4.0 * (1.0 - t * (5.0 * PI * t).cos().powi(2));
        for (problem, second) in [(&WFG1, &wave as &dyn Fn(f64) -> f64), (&WFG2, &comb)] {
            let along = |f: f64| (1.0 - f / 2.0).clamp(-1.0, 1.0).acos() / FRAC_PI_2;
            let volume = curve(|f| second(along(f)), [0.0, 2.0], problem.reference);
            assert!(
                (volume - problem.best_volume).abs() < 1e-5,
                "{}: {volume}",
                problem.name
            );
        }
    }
}

//! Any number of objectives: the first parameters place a point on the front, the distance `g` of the rest lifts it off.
//!
//! Deb, Thiele, Laumanns and Zitzler, "Scalable multi-objective optimization test problems" (2002).

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_2, PI};

use super::{
    Benchmark,
    parts::{numbers, reals},
};

const PAPER: &str = "Deb et al. 2002";

/// A plane behind 11^4 local ones.
pub(super) const DTLZ1: Benchmark = Benchmark {
    name: "dtlz1",
    doc: "flat front behind very many local ones; 6 real parameters, 3 objectives",
    paper: PAPER,
    known: 0,
    ideal: &[0.0; 3],
    reference: &[100.0; 3],
    // the corner below the plane of sum 1/2
    best_volume: 100.0 * 100.0 * 100.0 - 1.0 / 48.0,
    space: || reals(6, 0.0, 1.0),
    evaluate: |c| {
        let x = numbers(c);
        let (place, rest) = x.split_at(2);
        let mut f = vec![0.5 * (1.0 + rugged(rest)); 3];
        for (i, x) in place.iter().enumerate() {
            for value in &mut f[..2 - i] {
                *value *= x;
            }
            f[2 - i] *= 1.0 - x;
        }
        f
    },
};

/// The eighth of a sphere.
pub(super) const DTLZ2: Benchmark = Benchmark {
    name: "dtlz2",
    doc: "spherical front; 7 real parameters, 3 objectives",
    paper: PAPER,
    known: 0,
    ideal: &[0.0; 3],
    reference: &[1.2; 3],
    best_volume: 1.2 * 1.2 * 1.2 - PI / 6.0,
    space: || reals(7, 0.0, 1.0),
    evaluate: |c| {
        let x = numbers(c);
        sphere(&angles(&x[..2]), bowl(&x[2..]))
    },
};

/// The same with five objectives.
pub(super) const DTLZ2_WIDE: Benchmark = Benchmark {
    name: "dtlz2-5",
    doc: "spherical front; 8 real parameters, 5 objectives",
    paper: PAPER,
    known: 0,
    ideal: &[0.0; 5],
    reference: &[1.2; 5],
    // without the part of the unit ball in five dimensions, 8 pi^2 / 15 in all
    best_volume: 1.2 * 1.2 * 1.2 * 1.2 * 1.2 - 8.0 * PI * PI / 15.0 / 32.0,
    space: || reals(8, 0.0, 1.0),
    evaluate: |c| {
        let x = numbers(c);
        sphere(&angles(&x[..4]), bowl(&x[4..]))
    },
};

/// The sphere behind 3^4 local ones.
pub(super) const DTLZ3: Benchmark = Benchmark {
    name: "dtlz3",
    doc: "spherical front behind very many local ones; 6 real parameters, 3 objectives",
    paper: PAPER,
    known: 0,
    ideal: &[0.0; 3],
    reference: &[200.0; 3],
    best_volume: 200.0 * 200.0 * 200.0 - PI / 6.0,
    space: || reals(6, 0.0, 1.0),
    evaluate: |c| {
        let x = numbers(c);
        sphere(&angles(&x[..2]), rugged(&x[2..]))
    },
};

/// A front that is a curve.
pub(super) const DTLZ5: Benchmark = Benchmark {
    name: "dtlz5",
    doc: "front that is only a curve; 7 real parameters, 3 objectives",
    paper: PAPER,
    known: 0,
    ideal: &[0.0; 3],
    reference: &[1.2; 3],
    // f0 = f1, and 2 f0^2 + f2^2 = 1
    best_volume: 1.2 * 1.2 * 1.2 - 1.2 * PI / 2.0 * FRAC_1_SQRT_2 + 1.0 / 3.0,
    space: || reals(7, 0.0, 1.0),
    evaluate: |c| {
        let x = numbers(c);
        let g = bowl(&x[2..]);
        let second = PI / (4.0 * (1.0 + g)) * (1.0 + 2.0 * g * x[1]);
        sphere(&[x[0] * FRAC_PI_2, second], g)
    },
};

/// A front in four pieces.
pub(super) const DTLZ7: Benchmark = Benchmark {
    name: "dtlz7",
    doc: "front in four pieces; 7 real parameters, 3 objectives",
    paper: PAPER,
    known: 2,
    ideal: &[0.0, 0.0, 2.614_008],
    reference: &[1.0, 1.0, 18.0],
    // the highest ridge so far of t (1 + sin 3 pi t), summed over 10^7 steps
    best_volume: 13.457_669_2,
    space: || reals(7, 0.0, 1.0),
    evaluate: |c| {
        let x = numbers(c);
        let g = 2.0 + 9.0 * x[2..].iter().sum::<f64>() / (x.len() - 2) as f64;
        vec![x[0], x[1], g * 3.0 - ridge(x[0]) - ridge(x[1])]
    },
};

/// `t (1 + sin 3 pi t)`.
fn ridge(t: f64) -> f64 {
    t * (1.0 + (3.0 * PI * t).sin())
}

/// A bowl with its least value 0 in the middle.
fn bowl(x: &[f64]) -> f64 {
    x.iter().map(|v| (v - 0.5).powi(2)).sum()
}

/// The bowl a hundredfold and corrugated.
fn rugged(x: &[f64]) -> f64 {
    let one = |v: &f64| 1.0 + (v - 0.5).powi(2) - (20.0 * PI * (v - 0.5)).cos();
    100.0 * x.iter().map(one).sum::<f64>()
}

fn angles(x: &[f64]) -> Vec<f64> {
    x.iter().map(|v| v * FRAC_PI_2).collect()
}

/// The point of the sphere of radius `1 + g` at these angles.
fn sphere(angles: &[f64], g: f64) -> Vec<f64> {
    let last = angles.len();
    let mut f = vec![1.0 + g; last + 1];
    for (i, angle) in angles.iter().enumerate() {
        for value in &mut f[..last - i] {
            *value *= angle.cos();
        }
        f[last - i] *= angle.sin();
    }
    f
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark::tests::{assert_front, at};

    /// Evaluates a grid of places on the front.
    fn grid(problem: &Benchmark, rest: f64, steps: i32) -> Vec<Vec<f64>> {
        let mut x = vec![rest; problem.space().len()];
        let mut points = Vec::new();
        for i in 0..=steps {
            for j in 0..=steps {
                (x[0], x[1]) = (f64::from(i) / f64::from(steps), f64::from(j) / f64::from(steps));
                points.push(problem.evaluate(&at(problem, &x)));
            }
        }
        points
    }

    #[test]
    fn the_fronts_reach_their_volumes() {
        for problem in [&DTLZ1, &DTLZ2, &DTLZ3, &DTLZ5] {
            assert_front(problem, &grid(problem, 0.5, 100), 0.98);
        }
        assert_front(&DTLZ7, &grid(&DTLZ7, 0.0, 200), 0.99);
        let places = |i: u32| (0..4).map(move |d| f64::from(i / 7u32.pow(d) % 7) / 6.0);
        let points = (0..7u32.pow(4)).map(|i| {
            let x: Vec<f64> = places(i).chain([0.5; 4]).collect();
            DTLZ2_WIDE.evaluate(&at(&DTLZ2_WIDE, &x))
        });
        assert_front(&DTLZ2_WIDE, &points.collect::<Vec<_>>(), 0.8);
    }

    #[test]
    fn points_of_the_front_satisfy_its_equation() {
        let x = [0.3, 0.8, 0.5, 0.5, 0.5, 0.5, 0.5];
        let sum = |f: &[f64]| f.iter().sum::<f64>();
        let squares = |f: &[f64]| f.iter().map(|v| v * v).sum::<f64>();
        assert!((sum(&DTLZ1.evaluate(&at(&DTLZ1, &x[..6]))) - 0.5).abs() < 1e-12);
        assert!((squares(&DTLZ2.evaluate(&at(&DTLZ2, &x))) - 1.0).abs() < 1e-12);
        assert!((squares(&DTLZ3.evaluate(&at(&DTLZ3, &x[..6]))) - 1.0).abs() < 1e-12);
        let f = DTLZ5.evaluate(&at(&DTLZ5, &x));
        assert!((squares(&f) - 1.0).abs() < 1e-12 && (f[0] - f[1]).abs() < 1e-12);
        // one coordinate half a unit off: 0.25 further out, or 25 + 100 (1 - cos 10 pi) = 25
        let off = [0.3, 0.8, 1.0, 0.5, 0.5, 0.5, 0.5];
        assert!((squares(&DTLZ2.evaluate(&at(&DTLZ2, &off))).sqrt() - 1.25).abs() < 1e-12);
        assert!((sum(&DTLZ1.evaluate(&at(&DTLZ1, &off[..6]))) - 0.5 * 26.0).abs() < 1e-9);
    }

    #[test]
    fn the_volume_of_dtlz7_is_that_of_its_ridges() {
        let steps = 1_000_000;
        let mut highest = 0.0f64;
        let mut area = 0.0;
        for i in 0..steps {
            highest = highest.max(ridge((f64::from(i) + 0.5) / f64::from(steps)));
            area += highest / f64::from(steps);
        }
        let volume = (DTLZ7.reference[2] - 6.0) + 2.0 * area;
        assert!((volume - DTLZ7.best_volume).abs() < 1e-5, "{volume}");
    }
}

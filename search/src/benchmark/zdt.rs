//! Two objectives: `f0` places a point along the front, the distance `g` of the other parameters lifts `f1` off it.
//!
//! Zitzler, Deb and Thiele, "Comparison of multiobjective evolutionary algorithms: empirical results" (2000).

use std::f64::consts::PI;

use super::{
    Benchmark,
    parts::{numbers, real, reals, space},
};

const PAPER: &str = "Zitzler et al. 2000";

/// Convex front.
pub(super) const ZDT1: Benchmark = Benchmark {
    name: "zdt1",
    doc: "convex front; 12 real parameters, 2 objectives",
    paper: PAPER,
    known: 1,
    ideal: &[0.0, 0.0],
    reference: &[1.1, 4.0],
    // under 1 - sqrt(f0)
    best_volume: 1.1 * 4.0 - 1.0 / 3.0,
    space: || reals(12, 0.0, 1.0),
    evaluate: |c| {
        let x = numbers(c);
        let g = linear(&x);
        vec![x[0], g * (1.0 - (x[0] / g).sqrt())]
    },
};

/// Concave front.
pub(super) const ZDT2: Benchmark = Benchmark {
    name: "zdt2",
    doc: "concave front; 8 real parameters, 2 objectives",
    paper: PAPER,
    known: 1,
    ideal: &[0.0, 0.0],
    reference: &[1.1, 5.5],
    // under 1 - f0^2
    best_volume: 1.1 * 5.5 - 2.0 / 3.0,
    space: || reals(8, 0.0, 1.0),
    evaluate: |c| {
        let x = numbers(c);
        let g = linear(&x);
        vec![x[0], g * (1.0 - (x[0] / g).powi(2))]
    },
};

/// Front in five pieces.
pub(super) const ZDT3: Benchmark = Benchmark {
    name: "zdt3",
    doc: "front in five pieces; 10 real parameters, 2 objectives",
    paper: PAPER,
    known: 1,
    ideal: &[0.0, -0.773_369],
    reference: &[1.1, 4.0],
    // the lower envelope of the front's curve, summed over 10^7 steps
    best_volume: 4.521_762_9,
    space: || reals(10, 0.0, 1.0),
    evaluate: |c| {
        let x = numbers(c);
        let g = linear(&x);
        let share = x[0] / g;
        vec![x[0], g * (1.0 - share.sqrt() - share * (10.0 * PI * x[0]).sin())]
    },
};

/// The front of ZDT1 behind 21^5 local ones.
pub(super) const ZDT4: Benchmark = Benchmark {
    name: "zdt4",
    doc: "very many local fronts; 6 real parameters, 2 objectives",
    paper: PAPER,
    known: 1,
    ideal: &[0.0, 0.0],
    reference: &[1.1, 90.0],
    best_volume: 1.1 * 90.0 - 1.0 / 3.0,
    space: || {
        let distance = |i| real(&format!("x{i:02}"), -5.0, 5.0);
        space(
            [real("x00", 0.0, 1.0)]
                .into_iter()
                .chain((1..6).map(distance))
                .collect(),
        )
    },
    evaluate: |c| {
        let x = numbers(c);
        let rugged = |v: &f64| v * v - 10.0 * (4.0 * PI * v).cos();
        let g = 1.0 + 10.0 * (x.len() - 1) as f64 + x[1..].iter().map(rugged).sum::<f64>();
        vec![x[0], g * (1.0 - (x[0] / g).sqrt())]
    },
};

/// Points crowd away from the front and along it.
pub(super) const ZDT6: Benchmark = Benchmark {
    name: "zdt6",
    doc: "uneven density towards and along a concave front; 8 real parameters, 2 objectives",
    paper: PAPER,
    known: 1,
    ideal: &[ZDT6_LEAST, 0.0],
    reference: &[1.1, 8.5],
    // under 1 - f0^2 from the least f0 on
    best_volume: (1.1 - ZDT6_LEAST) * 8.5 - (1.0 - ZDT6_LEAST)
        + (1.0 - ZDT6_LEAST * ZDT6_LEAST * ZDT6_LEAST) / 3.0,
    space: || reals(8, 0.0, 1.0),
    evaluate: |c| {
        let x = numbers(c);
        let f = 1.0 - (-4.0 * x[0]).exp() * (6.0 * PI * x[0]).sin().powi(6);
        let g = 1.0 + 9.0 * (x[1..].iter().sum::<f64>() / (x.len() - 1) as f64).powf(0.25);
        vec![f, g * (1.0 - (f / g).powi(2))]
    },
};

/// The least `f0` that ZDT6 reaches, near `x0` = 0.0815.
const ZDT6_LEAST: f64 = 0.280_775_318_8;

fn linear(x: &[f64]) -> f64 {
    1.0 + 9.0 * x[1..].iter().sum::<f64>() / (x.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark::tests::{assert_front, at, curve};

    #[test]
    fn the_fronts_reach_their_volumes() {
        for problem in [&ZDT1, &ZDT2, &ZDT3, &ZDT4, &ZDT6] {
            let mut x = vec![0.0; problem.space().len()];
            let points = (0..=4000).map(|i| {
                x[0] = f64::from(i) / 4000.0;
                problem.evaluate(&at(problem, &x))
            });
            assert_front(problem, &points.collect::<Vec<_>>(), 0.999);
        }
    }

    #[test]
    fn worked_by_hand() {
        // g = 1 + 9 * 0.5 = 5.5 and 5.5 * (1 - sqrt(0.25 / 5.5))
        let f = ZDT1.evaluate(&at(&ZDT1, &[&[0.25][..], &[0.5; 11]].concat()));
        assert!(
            (f[0] - 0.25).abs() < 1e-12 && (f[1] - 4.327_396_06).abs() < 1e-7,
            "{f:?}"
        );
        // g = 1 + 50 + 5 * (1 - 10) = 6 at x = 1
        let f = ZDT4.evaluate(&at(&ZDT4, &[0.0, 1.0, 1.0, 1.0, 1.0, 1.0]));
        assert!((f[1] - 6.0).abs() < 1e-9, "{f:?}");
    }

    #[test]
    fn the_volume_of_zdt3_is_that_of_its_envelope() {
        let front = |f: f64| 1.0 - f.sqrt() - f * (10.0 * PI * f).sin();
        let volume = curve(front, [0.0, 1.0], ZDT3.reference);
        assert!((volume - ZDT3.best_volume).abs() < 1e-6, "{volume}");
    }
}

//! Continuous problems older than the suites.
//!
//! Fonseca and Fleming, "An overview of evolutionary algorithms in multiobjective optimization" (1995); Kursawe, "A
//! variant of evolution strategies for vector optimization" (1991); Viennet, Fonteix and Marc, "Multicriteria
//! optimization using a genetic algorithm for determining a Pareto set" (1996).

use super::{
    Benchmark,
    parts::{numbers, reals},
};

/// A point, an arch and a hook apart from each other.
pub(super) const KURSAWE: Benchmark = Benchmark {
    name: "kursawe",
    doc: "front in several pieces, one of them a point; 3 real parameters, 2 objectives",
    paper: "Kursawe 1991",
    known: 0,
    ideal: &[-20.0, -11.627_287],
    reference: &[-9.0, 6.0],
    // a grid of step 0.02 around the front, refined until the volume stood still
    best_volume: 155.486,
    space: || reals(3, -5.0, 5.0),
    evaluate: |c| {
        let x = numbers(c);
        let pair = |w: &[f64]| -10.0 * (-0.2 * w[0].hypot(w[1])).exp();
        let one = |v: &f64| v.abs().powf(0.8) + 5.0 * v.powi(3).sin();
        vec![x.windows(2).map(pair).sum(), x.iter().map(one).sum()]
    },
};

/// Nearly everywhere as bad as can be.
pub(super) const FONSECA: Benchmark = Benchmark {
    name: "fonseca",
    doc: "plateau around a small good region; 4 real parameters, 2 objectives",
    paper: "Fonseca and Fleming 1995",
    known: 0,
    ideal: &[0.0, 0.0],
    // the values' own end: the median of random points is less than a millionth away
    reference: &[1.0, 1.0],
    // under the curve of equal parameters between -1/2 and 1/2, summed over 10^7 steps
    best_volume: 0.342_115_6,
    space: || reals(4, -4.0, 4.0),
    evaluate: |c| {
        let x = numbers(c);
        let middle = 1.0 / (x.len() as f64).sqrt();
        let from = |at: f64| 1.0 - (-x.iter().map(|v| (v - at).powi(2)).sum::<f64>()).exp();
        vec![from(middle), from(-middle)]
    },
};

/// Two parameters, three objectives of different scale.
pub(super) const VIENNET: Benchmark = Benchmark {
    name: "viennet",
    doc: "objectives of very different scale; 2 real parameters, 3 objectives",
    paper: "Viennet et al. 1996",
    known: 0,
    ideal: &[0.0, 15.0, -0.1],
    reference: &[9.0, 20.0, 0.2],
    // the largest that examples/best_volume.rs found, rounded up
    best_volume: 12.696,
    space: || reals(2, -3.0, 3.0),
    evaluate: |c| {
        let x = numbers(c);
        let (x, y) = (x[0], x[1]);
        let r = x * x + y * y;
        vec![
            0.5 * r + r.sin(),
            (3.0 * x - 2.0 * y + 4.0).powi(2) / 8.0 + (x - y + 1.0).powi(2) / 27.0 + 15.0,
            1.0 / (r + 1.0) - 1.1 * (-r).exp(),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark::tests::{assert_front, at};

    #[test]
    fn worked_by_hand() {
        let f = KURSAWE.evaluate(&at(&KURSAWE, &[0.0; 3]));
        assert_eq!(f, [-20.0, 0.0]);
        let f = FONSECA.evaluate(&at(&FONSECA, &[0.5; 4]));
        // four parameters, each 1 from the other centre
        assert!(
            f[0] == 0.0 && (f[1] - (1.0 - f64::exp(-4.0))).abs() < 1e-12,
            "{f:?}"
        );
        let f = VIENNET.evaluate(&at(&VIENNET, &[0.0, 0.0]));
        assert!(
            f[0] == 0.0 && (f[1] - (2.0 + 1.0 / 27.0 + 15.0)).abs() < 1e-12 && (f[2] + 0.1).abs() < 1e-12
        );
    }

    #[test]
    fn the_front_of_fonseca_reaches_its_volume() {
        let points = (0..=4000).map(|i| FONSECA.evaluate(&at(&FONSECA, &[f64::from(i) / 4000.0 - 0.5; 4])));
        assert_front(&FONSECA, &points.collect::<Vec<_>>(), 0.999);
    }

    #[test]
    fn grids_come_near_the_volumes_that_were_found() {
        let steps = |n: i32, to: f64| (0..=n).map(move |i| to * (2.0 * f64::from(i) / f64::from(n) - 1.0));
        let mut points = Vec::new();
        for x in steps(300, 3.0) {
            points.extend(steps(300, 3.0).map(|y| VIENNET.evaluate(&at(&VIENNET, &[x, y]))));
        }
        assert_front(&VIENNET, &points, 0.99);
        points.clear();
        // the front lies where no parameter is above 1
        let least = || (0..=64).map(|i| 0.3 - 0.025 * f64::from(i));
        for (x, y) in least().flat_map(|x| least().map(move |y| (x, y))) {
            points.extend(least().map(|z| KURSAWE.evaluate(&at(&KURSAWE, &[x, y, z]))));
        }
        assert_front(&KURSAWE, &points, 0.99);
    }
}

//! Extrapolated curves: does the truth lie where the forecast says, and does the rule stop the hopeless.

use rand::RngExt;
use search::{
    Problem,
    fidelity::{Forecast, rule},
    proposal_rng,
};

use crate::{
    common::{mixed, objective},
    support::{Study, ladder, noise},
};

/// A loss that falls like a power from about 5 to its floor.
fn power(number: u32, x: f64) -> f64 {
    let (floor, gain, rate) = (
        noise(number, 1) + 0.5,
        noise(number, 2),
        0.2 + 0.5 * noise(number, 3),
    );
    floor + gain * 0.3 * x.powf(-rate)
}

/// Even noise that is as often above as below, of standard deviation `sd`.
fn jitter(number: u32, step: u64, sd: f64) -> f64 {
    let mut rng = proposal_rng(1000 + step, number);
    let sum: f64 = (0..12).map(|_| rng.random::<f64>()).sum();
    sd * (sum - 6.0)
}

#[test]
fn the_interval_holds_the_truth_as_often_as_it_says() {
    for (seen, points, sd) in [(0.3, 6, 0.01), (0.3, 12, 0.03), (0.5, 10, 0.01), (0.7, 14, 0.02)] {
        let (mut inside, mut narrow, curves) = (0, 0, 400);
        for number in 0..curves {
            let curve: Vec<(f64, f64)> = (1..=points)
                .map(|i| seen * f64::from(i) / f64::from(points))
                .zip(0..)
                .map(|(x, step)| (x, power(number, x) + jitter(number, step, sd)))
                .collect();
            let forecast = Forecast::new(&curve, 1.0).unwrap();
            let truth = power(number, 1.0) + jitter(number, 999, sd);
            let below = forecast.probability_below(truth);
            inside += u32::from((0.05..0.95).contains(&below));
            // it says something: the range from the last point down by 1 is not all it knows
            let last = curve.last().unwrap().1;
            narrow += u32::from(forecast.probability_below(last - 1.0) < 0.05);
        }
        let coverage = f64::from(inside) / f64::from(curves);
        println!("seen {seen} in {points} points, noise {sd}: {coverage} within 90 %, {narrow} narrow");
        assert!(
            (0.77..=0.99).contains(&coverage),
            "{coverage} of the truths in the 90 % interval"
        );
        assert!(narrow > curves * 8 / 10, "{narrow}");
    }
}

#[test]
fn more_of_a_curve_makes_the_forecast_surer() {
    let width = |seen: f64| {
        let curve: Vec<(f64, f64)> = (1..=20)
            .map(|i| f64::from(i) / 20.0)
            .filter(|x| *x <= seen)
            .map(|x| (x, power(7, x) + jitter(7, (x * 100.0) as u64, 0.01)))
            .collect();
        let forecast = Forecast::new(&curve, 1.0).unwrap();
        // a span of the probability, by steps
        let at = |p: f64| {
            (0..60_000)
                .map(|i| f64::from(i) * 1e-4)
                .find(|y| forecast.probability_below(*y) > p)
        };
        at(0.95).unwrap() - at(0.05).unwrap()
    };
    assert!(width(0.8) < width(0.4) && width(0.4) < width(0.2));
}

#[test]
fn the_hopeless_are_stopped_and_the_promising_are_not() {
    let objectives = vec![objective("validation_loss"), objective("bytes")];
    let problem = Problem::new(mixed(), objectives, vec![], 0).unwrap();
    let mut study = Study::with(
        rule("learning_curve").unwrap(),
        ladder(&[0.3, 0.6, 1.0], 2),
        4,
        problem,
    );
    let loss = |number: u32, x: f64| match number {
        0 => 1.0 + 0.3 * x.powf(-0.5),
        // far above trial 0 and larger
        1 => 3.0 + 0.3 * x.powf(-0.5),
        // far above trial 0 but smaller
        2 => 3.0 + 0.3 * x.powf(-0.5),
        // above trial 0 as long as it is seen, but falling fast
        _ => 0.6 + 0.5 * x.powf(-0.9),
    };
    study.run(1, |n, x| {
        Some(vec![loss(n, x), if n == 2 { 1.0 } else { f64::from(10 + n) }])
    });
    assert_eq!(study.stopped, [1]);
    assert_eq!(study.targets[&3], [0.3, 0.6, 1.0]);
}

//! What is true of every problem, and what the families' tests share.

use std::collections::HashSet;

use rand::RngExt;
use spaces::{Candidate, Value};

use super::*;
use crate::{ask::uniform, front, proposal_rng, sampler};

/// The candidate with these numbers, in the order of the space's parameters.
pub(super) fn at(benchmark: &Benchmark, values: &[f64]) -> Candidate {
    let space = benchmark.space();
    assert_eq!(space.len(), values.len());
    let names = space.parameters().iter().map(|p| p.name.clone());
    let candidate = names.zip(values.iter().map(|v| Value::Float(*v))).collect();
    assert_eq!(space.check(&candidate), Ok(()));
    candidate
}

/// The candidate with these values.
pub(super) fn with(values: &[(&str, Value)]) -> Candidate {
    values.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect()
}

/// The points are attainable: they reach `share` of the volume that is recorded as the best, and no more than all.
pub(super) fn assert_front(benchmark: &Benchmark, points: &[Vec<f64>], share: f64) {
    let best = front::front(points);
    let best: Vec<&[f64]> = best.into_iter().map(|i| points[i].as_slice()).collect();
    let quality = benchmark.quality(&best);
    assert!(
        (share..=1.0 + 1e-9).contains(&quality),
        "{}: {quality}, a volume of {}",
        benchmark.name,
        quality * benchmark.best_volume
    );
    for (i, ideal) in benchmark.ideal.iter().enumerate() {
        let least = best.iter().map(|p| p[i]).fold(f64::INFINITY, f64::min);
        assert!(least >= ideal - 1e-9, "{}: f{i} falls to {least}", benchmark.name);
    }
}

/// The volume above a curve from `start` to `end`: whatever is worse than one of its points counts.
pub(super) fn curve(second: impl Fn(f64) -> f64, [start, end]: [f64; 2], reference: &[f64]) -> f64 {
    let steps = 1_000_000;
    let width = (end - start) / f64::from(steps);
    let (mut least, mut volume) = (reference[1], 0.0);
    for i in 0..steps {
        least = least.min(second(start + width * (f64::from(i) + 0.5)));
        volume += width * (reference[1] - least);
    }
    volume + (reference[0] - end) * (reference[1] - least)
}

#[test]
fn names_differ_and_lead_back() {
    let names: HashSet<&str> = BENCHMARKS.iter().map(|b| b.name).collect();
    assert_eq!(names.len(), BENCHMARKS.len());
    for b in BENCHMARKS {
        assert_eq!(benchmark(b.name).unwrap().name, b.name);
        assert!(!b.doc.is_empty() && !b.paper.is_empty());
    }
    assert!(benchmark("zdt5").is_none());
}

#[test]
fn random_points_are_finite_and_beyond_no_ideal() {
    for b in BENCHMARKS {
        let (space, mut rng) = (b.space(), proposal_rng(1, 0));
        assert_eq!(b.ideal.len(), b.reference.len());
        assert!(b.ideal.iter().zip(b.reference).all(|(i, r)| i < r), "{}", b.name);
        let points: Vec<Vec<f64>> = (0..2000)
            .map(|_| b.evaluate(&space.decode(&uniform(space.len(), &mut rng))))
            .collect();
        for p in &points {
            assert_eq!(p.len(), b.reference.len(), "{}", b.name);
            assert!(
                p.iter().zip(b.ideal).all(|(v, i)| *v >= i - 1e-9),
                "{}: {p:?}",
                b.name
            );
        }
        let quality = b.quality(&points);
        assert!((0.05..1.0).contains(&quality), "{}: {quality}", b.name);
    }
}

#[test]
fn corners_and_ends_are_finite() {
    for b in BENCHMARKS {
        let (space, mut rng) = (b.space(), proposal_rng(2, 0));
        for _ in 0..500 {
            let unit: Vec<f64> = (0..space.len())
                .map(|_| f64::from(u8::from(rng.random::<bool>())))
                .collect();
            let candidate = space.decode(&unit);
            assert_eq!(space.check(&candidate), Ok(()));
            let values = b.evaluate(&candidate);
            assert!(
                values.iter().all(|v| v.is_finite()),
                "{}: {values:?} at {candidate:?}",
                b.name
            );
        }
    }
}

#[test]
fn the_oracle_tells_what_a_trial_would() {
    for b in BENCHMARKS {
        let candidate = b.space().decode(&vec![0.3; b.space().len()]);
        let values = b.evaluate(&candidate);
        let answers = b.oracle().known(std::slice::from_ref(&candidate));
        let expected = (0..b.known).map(|i| (format!("f{i}"), values[i])).collect();
        assert_eq!(answers, [Known::Values(expected)]);
        let known = |greybox| {
            b.problem(0, greybox)
                .objectives
                .iter()
                .filter(|o| o.known_before_training)
                .count()
        };
        assert_eq!((known(false), known(true)), (0, b.known));
    }
}

#[test]
fn a_run_gives_every_trial_once_in_the_order_of_finish() {
    let settings = Settings {
        seed: 3,
        trials: 30,
        batch: 4,
        greybox: true,
    };
    for b in BENCHMARKS {
        let values = run(b, &mut *sampler("sobol").unwrap(), settings).unwrap();
        assert_eq!(values.len(), 30);
        // these draws do not look at results, so the batch changes nothing
        let alone = Settings {
            batch: 1,
            greybox: false,
            ..settings
        };
        assert_eq!(
            values,
            run(b, &mut *sampler("sobol").unwrap(), alone).unwrap(),
            "{}",
            b.name
        );
        let curve = b.curve(&values);
        for n in [1, 25, 30] {
            assert!(
                (curve[n - 1] - b.quality(&values[..n])).abs() < 1e-9,
                "{}",
                b.name
            );
        }
    }
}

//! Speed of what a study waits for: the hypervolume, sorting, one proposal.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rand::RngExt;
use search::{
    Ask, History, NoOracle, Outcome, Problem, Proposal, REGISTRY, contributions,
    front::{front, sort},
    hypervolume, proposal_rng,
};
use spaces::{Condition, Direction, Domain, Objective, Parameter, Space, Value};

/// Points that do not dominate each other: the eighth of a sphere, seen from outside.
fn sphere(n: usize, width: usize) -> Vec<Vec<f64>> {
    let mut rng = proposal_rng(1, 0);
    let mut point = || {
        let raw: Vec<f64> = (0..width)
            .map(|_| -(rng.random::<f64>().max(1e-12).ln()))
            .collect();
        let norm = raw.iter().map(|v| v * v).sum::<f64>().sqrt();
        raw.into_iter().map(|v| v / norm).collect()
    };
    (0..n).map(|_| point()).collect()
}

/// Uniform points of the unit cube.
fn cloud(n: usize, width: usize) -> Vec<Vec<f64>> {
    let mut rng = proposal_rng(2, 0);
    (0..n)
        .map(|_| (0..width).map(|_| rng.random()).collect())
        .collect()
}

fn volumes(c: &mut Criterion) {
    let mut group = c.benchmark_group("hypervolume");
    group.sample_size(10);
    for width in 2..=5 {
        for n in [100, 1000, 5000] {
            let points = sphere(n, width);
            let reference = vec![1.1; width];
            group.bench_function(BenchmarkId::new(format!("{width} objectives"), n), |b| {
                b.iter(|| hypervolume(black_box(&points), &reference));
            });
        }
    }
}

fn fronts(c: &mut Criterion) {
    let mut group = c.benchmark_group("front");
    group.sample_size(10);
    for n in [10_000, 100_000] {
        for width in 2..=5 {
            let (cloud, sphere) = (cloud(n, width), sphere(n, width));
            let mut bench = |name: &str, run: &dyn Fn()| {
                let id = BenchmarkId::new(format!("{name}, {width} objectives"), n);
                group.bench_function(id, |b| b.iter(run));
            };
            bench("sort of cloud", &|| drop(black_box(sort(&cloud))));
            bench("front of cloud", &|| drop(black_box(front(&cloud))));
            bench("front of sphere", &|| drop(black_box(front(&sphere))));
        }
    }
}

fn losses(c: &mut Criterion) {
    let mut group = c.benchmark_group("contributions");
    group.sample_size(10);
    for width in 2..=5 {
        let (points, reference) = (sphere(1000, width), vec![1.1; width]);
        group.bench_function(BenchmarkId::new(format!("{width} objectives"), 1000), |b| {
            b.iter(|| contributions(black_box(&points), &reference));
        });
    }
}

/// A space as studies have them: 12 parameters, some conditional.
fn problem() -> Problem {
    let parameter = |name: &str, domain: Domain, when: &str| Parameter {
        name: name.into(),
        domain,
        condition: if when.is_empty() {
            Condition::default()
        } else {
            Condition::parse(when).unwrap()
        },
    };
    let names = |list: &[&str]| Domain::categorical(list.iter().map(|s| Value::from(*s)).collect()).unwrap();
    let space = Space::new(vec![
        parameter(
            "attention",
            names(&["full", "sliding", "linear", "lsh", "aft"]),
            "",
        ),
        parameter(
            "window",
            Domain::int(8, 512, true, 1).unwrap(),
            "attention == 'sliding'",
        ),
        parameter("layers", Domain::int(2, 12, false, 1).unwrap(), ""),
        parameter("width", Domain::int(64, 512, false, 32).unwrap(), ""),
        parameter(
            "experts",
            Domain::categorical([1, 2, 4, 8].map(Value::Int).to_vec()).unwrap(),
            "",
        ),
        parameter("top_k", Domain::int(1, 2, false, 1).unwrap(), "experts > 1"),
        parameter("rate", Domain::float(1e-4, 1e-2, true, None).unwrap(), ""),
        parameter("dropout", Domain::float(0.0, 0.5, false, None).unwrap(), ""),
        parameter("prune", Domain::float(0.0, 0.8, false, None).unwrap(), ""),
        parameter(
            "bits",
            Domain::categorical([32, 8, 4].map(Value::Int).to_vec()).unwrap(),
            "",
        ),
        parameter("fine_tune", names(&["none", "lora", "adapter"]), ""),
        parameter(
            "rank",
            Domain::int(1, 32, true, 1).unwrap(),
            "fine_tune == 'lora'",
        ),
    ])
    .unwrap();
    let objective = |i: usize| Objective {
        metric: format!("m{i}"),
        direction: Direction::Minimize,
        known_before_training: false,
    };
    Problem::new(space, (0..4).map(objective).collect(), vec![], 0).unwrap()
}

/// A history of random trials with four objectives.
fn history(problem: &Problem, n: u32) -> History {
    let mut history = History::default();
    for number in 0..n {
        let mut rng = proposal_rng(3, number);
        let unit: Vec<f64> = (0..problem.space.len()).map(|_| rng.random()).collect();
        let metrics = (0..4).map(|i| (format!("m{i}"), rng.random())).collect();
        history.push(
            problem,
            number,
            problem.space.decode(&unit),
            Outcome::Measured(metrics),
        );
    }
    history
}

fn asks(c: &mut Criterion) {
    let problem = problem();
    let mut group = c.benchmark_group("ask");
    for n in [1_000, 10_000] {
        let history = history(&problem, n);
        for method in REGISTRY {
            let mut sampler = method.sampler();
            group.bench_function(BenchmarkId::new(method.name, n), |b| {
                b.iter(|| -> Proposal {
                    let mut oracle = NoOracle;
                    sampler
                        .ask(&mut Ask::new(&problem, &history, &mut oracle, n))
                        .unwrap()
                });
            });
        }
    }
}

criterion_group!(benches, volumes, losses, fronts, asks);
criterion_main!(benches);

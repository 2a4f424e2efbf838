//! How long the search's own work takes, as histories and fronts grow.

use anyhow::Context;
use rand::RngExt;
use search::{
    Ask, History, Method, NoOracle, Outcome, Problem,
    benchmark::{Benchmark, benchmark},
    front, hypervolume, proposal_rng, sampler,
};
use serde::Serialize;

use super::timed::{Cost, middle, timed};

/// Finished trials before the proposals that are timed.
const HISTORIES: [u32; 3] = [100, 1000, 5000];
/// Points of a front.
const FRONTS: [usize; 3] = [100, 1000, 5000];
/// Points to be ranked.
const CLOUDS: [usize; 2] = [10_000, 100_000];
/// Each time is the middle of so many, or of as many as fit in the time below.
const REPEATS: usize = 5;
const ENOUGH_MS: f64 = 4000.0;
/// What takes microseconds is repeated for so long: its first runs find nothing in the caches.
const STEADY_MS: f64 = 40.0;
/// The problem whose proposals are timed: mixed, conditional, four objectives.
const PROBLEM: &str = "language-model";

/// Every time.
#[derive(Debug, Serialize)]
pub(super) struct Speed {
    pub(super) proposals: Vec<ProposalTime>,
    pub(super) hypervolume: Vec<PointsTime>,
    pub(super) ranking: Vec<PointsTime>,
}

/// The time of a proposal.
#[derive(Debug, Serialize)]
pub(super) struct ProposalTime {
    pub(super) method: &'static str,
    /// Finished trials.
    pub(super) trials: u32,
    /// The first one, of a sampler that has computed nothing yet.
    pub(super) first: Cost,
    /// Each further one, one more finished trial later.
    pub(super) next: Cost,
}

/// The time of work on a set of points.
#[derive(Debug, Serialize)]
pub(super) struct PointsTime {
    pub(super) objectives: usize,
    pub(super) points: usize,
    /// `None` where a smaller set took so long that this one was left out.
    pub(super) cost: Option<Cost>,
}

/// Measures everything; `say` hears what comes next.
pub(super) fn measure(methods: &[&'static Method], mut say: impl FnMut(&str)) -> anyhow::Result<Speed> {
    let benchmark = benchmark(PROBLEM).expect("a problem of the registry");
    let problem = benchmark.problem(0, false);
    let mut proposals = vec![];
    for trials in HISTORIES {
        let history = history(benchmark, &problem, trials)?;
        for method in methods {
            say(&format!("a proposal of {} after {trials} trials", method.name));
            proposals.push(proposal(method, benchmark, &problem, history.clone())?);
        }
    }
    say("hypervolumes");
    let mut volumes = vec![];
    for objectives in 2..=5 {
        sizes(&mut volumes, objectives, &FRONTS, ENOUGH_MS, sphere, |points| {
            hypervolume(points, &vec![1.1; objectives]);
        });
    }
    say("ranking");
    let mut ranking = vec![];
    sizes(&mut ranking, 4, &CLOUDS, ENOUGH_MS, cloud, |points| {
        front::sort(points);
    });
    Ok(Speed {
        proposals,
        hypervolume: volumes,
        ranking,
    })
}

/// Random trials, evaluated.
fn history(benchmark: &Benchmark, problem: &Problem, trials: u32) -> anyhow::Result<History> {
    let (mut history, mut random) = (
        History::default(),
        sampler("random").context("random is a method")?,
    );
    for number in 0..trials {
        let proposal = random.ask(&mut Ask::new(problem, &history, &mut NoOracle, number))?;
        finish(benchmark, problem, &mut history, number, proposal.candidate);
    }
    Ok(history)
}

fn finish(
    benchmark: &Benchmark,
    problem: &Problem,
    history: &mut History,
    number: u32,
    candidate: spaces::Candidate,
) {
    let metrics = problem.measured(&benchmark.evaluate(&candidate));
    history.push(problem, number, candidate, Outcome::Measured(metrics));
}

fn proposal(
    method: &Method,
    benchmark: &Benchmark,
    problem: &Problem,
    mut history: History,
) -> anyhow::Result<ProposalTime> {
    let (mut sampler, trials) = (method.sampler(), history.len() as u32);
    let mut costs = vec![];
    while costs.len() <= REPEATS && costs.iter().map(|c: &Cost| c.wall_ms).sum::<f64>() < ENOUGH_MS {
        let number = trials + costs.len() as u32;
        let (proposal, cost) = timed(|| sampler.ask(&mut Ask::new(problem, &history, &mut NoOracle, number)));
        costs.push(cost);
        finish(benchmark, problem, &mut history, number, proposal?.candidate);
    }
    let first = costs[0];
    // a method that needs all the time for its first proposal has no further one
    let further = if costs.len() > 1 {
        costs.split_off(1)
    } else {
        costs
    };
    Ok(ProposalTime {
        method: method.name,
        trials,
        first,
        next: middle(further),
    })
}

/// Times the work on ever larger sets, as long as they take less than `enough_ms`.
fn sizes(
    rows: &mut Vec<PointsTime>,
    objectives: usize,
    sizes: &[usize],
    enough_ms: f64,
    draw: fn(usize, usize) -> Vec<Vec<f64>>,
    work: impl Fn(&[Vec<f64>]),
) {
    let mut before: Option<Cost> = Some(Cost::default());
    for points in sizes {
        let cost = before.filter(|c| c.wall_ms < enough_ms).map(|_| {
            let drawn = draw(*points, objectives);
            let (mut costs, mut spent_ms): (Vec<Cost>, f64) = (vec![], 0.0);
            while spent_ms < STEADY_MS || (costs.len() < REPEATS && spent_ms < enough_ms) {
                let cost = timed(|| work(std::hint::black_box(&drawn))).1;
                spent_ms += cost.wall_ms;
                costs.push(cost);
            }
            middle(costs)
        });
        before = cost;
        rows.push(PointsTime {
            objectives,
            points: *points,
            cost,
        });
    }
}

/// Points that do not dominate each other: a part of a sphere, seen from outside.
fn sphere(n: usize, objectives: usize) -> Vec<Vec<f64>> {
    let mut points = cloud(n, objectives);
    for point in &mut points {
        let length = point.iter().map(|v| v * v).sum::<f64>().sqrt();
        point.iter_mut().for_each(|v| *v /= length);
    }
    points
}

/// Uniform points of the unit cube.
fn cloud(n: usize, objectives: usize) -> Vec<Vec<f64>> {
    let mut rng = proposal_rng(1, 0);
    (0..n)
        .map(|_| (0..objectives).map(|_| rng.random()).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_sets_are_left_out_once_one_took_too_long() {
        let mut rows = vec![];
        sizes(&mut rows, 2, &[10, 20, 30], 100.0, cloud, |points| {
            if points.len() == 20 {
                std::thread::sleep(std::time::Duration::from_millis(101));
            }
        });
        let measured: Vec<bool> = rows.iter().map(|r| r.cost.is_some()).collect();
        assert_eq!(measured, [true, true, false]);
    }

    #[test]
    fn a_proposal_is_timed_while_the_history_grows() {
        let benchmark = benchmark(PROBLEM).unwrap();
        let problem = benchmark.problem(0, false);
        let history = history(benchmark, &problem, 40).unwrap();
        assert_eq!(history.values().count(), 40);
        let time = proposal(&search::REGISTRY[0], benchmark, &problem, history).unwrap();
        assert_eq!(time.trials, 40);
        assert!(time.first.wall_ms > 0.0 && time.next.wall_ms > 0.0, "{time:?}");
    }
}

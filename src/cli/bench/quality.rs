//! How much of the best volume each method reaches, over problems and seeds.

use std::{
    collections::VecDeque,
    sync::{Mutex, mpsc},
    thread,
    time::Instant,
};

use anyhow::Context;
use search::{
    Method,
    benchmark::{Benchmark, CHECKPOINTS, Settings, run},
};
use serde::Serialize;

use super::{
    statistics::{mann_whitney, quantile},
    timed::{Cost, Timed, middle},
};
use crate::output::{bench_bar, duration};

/// What is run: each method on each problem with each seed.
pub(super) struct Plan {
    pub(super) problems: Vec<&'static Benchmark>,
    pub(super) methods: Vec<&'static Method>,
    /// Seeds 0 to one less than this.
    pub(super) seeds: u64,
    pub(super) settings: Settings,
    pub(super) threads: usize,
}

/// A method on a problem.
#[derive(Debug, Serialize)]
pub(super) struct Quality {
    pub(super) problem: &'static str,
    pub(super) method: &'static str,
    pub(super) seeds: u64,
    /// The normalised hypervolume after some numbers of evaluations.
    pub(super) after: Vec<Quartiles>,
    /// What a proposal costs, over the whole of a study.
    pub(super) proposal: Cost,
    /// How likely the first method would be this much better by chance; `None` for itself.
    pub(super) p_first_is_better: Option<f64>,
    /// Quartiles after every evaluation.
    #[serde(skip)]
    pub(super) curve: Vec<Quartiles>,
}

/// The middle half of the seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Quartiles {
    pub(super) evaluations: usize,
    pub(super) lower: f64,
    pub(super) median: f64,
    pub(super) upper: f64,
}

/// One seed of a method on a problem.
struct Study {
    problem: usize,
    method: usize,
    curve: Vec<f64>,
    costs: Vec<Cost>,
}

/// Runs the plan, with progress on stderr: methods of a problem stand together, the first method first.
pub(super) fn measure(plan: &Plan) -> anyhow::Result<Vec<Quality>> {
    let studies = studies(plan)?;
    let mut rows = Vec::with_capacity(plan.problems.len() * plan.methods.len());
    for (p, problem) in plan.problems.iter().enumerate() {
        let mut first: Vec<f64> = vec![];
        for (m, method) in plan.methods.iter().enumerate() {
            let own: Vec<&Study> = studies
                .iter()
                .filter(|s| (s.problem, s.method) == (p, m))
                .collect();
            let curve: Vec<Quartiles> = (0..plan.settings.trials as usize)
                .map(|i| quartiles(&own, i))
                .collect();
            let last: Vec<f64> = own.iter().filter_map(|s| s.curve.last().copied()).collect();
            let p_first_is_better = (m > 0).then(|| mann_whitney(&first, &last));
            if m == 0 {
                first = last;
            }
            rows.push(Quality {
                problem: problem.name,
                method: method.name,
                seeds: plan.seeds,
                after: checkpoints(curve.len()).map(|n| curve[n - 1]).collect(),
                proposal: middle(own.iter().map(|s| mean(&s.costs)).collect()),
                p_first_is_better,
                curve,
            });
        }
    }
    Ok(rows)
}

/// The usual numbers of evaluations within a study, and its whole length.
fn checkpoints(trials: usize) -> impl Iterator<Item = usize> {
    CHECKPOINTS
        .into_iter()
        .filter(move |n| *n < trials)
        .chain([trials])
}

fn quartiles(studies: &[&Study], i: usize) -> Quartiles {
    let values: Vec<f64> = studies.iter().map(|s| s.curve[i]).collect();
    Quartiles {
        evaluations: i + 1,
        lower: quantile(&values, 0.25),
        median: quantile(&values, 0.5),
        upper: quantile(&values, 0.75),
    }
}

fn mean(costs: &[Cost]) -> Cost {
    let of = |pick: fn(&Cost) -> f64| costs.iter().map(pick).sum::<f64>() / costs.len() as f64;
    Cost {
        cpu_ms: of(|c| c.cpu_ms),
        wall_ms: of(|c| c.wall_ms),
    }
}

fn studies(plan: &Plan) -> anyhow::Result<Vec<Study>> {
    // seeds outermost: the time that is left follows from the time that went by
    let mut jobs: VecDeque<(u64, usize, usize)> = VecDeque::new();
    for seed in 0..plan.seeds {
        jobs.extend(
            (0..plan.problems.len()).flat_map(|p| (0..plan.methods.len()).map(move |m| (seed, p, m))),
        );
    }
    let (total, jobs, start) = (jobs.len(), Mutex::new(jobs), Instant::now());
    let mut bar = bench_bar();
    let (sender, finished) = mpsc::channel();
    let mut studies = Vec::with_capacity(total);
    thread::scope(|scope| {
        for _ in 0..plan.threads {
            let (sender, jobs) = (sender.clone(), &jobs);
            scope.spawn(move || {
                let next = || {
                    jobs.lock()
                        .expect("no thread panics while it holds this")
                        .pop_front()
                };
                while let Some((seed, problem, method)) = next() {
                    // nobody listens any more once a study has failed
                    if sender.send(study(plan, seed, problem, method)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for study in finished {
            studies.push(study?);
            let (done, spent) = (studies.len(), start.elapsed().as_secs_f64());
            let left = spent / done as f64 * (total - done) as f64;
            bar.set(done as u64, total as u64, &format!("{} left", duration(left)));
        }
        anyhow::Ok(())
    })?;
    bar.finish();
    Ok(studies)
}

fn study(plan: &Plan, seed: u64, problem: usize, method: usize) -> anyhow::Result<Study> {
    let (benchmark, how) = (plan.problems[problem], plan.methods[method]);
    let mut sampler = Timed::new(how.sampler());
    let settings = Settings {
        seed,
        ..plan.settings
    };
    let values = run(benchmark, &mut sampler, settings).with_context(|| {
        format!(
            "{} on {} with seed {seed} found nothing to try",
            how.name, benchmark.name
        )
    })?;
    Ok(Study {
        problem,
        method,
        curve: benchmark.curve(&values),
        costs: sampler.costs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::names::{methods, problems};

    fn plan(threads: usize) -> Plan {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        Plan {
            problems: problems(&names(&["zdt1", "tower"])).unwrap(),
            methods: methods(&names(&["nsga2", "random"])).unwrap(),
            seeds: 4,
            settings: Settings {
                seed: 0,
                trials: 120,
                batch: 2,
                greybox: true,
            },
            threads,
        }
    }

    #[test]
    fn evolution_beats_chance_and_threads_change_nothing() {
        let (rows, again) = (measure(&plan(1)).unwrap(), measure(&plan(3)).unwrap());
        assert_eq!(rows.len(), 4);
        for (row, same) in rows.iter().zip(&again) {
            assert_eq!(row.curve, same.curve);
            let after: Vec<usize> = row.after.iter().map(|q| q.evaluations).collect();
            assert_eq!(after, [25, 50, 100, 120]);
            assert!(row.curve.windows(2).all(|w| w[0].median <= w[1].median));
            assert!(
                row.curve
                    .iter()
                    .all(|q| q.lower <= q.median && q.median <= q.upper)
            );
        }
        assert_eq!((rows[0].method, rows[0].p_first_is_better), ("nsga2", None));
        // all four seeds ahead of all four: one arrangement of 70
        assert!(rows[1].p_first_is_better.unwrap() < 0.05, "{rows:?}");
    }
}

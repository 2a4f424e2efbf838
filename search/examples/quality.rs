//! Quality and speed of search methods on the benchmarks, one line for each problem and method.
//!
//!     cargo run --release -p search --example quality -- --methods auto,nsga2 --problems zdt1,tower --seeds 5 \
//!         --trials 100 --batch 1 --greybox
//!
//! Without `--problems` or `--methods` all are run. `--threads` runs seeds at once.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool that prints")]

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use search::{
    Ask, AskError, Proposal, REGISTRY, Sampler,
    benchmark::{BENCHMARKS, Benchmark, CHECKPOINTS, Settings, benchmark, run},
    sampler,
};

/// Passes requests on and sums their time.
struct Timed {
    inner: Box<dyn Sampler + Send>,
    spent: Duration,
}

impl Sampler for Timed {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        let start = Instant::now();
        let proposal = self.inner.ask(ask);
        self.spent += start.elapsed();
        proposal
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |flag: &str| {
        let at = arguments.iter().position(|a| a == flag)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let number = |flag: &str, otherwise: u32| {
        text(flag).map_or(otherwise, |n| {
            n.parse().unwrap_or_else(|_| panic!("{flag} {n} is no number"))
        })
    };
    let methods: Vec<&str> = match text("--methods") {
        Some(list) => list.split(',').collect(),
        None => REGISTRY.iter().map(|m| m.name).collect(),
    };
    let problems: Vec<&'static Benchmark> = match text("--problems") {
        Some(list) => list
            .split(',')
            .map(|n| benchmark(n).unwrap_or_else(|| panic!("no problem is called {n}")))
            .collect(),
        None => BENCHMARKS.iter().collect(),
    };
    let (seeds, trials) = (number("--seeds", 5), number("--trials", 100));
    let settings = Settings {
        seed: 0,
        trials,
        batch: number("--batch", 1) as usize,
        greybox: arguments.iter().any(|a| a == "--greybox"),
    };
    let points: Vec<usize> = CHECKPOINTS
        .into_iter()
        .filter(|n| *n <= trials as usize)
        .collect();
    let heads: Vec<String> = points.iter().map(|n| format!("{n:>7}")).collect();
    println!(
        "{:<16} {:<10} {} {:>8}",
        "problem",
        "method",
        heads.join(" "),
        "ms/ask"
    );
    for problem in problems {
        for method in &methods {
            let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
            std::thread::scope(|scope| {
                for _ in 0..number("--threads", 1) {
                    scope.spawn(|| {
                        loop {
                            let seed = next.fetch_add(1, Ordering::Relaxed) as u64;
                            if seed >= u64::from(seeds) {
                                return;
                            }
                            let inner =
                                sampler(method).unwrap_or_else(|| panic!("no method is called {method}"));
                            let mut timed = Timed {
                                inner,
                                spent: Duration::ZERO,
                            };
                            let ran = run(problem, &mut timed, Settings { seed, ..settings });
                            let row = ran.map(|values| {
                                let qualities: Vec<f64> =
                                    points.iter().map(|n| problem.quality(&values[..*n])).collect();
                                (qualities, 1e3 * timed.spent.as_secs_f64() / f64::from(trials))
                            });
                            done.lock()
                                .expect("no thread panics while it holds this")
                                .push(row);
                        }
                    });
                }
            });
            let mut rows = Vec::new();
            for row in done.into_inner().expect("no thread panics while it holds this") {
                match row {
                    Ok(row) => rows.push(row),
                    Err(error) => eprintln!("{} {method}: {error}", problem.name),
                }
            }
            let medians: Vec<String> = (0..points.len())
                .map(|i| format!("{:7.4}", median(rows.iter().map(|r| r.0[i]).collect())))
                .collect();
            let cost = rows.iter().map(|r| r.1).sum::<f64>() / rows.len() as f64;
            println!(
                "{:<16} {method:<10} {} {cost:8.2}",
                problem.name,
                medians.join(" ")
            );
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

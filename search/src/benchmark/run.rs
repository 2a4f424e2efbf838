//! A study of a benchmark: no clock, so whoever wants times wraps the sampler.

use super::{Benchmark, metric};
use crate::{Ask, AskError, History, NoOracle, Oracle, Outcome, Sampler};

/// The numbers of evaluations at which qualities are compared.
pub const CHECKPOINTS: [usize; 4] = [25, 50, 100, 200];

/// How a study of a benchmark runs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Seed of every proposal.
    pub seed: u64,
    /// Number of evaluations.
    pub trials: u32,
    /// How many trials run at once, at least 1: the oldest finishes when so many are pending.
    pub batch: usize,
    /// Whether the cheap objectives are known before a trial.
    pub greybox: bool,
}

/// Runs a whole study: the objectives' values in the order in which the trials finish.
///
/// # Errors
/// [`AskError`] when the sampler has nothing left to propose.
pub fn run(
    benchmark: &'static Benchmark,
    sampler: &mut dyn Sampler,
    settings: Settings,
) -> Result<Vec<Vec<f64>>, AskError> {
    let problem = benchmark.problem(settings.seed, settings.greybox);
    let mut oracle: Box<dyn Oracle> = match settings.greybox {
        true => Box::new(benchmark.oracle()),
        false => Box::new(NoOracle),
    };
    let mut history = History::default();
    let mut values = Vec::with_capacity(settings.trials as usize);
    let mut finish = |history: &mut History| {
        let Some(oldest) = history.pending().first().cloned() else {
            return;
        };
        let result = benchmark.evaluate(&oldest.proposal.candidate);
        let metrics = result.iter().enumerate().map(|(i, v)| (metric(i), *v)).collect();
        values.push(result);
        history.push(
            &problem,
            oldest.number,
            oldest.proposal.candidate,
            Outcome::Measured(metrics),
        );
    };
    for number in 0..settings.trials {
        if history.pending().len() >= settings.batch {
            finish(&mut history);
        }
        let proposal = sampler.ask(&mut Ask::new(&problem, &history, &mut *oracle, number))?;
        history.start(&problem, number, proposal);
    }
    while !history.pending().is_empty() {
        finish(&mut history);
    }
    Ok(values)
}

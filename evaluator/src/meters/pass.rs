//! Time and energy of models that read a whole example in one pass, at full length and without padding; where texts leave
//! early, of held-out texts as they are.

use std::time::Instant;

use spaces::{Evidence, Measurement};

use super::{Subject, median_and_spread};
use crate::{
    EvaluationError, energy,
    model::{Inputs, Model},
    ops::Ops,
};

/// One pass; waits for the device.
pub(super) fn read<B: Ops>(model: &Model<B>, example: impl Into<Inputs<B>>) {
    let logits = match model.exits {
        Some(_) => model.serve(example).logits,
        None => model.forward(example).logits,
    };
    drop(logits.into_data());
}

/// Time of one pass for each token of an example.
pub(super) fn latency<B: Ops>(s: &Subject<B>, warm_up: usize, repetitions: usize) -> Measurement {
    let (examples, tokens) = (s.examples(), s.plan.served.served_tokens());
    let repetitions = repetitions.max(examples.len());
    let mut times = vec![];
    for (repetition, example) in examples.iter().cycle().take(warm_up + repetitions).enumerate() {
        let started = Instant::now();
        read(s.model, example.clone());
        if repetition >= warm_up {
            times.push(started.elapsed().as_secs_f64() * 1e3 / tokens as f64);
        }
    }
    let (median, spread) = median_and_spread(&mut times);
    let what = words(&examples, tokens);
    let source = format!(
        "clock: {what} in one pass, {warm_up} warm-up, median of {}",
        times.len()
    );
    Measurement {
        spread: Some(spread),
        ..s.row("latency_ms_per_token", median, Evidence::Measured, source)
    }
}

/// Passes for as long as the energy counter needs: what they took, and the tokens that they read.
pub(super) fn work<B: Ops>(s: &mut Subject<B>) -> Result<(energy::Reading, u64), EvaluationError> {
    let (model, examples, window) = (s.model, s.examples(), s.energy.shortest_window());
    let each = s.plan.served.served_tokens() as u64;
    let mut tokens = 0;
    let measured = energy::measure(s.energy, || {
        let started = Instant::now();
        for example in examples.iter().cycle() {
            read(model, example.clone());
            tokens += each;
            // whole rounds, so that each text counts the same
            let is_round = (tokens / each).is_multiple_of(examples.len() as u64);
            if is_round && started.elapsed() >= window {
                break;
            }
        }
    });
    let ((), reading) = measured.map_err(EvaluationError::Device)?;
    Ok((reading, tokens))
}

/// What is read, for people.
fn words<B: Ops>(examples: &[Inputs<B>], tokens: usize) -> String {
    match examples.len() {
        1 => format!("one example of {tokens} tokens"),
        n => format!("{n} held-out texts one by one, each {tokens} tokens with its padding,"),
    }
}

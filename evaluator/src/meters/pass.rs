//! Time and energy of models that read a whole example in one pass, at full length and without padding.

use std::time::Instant;

use burn::tensor::{Int, Tensor};
use spaces::{Evidence, Measurement};

use super::{Subject, median_and_spread};
use crate::{EvaluationError, energy, model::Model, ops::Ops};

/// One pass; waits for the device.
pub(super) fn read<B: Ops>(model: &Model<B>, example: Tensor<B, 2, Int>) {
    drop(model.forward(example).logits.into_data());
}

/// Time of one pass for each token of an example.
pub(super) fn latency<B: Ops>(s: &Subject<B>, warm_up: usize, repetitions: usize) -> Measurement {
    let (example, tokens) = (s.example(), s.plan.served.served_tokens());
    let mut times = vec![];
    for repetition in 0..warm_up + repetitions {
        let started = Instant::now();
        read(s.model, example.clone());
        if repetition >= warm_up {
            times.push(started.elapsed().as_secs_f64() * 1e3 / tokens as f64);
        }
    }
    let (median, spread) = median_and_spread(&mut times);
    let source = format!(
        "clock: one example of {tokens} tokens in one pass, {warm_up} warm-up, median of {}",
        times.len()
    );
    Measurement {
        spread: Some(spread),
        ..s.row("latency_ms_per_token", median, Evidence::Measured, source)
    }
}

/// Passes for as long as the energy counter needs: what they took, and the tokens that they read.
pub(super) fn work<B: Ops>(s: &mut Subject<B>) -> Result<(energy::Reading, u64), EvaluationError> {
    let (model, example, window) = (s.model, s.example(), s.energy.shortest_window());
    let each = s.plan.served.served_tokens() as u64;
    let mut tokens = 0;
    let measured = energy::measure(s.energy, || {
        let started = Instant::now();
        while started.elapsed() < window || tokens == 0 {
            read(model, example.clone());
            tokens += each;
        }
    });
    let ((), reading) = measured.map_err(EvaluationError::Device)?;
    Ok((reading, tokens))
}

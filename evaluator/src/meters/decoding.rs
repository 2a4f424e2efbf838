//! Throughput and energy of decoding, over one window that the energy counter resolves.

use std::time::Instant;

use spaces::{Evidence, Measurement};

use super::{Subject, next_token};
use crate::{EvaluationError, energy, ops::Ops, pool::awake};

pub(super) const METRICS: &[&str] = &["throughput_tokens_per_s", "energy_j_per_token"];

pub(super) fn measure<B: Ops>(s: &mut Subject<B>) -> Result<Vec<Measurement>, EvaluationError> {
    let (model, prompt, context) = (s.model, s.prompt(), s.plan.served.context);
    let (mut memory, window) = (s.memory(), s.energy.shortest_window());
    let fresh = || model.memory(&s.plan.served, 1, context);
    let mut token = next_token(model, prompt.clone(), &mut memory);
    let mut decoded = 0u64;
    let measured = energy::measure(s.energy, || {
        awake(|| {
            let started = Instant::now();
            while started.elapsed() < window || decoded == 0 {
                if memory.position() >= context {
                    memory = fresh();
                    token = next_token(model, prompt.clone(), &mut memory);
                } else {
                    token = next_token(model, token.clone(), &mut memory);
                }
                decoded += 1;
            }
        });
    });
    let ((), reading) = measured.map_err(EvaluationError::Device)?;
    let protocol = format!("batch 1, {decoded} tokens in {:.2} s", reading.seconds);
    Ok(vec![
        s.row(
            "throughput_tokens_per_s",
            decoded as f64 / reading.seconds,
            Evidence::Measured,
            format!("clock: {protocol}"),
        ),
        s.row(
            "energy_j_per_token",
            reading.joules / decoded as f64,
            reading.evidence,
            format!("{}, {protocol}", reading.source),
        ),
    ])
}

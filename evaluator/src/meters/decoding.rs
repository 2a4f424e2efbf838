//! Throughput and energy of serving, over one window that the energy counter resolves: of decoding, or of passes over
//! whole examples.

use std::time::Instant;

use spaces::{Evidence, Measurement};

use super::{Subject, drafted, next_token, pass};
use crate::{EvaluationError, energy, ops::Ops, pool::awake};

pub(super) const METRICS: &[&str] = &["throughput_tokens_per_s", "energy_j_per_token"];

pub(super) fn measure<B: Ops>(s: &mut Subject<B>) -> Result<Vec<Measurement>, EvaluationError> {
    if !s.decodes() {
        let (reading, tokens) = pass::work(s)?;
        let what = format!("one example at once, {tokens} tokens");
        return Ok(rows(s, reading, tokens, &what));
    }
    if let Some(draft) = s.plan.served.draft {
        let (reading, tokens) = drafted::work(s, draft)?;
        let what = format!("batch 1, {}, {tokens} tokens", draft.words());
        return Ok(rows(s, reading, tokens, &what));
    }
    let (model, prompt, capacity) = (s.model, s.prompt(), s.plan.served.capacity());
    let (mut memory, window) = (s.memory(), s.energy.shortest_window());
    let fresh = || model.memory(&s.plan.served, 1, capacity);
    let mut token = prompt.first_token(model, &mut memory);
    let mut decoded = 0u64;
    let measured = energy::measure(s.energy, || {
        awake(|| {
            let started = Instant::now();
            while started.elapsed() < window || decoded == 0 {
                if memory.position() >= capacity {
                    memory = fresh();
                    token = prompt.first_token(model, &mut memory);
                } else {
                    token = next_token(model, token.clone(), &mut memory);
                }
                decoded += 1;
            }
        });
    });
    let ((), reading) = measured.map_err(EvaluationError::Device)?;
    Ok(rows(s, reading, decoded, &format!("batch 1, {decoded} tokens")))
}

fn rows<B: Ops>(s: &Subject<B>, reading: energy::Reading, tokens: u64, what: &str) -> Vec<Measurement> {
    let protocol = format!("{what} in {:.2} s", reading.seconds);
    vec![
        s.row(
            "throughput_tokens_per_s",
            tokens as f64 / reading.seconds,
            Evidence::Measured,
            format!("clock: {protocol}"),
        ),
        s.row(
            "energy_j_per_token",
            reading.joules / tokens as f64,
            reading.evidence,
            format!("{}, {protocol}", reading.source),
        ),
    ]
}

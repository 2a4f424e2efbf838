//! Latency of one sequence: time to the first token after a half-context prompt or a text with gaps, and time of each
//! further token; of a model that does not decode, time of one pass for each token it reads.

use std::time::Instant;

use spaces::{Evidence, Measurement};

use super::{Subject, drafted, median_and_spread, next_token, pass};
use crate::{EvaluationError, ops::Ops, pool::awake};

pub(super) const METRICS: &[&str] = &["latency_ms_per_token", "time_to_first_token_ms"];

/// Repetitions that are thrown away.
const WARM_UP: usize = 5;
/// Repetitions that count.
const REPETITIONS: usize = 20;
/// Decoded tokens of one repetition at most.
const DECODED: usize = 32;

pub(super) fn measure<B: Ops>(s: &mut Subject<B>) -> Result<Vec<Measurement>, EvaluationError> {
    if !s.decodes() {
        return Ok(vec![pass::latency(s, WARM_UP, REPETITIONS)]);
    }
    if let Some(draft) = s.plan.served.draft {
        return drafted::latency(s, draft, (WARM_UP, REPETITIONS, DECODED));
    }
    let prompt = s.prompt();
    let capacity = s.plan.served.capacity();
    let end = capacity.min(prompt.length() + DECODED);
    let (mut first, mut later) = (vec![], vec![]);
    awake(|| {
        for repetition in 0..WARM_UP + REPETITIONS {
            let counts = repetition >= WARM_UP;
            let mut memory = s.memory();
            let started = Instant::now();
            let mut token = prompt.first_token(s.model, &mut memory);
            if counts {
                first.push(started.elapsed().as_secs_f64() * 1e3);
            }
            while memory.position() < end {
                let started = Instant::now();
                token = next_token(s.model, token, &mut memory);
                if counts {
                    later.push(started.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
    });
    let protocol = format!("clock: batch 1, {}, {WARM_UP} warm-up, ", prompt.words());
    let mut rows = vec![];
    for (metric, times) in [
        ("time_to_first_token_ms", &mut first),
        ("latency_ms_per_token", &mut later),
    ] {
        if times.is_empty() {
            continue; // a context of one token has no second one
        }
        let source = format!("{protocol}median of {}", times.len());
        let (median, spread) = median_and_spread(times);
        rows.push(Measurement {
            spread: Some(spread),
            ..s.row(metric, median, Evidence::Measured, source)
        });
    }
    Ok(rows)
}

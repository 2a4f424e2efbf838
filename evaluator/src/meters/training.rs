//! Time, speed and energy of the training: what it costs alone, and what this trial spent where others had made a part of it.

use spaces::{Evidence, Measurement};

use super::Subject;
use crate::{EvaluationError, ops::Ops, training::Record};

pub(super) const METRICS: &[&str] = &[
    "training_time_s",
    "training_tokens_per_s",
    "training_energy_j",
    "training_tokens",
    "spent_training_tokens",
    "spent_training_flops",
    "spent_training_time_s",
    "spent_training_energy_j",
];

pub(super) fn measure<B: Ops>(s: &mut Subject<B>) -> Result<Vec<Measurement>, EvaluationError> {
    let Some(run) = s.training else { return Ok(vec![]) };
    let mut rows = vec![
        s.row(
            "training_time_s",
            run.record.seconds,
            Evidence::Measured,
            "clock: optimizer steps",
        ),
        s.row(
            "training_energy_j",
            run.record.joules,
            s.energy.evidence(),
            s.energy.name(),
        ),
    ];
    let (clock, count) = ("clock: optimizer steps", "count: optimizer steps");
    let tokens = |record: Record| record.tokens as f64;
    rows.extend([
        s.row("training_tokens", tokens(run.record), Evidence::Measured, count),
        s.row(
            "spent_training_tokens",
            tokens(run.spent),
            Evidence::Measured,
            count,
        ),
        s.row(
            "spent_training_flops",
            2.0 * run.spent.executed_macs() as f64,
            Evidence::Measured,
            "operation_counter",
        ),
        s.row(
            "spent_training_time_s",
            run.spent.seconds,
            Evidence::Measured,
            clock,
        ),
        s.row(
            "spent_training_energy_j",
            run.spent.joules,
            s.energy.evidence(),
            s.energy.name(),
        ),
    ]);
    if run.record.seconds > 0.0 {
        let speed = run.record.tokens as f64 / run.record.seconds;
        rows.push(s.row(
            "training_tokens_per_s",
            speed,
            Evidence::Measured,
            "clock: optimizer steps",
        ));
    }
    Ok(rows)
}

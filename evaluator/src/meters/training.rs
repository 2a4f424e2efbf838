//! Time, speed and energy of the training.

use spaces::{Evidence, Measurement};

use super::Subject;
use crate::{EvaluationError, ops::Ops};

pub(super) const METRICS: &[&str] = &["training_time_s", "training_tokens_per_s", "training_energy_j"];

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

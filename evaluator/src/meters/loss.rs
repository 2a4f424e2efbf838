//! Quality on held-out data, measured on the exported model.

use spaces::{Evidence, Measurement};

use super::Subject;
use crate::{
    EvaluationError,
    data::Form,
    ops::Ops,
    techniques::dynamic::early_exit::calibration::report,
    training::{Batches, score},
};

pub(super) const METRICS: &[&str] = &["validation_loss", "bits_per_byte", "accuracy"];

/// Examples scored at once.
const BATCH: usize = 16;

pub(super) fn measure<B: Ops>(s: &mut Subject<B>) -> Result<Vec<Measurement>, EvaluationError> {
    let batches = Batches {
        data: s.data,
        seed: 0,
        batch: BATCH,
        rows: s.rows(),
    };
    let (scores, beside) = match s.model.exits {
        Some(_) => {
            let reported = report(s.model, &s.held_out());
            let beside = format!(
                ", others told where to exit; {}",
                reported.words(batches.rows.form.scored())
            );
            (reported.scores, beside)
        }
        None => {
            let scores = score(s.model, &batches, s.plan.validation_tokens);
            (scores, String::new())
        }
    };
    if scores.scored == 0 {
        return Err(EvaluationError::Invalid(format!(
            "no held-out answer fits a context of {}; use a larger context",
            s.plan.served.context
        )));
    }
    let scored = scores.scored as f64;
    let loss = scores.loss / scored;
    if !loss.is_finite() {
        return Err(EvaluationError::NotANumber {
            step: s.step,
            learning_rate: s.plan.training.learning_rate,
        });
    }
    let source = format!(
        "{} held-out {}{beside}",
        scores.scored,
        batches.rows.form.scored()
    );
    let mut rows = vec![
        s.row("validation_loss", loss, Evidence::Measured, &source),
        s.row(
            "accuracy",
            scores.right as f64 / scored,
            Evidence::Measured,
            &source,
        ),
    ];
    // spans are not the text: what they take says nothing of its bytes
    if let (Some(bytes), Form::NextToken) = (s.data.bytes_per_token(), batches.rows.form) {
        rows.push(s.row(
            "bits_per_byte",
            loss / std::f64::consts::LN_2 / bytes,
            Evidence::Measured,
            &source,
        ));
    }
    Ok(rows)
}

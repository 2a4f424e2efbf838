//! Weights and bytes: counted on the model and its files, and held against the formulas.

use spaces::{Evidence, Measurement};

use super::Subject;
use crate::{
    EvaluationError, bundle,
    model::{Part, Parts},
    ops::Ops,
};

pub(super) const METRICS: &[&str] = &[
    "parameters",
    "active_parameters",
    "model_bytes",
    "compression_ratio",
    "state_bytes_per_sequence",
];

pub(super) fn measure<B: Ops>(s: &mut Subject<B>) -> Result<Vec<Measurement>, EvaluationError> {
    let counted = count(s);
    let formula = s.plan.served.parameters();
    if counted != formula {
        return Err(EvaluationError::Miscounted {
            what: "parameters".into(),
            counted,
            formula,
        });
    }
    let bytes = bundle::measured_bytes(s.bundle)?;
    let tokenizer = s.data.facts().tokenizer_bytes as u64;
    let dense = bundle::served_bytes(&s.plan.model, None, tokenizer);
    let state = s.plan.served.state_bytes() as f64;
    Ok(vec![
        s.row("parameters", counted as f64, Evidence::Measured, "tensor sizes"),
        s.row(
            "active_parameters",
            s.plan.served.active_parameters() as f64,
            Evidence::Analytic,
            "formula",
        ),
        s.row("model_bytes", bytes as f64, Evidence::Measured, "file sizes"),
        s.row(
            "compression_ratio",
            bytes as f64 / dense as f64,
            Evidence::Measured,
            "file sizes",
        ),
        s.row("state_bytes_per_sequence", state, Evidence::Analytic, "formula"),
    ])
}

fn count<B: Ops>(s: &Subject<B>) -> u64 {
    let mut sum = 0;
    s.model.clone().each_part("", &mut |_, part| {
        sum += match part {
            Part::Matrix(m) | Part::Small(m) => m.weights(),
            Part::Vector(v) => v.dims()[0],
        } as u64;
    });
    sum
}

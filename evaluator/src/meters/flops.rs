//! Matrix work: executed multiply-adds, counted where they are done, held against the formulas.

use burn::tensor::{Int, Tensor};
use spaces::{Evidence, Measurement};

use super::{Subject, drafted, exits};
use crate::{EvaluationError, counter, device::Device, ops::Ops, plan::Budget};

pub(super) const METRICS: &[&str] = &["inference_flops_per_token", "mean_exit_layer", "training_flops"];

/// Of the model at work.
fn serving<B: Ops>(s: &Subject<B>) -> Result<Measurement, EvaluationError> {
    let serve = || {
        if !s.decodes() {
            s.model.forward(s.example());
            return;
        }
        let token = Tensor::<B, 2, Int>::zeros([1, 1], &s.model.device());
        let mut memory = s.memory();
        if let Some(read) = s.prompt().read {
            s.model.read(read, &mut memory);
        }
        for _ in 0..s.plan.served.capacity() {
            s.model.extend(token.clone(), &mut memory);
        }
    };
    let ((), macs) = counter::count_macs(serve);
    let formula = s.plan.served.serving_macs();
    let per_token = |macs: u64| 2.0 * macs as f64 / s.plan.served.served_tokens() as f64;
    let row = match s.device {
        Device::Cpu if macs == formula => s.row(
            "inference_flops_per_token",
            per_token(macs),
            Evidence::Measured,
            "operation_counter",
        ),
        Device::Cpu => {
            return Err(EvaluationError::Miscounted {
                what: "served multiply-adds".into(),
                counted: macs,
                formula,
            });
        }
        // a GPU computes masked pairs too: the objective stays the formula's, and the row says what was executed
        Device::Cuda { .. } => {
            let source = format!("formula; {} FLOP/token executed", per_token(macs));
            s.row(
                "inference_flops_per_token",
                per_token(formula),
                Evidence::Analytic,
                source,
            )
        }
    };
    Ok(row)
}

pub(super) fn measure<B: Ops>(s: &mut Subject<B>) -> Result<Vec<Measurement>, EvaluationError> {
    let mut rows = match s.model.exits {
        Some(_) => exits::measure(s)?,
        None => {
            // without a draft, work is known, and held against what is executed
            let plain = serving(s)?;
            let row = s.plan.served.draft.map(|draft| drafted::flops(s, draft));
            vec![row.transpose()?.unwrap_or(plain)]
        }
    };
    if let Some(run) = s.training {
        if let (Device::Cpu, Budget::Steps(steps)) = (s.device, s.plan.training.budget) {
            let formula = s.plan.training_flops(run.stopped_at.unwrap_or(steps));
            // what an expert had no room for and what is padding was not executed, and is noted where it was left out
            let counted = 2 * (run.record.macs + run.record.skipped_macs);
            if counted != formula {
                return Err(EvaluationError::Miscounted {
                    what: "training FLOPs".into(),
                    counted,
                    formula,
                });
            }
        }
        rows.push(s.row(
            "training_flops",
            2.0 * run.record.executed_macs() as f64,
            Evidence::Measured,
            "operation_counter",
        ));
    }
    Ok(rows)
}

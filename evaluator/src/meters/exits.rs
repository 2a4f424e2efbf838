//! Matrix work and depth of models whose texts leave early: a mean over held-out texts that the threshold was not found on.

use spaces::{Evidence, Measurement};

use super::Subject;
use crate::{EvaluationError, counter, device::Device, ops::Ops, training::to_device};

/// The rows of `inference_flops_per_token`, at full length as of other models, and of `mean_exit_layer`.
pub(super) fn measure<B: Ops>(s: &Subject<B>) -> Result<Vec<Measurement>, EvaluationError> {
    let plan = &s.plan.served;
    let mut texts_at = vec![0u64; plan.layers.len()];
    let serve = || {
        for batch in s.held_out().for_reporting() {
            let (inputs, _) = to_device::<B>(batch, &s.model.device());
            for depth in s.model.serve(inputs).depths {
                texts_at[depth - 1] += 1;
            }
        }
    };
    // attention leaves out padding, and notes what that would have been
    let (((), executed), skipped) = counter::count_skipped(|| counter::count_macs(serve));
    let counted = executed + skipped.forward;
    let depths = || texts_at.iter().zip(1..).filter(|(texts, _)| **texts > 0);
    let formula: u64 = depths()
        .map(|(texts, depth)| texts * plan.exiting_macs(depth))
        .sum();
    if *s.device == Device::Cpu && counted != formula {
        return Err(EvaluationError::Miscounted {
            what: "served multiply-adds".into(),
            counted,
            formula,
        });
    }
    let texts: u64 = texts_at.iter().sum();
    let said: Vec<String> = depths()
        .map(|(texts, depth)| format!("{texts} after {depth} layers"))
        .collect();
    let said = format!("of {texts} held-out texts {}", said.join(", "));
    let flops = 2.0 * formula as f64 / (texts as usize * plan.context) as f64;
    let layers: u64 = depths().map(|(texts, depth)| texts * depth as u64).sum();
    let instrument = match s.device {
        Device::Cpu => "operation_counter",
        Device::Cuda { .. } => "formula at measured exits",
    };
    let row = |metric, value, source| s.row(metric, value, Evidence::Measured, source);
    Ok(vec![
        row(
            "inference_flops_per_token",
            flops,
            format!("{instrument}: {said}"),
        ),
        row("mean_exit_layer", layers as f64 / texts as f64, said),
    ])
}

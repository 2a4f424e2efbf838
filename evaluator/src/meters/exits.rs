//! Matrix work and depth of models whose texts or tokens leave early: a mean over held-out texts that the threshold was not
//! found on. Those of a decoder are read as it writes, token after token.

use spaces::{Evidence, Measurement};

use super::Subject;
use crate::{EvaluationError, counter, device::Device, ops::Ops, training::to_device};

/// Texts that a decoder goes through token after token.
const WRITTEN_TEXTS: usize = 16;

/// What was served, and where it left.
struct Left {
    /// Texts or tokens that left after each number of layers, from one on.
    at: Vec<u64>,
    /// What its work is by formula.
    macs: u64,
    /// Tokens that the work is shared by.
    tokens: u64,
    /// What left, for people.
    what: &'static str,
}

/// The rows of `inference_flops_per_token`, of texts at full length as of other models, and of `mean_exit_layer`.
pub(super) fn measure<B: Ops>(s: &Subject<B>) -> Result<Vec<Measurement>, EvaluationError> {
    let serve = || if s.decodes() { tokens(s) } else { texts(s) };
    // attention leaves out padding, and notes what that would have been
    let ((left, executed), skipped) = counter::count_skipped(|| counter::count_macs(serve));
    let counted = executed + skipped.forward;
    if *s.device == Device::Cpu && counted != left.macs {
        return Err(EvaluationError::Miscounted {
            what: "served multiply-adds".into(),
            counted,
            formula: left.macs,
        });
    }
    let depths = || left.at.iter().zip(1u64..).filter(|(n, _)| **n > 0);
    let all: u64 = left.at.iter().sum();
    let said: Vec<String> = depths()
        .map(|(n, depth)| format!("{n} after {depth} layers"))
        .collect();
    let said = format!("of {all} held-out {} {}", left.what, said.join(", "));
    let flops = 2.0 * left.macs as f64 / left.tokens as f64;
    let layers: u64 = depths().map(|(n, depth)| n * depth).sum();
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
        row("mean_exit_layer", layers as f64 / all as f64, said),
    ])
}

/// Whole texts, several at once.
fn texts<B: Ops>(s: &Subject<B>) -> Left {
    let plan = &s.plan.served;
    let (mut at, mut macs) = (vec![0; plan.layers.len()], 0);
    for batch in s.held_out().for_reporting() {
        let (inputs, _) = to_device::<B>(batch, &s.model.device());
        for depth in s.model.serve(inputs).depths {
            at[depth - 1] += 1;
            macs += plan.exiting_macs(depth);
        }
    }
    Left {
        macs,
        tokens: at.iter().sum::<u64>() * plan.context as u64,
        at,
        what: "texts",
    }
}

/// The tokens of some texts, one after the other.
fn tokens<B: Ops>(s: &Subject<B>) -> Left {
    let plan = &s.plan.served;
    let (mut at, mut macs) = (vec![0; plan.layers.len()], 0);
    for text in s.held_out().one_by_one().take(WRITTEN_TEXTS) {
        let length = text.lengths[0];
        let (inputs, _) = to_device::<B>(text, &s.model.device());
        let mut memory = s.memory();
        for position in 0..length {
            let token = inputs.tokens.clone().narrow(1, position, 1);
            for depth in s.model.extend_until_sure(token, &mut memory).depths {
                at[depth - 1] += 1;
                macs += plan.leaving_macs(position, depth);
            }
        }
    }
    Left {
        macs,
        tokens: at.iter().sum(),
        at,
        what: "tokens",
    }
}

//! What one attention costs at one context, for `parsimony bench scaling`: a forward and a backward pass of the core
//! alone, without projections, so that its growth with the context is not hidden behind what grows with the width.

use std::time::Instant;

use burn::tensor::{Distribution, Tensor, backend::AutodiffBackend};
use spaces::Config;

use crate::{
    EvaluationError, counter, device::Device, memory::peak_bytes, model::Attention, ops::Ops, plan::Plan,
};

/// Passes after the first that are timed at least.
const LEAST_PASSES: usize = 2;

/// The cost of one attention over one sequence, forward and backward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionCost {
    /// Median time of a pass.
    pub seconds: f64,
    /// The most bytes that were live at once, beyond inputs and weights.
    pub peak_bytes: u64,
    /// Executed FLOPs of products.
    pub flops: u64,
}

pub(crate) fn attention_cost<A>(
    config: &Config,
    seconds: f64,
    (device, handle): (&Device, &A::Device),
) -> Result<AttentionCost, EvaluationError>
where
    A: AutodiffBackend + Ops,
{
    let plan = Plan::read(config, 2, None).map_err(EvaluationError::Invalid)?;
    plan.prepare(device).map_err(EvaluationError::Invalid)?;
    let (plan, device) = (plan.model, handle);
    let layer = plan
        .layers
        .first()
        .ok_or_else(|| EvaluationError::Invalid("layers is 0; use 1".into()))?;
    let (attention, n) = (layer.attention, plan.context);
    let module = Attention::<A>::seeded(&attention, plan.place(0), device);
    A::seed(device, 0);
    let random = |heads| {
        let shape = [1, n, heads, attention.depth];
        Tensor::<A, 4>::random(shape, Distribution::Normal(0.0, 1.0), device).require_grad()
    };
    let (q, k, v) = (
        random(attention.heads),
        random(attention.kv_heads),
        random(attention.kv_heads),
    );
    let k = if attention.core.shares_keys() {
        q.clone()
    } else {
        k
    };
    let pass = || {
        let o = module.core_alone(q.clone(), k.clone(), v.clone());
        drop(o.sum().backward());
        A::sync(device).map_err(EvaluationError::device)
    };
    pass()?;
    let ((result, macs), bytes) = peak_bytes(|| counter::count_macs(pass));
    result?;
    let (mut times, begun) = (vec![], Instant::now());
    while times.len() < LEAST_PASSES || begun.elapsed().as_secs_f64() < seconds {
        let started = Instant::now();
        pass()?;
        times.push(started.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(AttentionCost {
        seconds: times[times.len() / 2],
        peak_bytes: bytes,
        flops: 2 * macs,
    })
}

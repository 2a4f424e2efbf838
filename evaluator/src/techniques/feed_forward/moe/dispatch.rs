//! Rows to experts and back: one product for each expert, over the rows that are its own.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::{Gated, Routing};
use crate::{counter, model::Pass, ops::Ops};

/// `Σ gate · expert(x)` over the experts of each token, `[tokens, width]`; zero where a token skips all of them.
///
/// In `training` the work of skipped rows is noted, so that it can be added back where formulas are held against counts.
pub(super) fn dispatch<B: Ops>(
    x: Tensor<B, 2>,
    experts: &[Gated<B>],
    routing: &Routing<B>,
    training: bool,
) -> Tensor<B, 2> {
    let [tokens, k] = routing.gates.dims();
    let gates = routing.gates.clone().reshape([tokens * k, 1]);
    let mut rows: Vec<Vec<i32>> = vec![vec![]; experts.len()];
    let mut slots: Vec<Vec<i32>> = vec![vec![]; experts.len()];
    let mut dropped = 0;
    for (slot, expert) in routing.slots.iter().enumerate() {
        let Some(expert) = *expert else {
            dropped += 1;
            continue;
        };
        rows[expert].push((slot / k) as i32);
        slots[expert].push(slot as i32);
    }
    if dropped > 0 {
        counter::add_activity("expert_rows_dropped", dropped);
        // experts are of one shape, so it does not matter whose rows they would have been
        let row = experts.first().map(Gated::row_pass).unwrap_or_default() * dropped as u64;
        counter::add_skipped(Pass {
            forward: row.forward,
            backward: if training { row.backward } else { 0 },
        });
    }
    let device = x.device();
    let numbers = |list: Vec<i32>| {
        let len = list.len();
        Tensor::<B, 1, Int>::from_data(TensorData::new(list, [len]), &device)
    };
    let mut y = Tensor::zeros(x.dims(), &device);
    for (expert, (rows, slots)) in experts.iter().zip(rows.into_iter().zip(slots)) {
        if rows.is_empty() {
            continue;
        }
        counter::add_activity("expert_rows_dispatched", rows.len());
        let rows = numbers(rows);
        let out = expert.forward(x.clone().select(0, rows.clone())) * gates.clone().select(0, numbers(slots));
        y = y.select_assign(0, rows, out, IndexingUpdateOp::Add);
    }
    y
}

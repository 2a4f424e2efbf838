//! Rows to experts and back: one product for each expert, over the rows that are its own.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::{Gated, Routing};
use crate::{counter, model::Pass, ops::Ops};

/// `Σ gate · expert(x)` over the experts of each token, `[tokens, width]`; zero where a token skips all of them.
///
/// The work of rows that are left out is noted, in `training` that of the way back too, so that it can be added back
/// where formulas are held against counts.
pub(super) fn dispatch<B: Ops>(
    x: Tensor<B, 2>,
    experts: &[Gated<B>],
    routing: &Routing<B>,
    training: bool,
) -> Tensor<B, 2> {
    let [tokens, k] = routing.gates.dims();
    let gates = routing.gates.clone().reshape([tokens * k, 1]);
    if routing.left_out > 0 {
        // experts are of one shape, so it does not matter whose rows they would have been
        let row = experts.first().map(Gated::row_pass).unwrap_or_default() * routing.left_out as u64;
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
    for (expert, places) in experts.iter().zip(&routing.places) {
        if places.is_empty() {
            continue;
        }
        counter::add_activity("expert_rows_dispatched", places.len());
        let rows = numbers(places.iter().map(|place| (place / k) as i32).collect());
        let places = numbers(places.iter().map(|place| *place as i32).collect());
        let out = expert.forward(x.clone().select(0, rows.clone())) * gates.clone().select(0, places);
        y = y.select_assign(0, rows, out, IndexingUpdateOp::Add);
    }
    y
}

//! Mixture of experts (1701.06538) with top-k routing: Switch (2101.03961) for k = 1, normalised gates for k > 1.
//!
//! Dispatch is real: each expert multiplies only the rows routed to it. No token is dropped, so a sequence's output
//! does not depend on the others of its batch.

use burn::{
    module::Module,
    tensor::{Int, Tensor, TensorData, activation::softmax, backend::Backend},
};
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use super::{About, Gated, dense};
use crate::{
    counter,
    model::{Initial, Matrix, Part, Parts, Pass, Trainable, join, matrix_pass},
    ops::Ops,
    parameter::{Declared, Values, float, int},
};

pub(super) const ABOUT: About = About {
    name: "moe",
    doc: "a router sends each token to top_k of several networks; more weights at the same work for each token",
    paper: "1701.06538, 2101.03961",
};

/// The shape of a mixture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MixturePlan {
    /// Hidden neurons of each expert.
    pub hidden: usize,
    /// Number of experts.
    pub experts: usize,
    /// Experts for each token.
    pub top_k: usize,
    /// Weight of the balance loss.
    pub balance: f64,
}

pub(super) fn parameters() -> Vec<ParameterInfo> {
    let powers = [1, 2, 4, 8].map(Value::Int).to_vec();
    vec![
        int(
            "experts",
            "feed-forward networks to choose from; 1 for no mixture",
            1,
            64,
            1,
        )
        .search(Domain::categorical(powers).expect("not empty")),
        int("top_k", "networks that each token passes through", 1, 8, 1)
            .when("experts > 1")
            .search(Domain::int(1, 2, false, 1).expect("not empty")),
        float(
            "balance_weight",
            "weight of the loss that spreads tokens over experts",
            0.0,
            1.0,
            0.01,
        )
        .when("experts > 1")
        .search(Domain::float(1e-3, 1e-1, true, None).expect("not empty")),
    ]
}

impl MixturePlan {
    pub(super) fn read(values: Values, hidden: usize) -> Self {
        MixturePlan {
            hidden,
            experts: values.int("experts"),
            top_k: values.int("top_k"),
            balance: values.float("balance_weight"),
        }
    }

    pub(super) fn parameters(&self, width: u64) -> u64 {
        self.experts as u64 * (dense::parameters(width, self.hidden as u64) + width)
    }

    pub(super) fn active_parameters(&self, width: u64) -> u64 {
        self.top_k as u64 * dense::parameters(width, self.hidden as u64) + self.experts as u64 * width
    }

    /// Every token meets the router once and `top_k` experts, whichever they are.
    pub(super) fn training_pass(&self, width: u64, tokens: u64, trainable: Trainable) -> Pass {
        let router = matrix_pass(tokens, width, self.experts as u64, true, trainable.others());
        router + dense::training_pass(width, self.hidden as u64, tokens * self.top_k as u64, trainable)
    }
}

/// A router and its experts.
#[derive(Module, Debug)]
pub struct Mixture<B: Backend> {
    /// `[experts, width]`
    pub router: Matrix<B>,
    /// The networks.
    pub experts: Vec<Gated<B>>,
    top_k: usize,
    balance: f64,
}

impl<B: Ops> Mixture<B> {
    pub(super) fn new(plan: &MixturePlan, width: usize, initial: &mut Initial<B>) -> Self {
        Mixture {
            router: initial.matrix(plan.experts, width),
            experts: (0..plan.experts)
                .map(|_| Gated::new(width, plan.hidden, initial))
                .collect(),
            top_k: plan.top_k,
            balance: plan.balance,
        }
    }

    /// `x [b, n, width]` to the same shape, and the balance loss `[1]`.
    pub fn forward(&self, x: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 1>) {
        let [b, n, width] = x.dims();
        let (tokens, experts, k) = (b * n, self.experts.len(), self.top_k);
        let x = x.reshape([tokens, width]);
        let p = softmax(self.router.apply(x.clone()), 1);
        let (_, chosen) = p.clone().detach().topk_with_indices(k, 1);
        let gates = p.clone().gather(1, chosen.clone());
        // with one expert the probability itself is the gate, so that the router learns (Switch)
        let gates = if k > 1 {
            gates.clone() / gates.sum_dim(1)
        } else {
            gates
        };
        let gates = gates.reshape([tokens * k, 1]);

        let assigned = chosen.into_data();
        let mut rows: Vec<Vec<i32>> = vec![vec![]; experts];
        let mut slots: Vec<Vec<i32>> = vec![vec![]; experts];
        for (slot, expert) in assigned.iter::<i64>().enumerate() {
            rows[expert as usize].push((slot / k) as i32);
            slots[expert as usize].push(slot as i32);
        }
        let load: Vec<f32> = rows
            .iter()
            .map(|r| r.len() as f32 / (tokens * k) as f32)
            .collect();
        let device = x.device();
        let numbers = |list: Vec<i32>| {
            let len = list.len();
            Tensor::<B, 1, Int>::from_data(TensorData::new(list, [len]), &device)
        };
        let mut y = Tensor::zeros([tokens, width], &device);
        for (expert, (rows, slots)) in self.experts.iter().zip(rows.into_iter().zip(slots)) {
            if rows.is_empty() {
                continue;
            }
            counter::add_activity("expert_rows_dispatched", rows.len());
            let rows = numbers(rows);
            let out =
                expert.forward(x.clone().select(0, rows.clone())) * gates.clone().select(0, numbers(slots));
            y = y.select_assign(0, rows, out, burn::tensor::IndexingUpdateOp::Add);
        }
        // E Σ share of assignments · mean probability: 1 when even, E when one expert takes all
        let load = Tensor::<B, 1>::from_data(TensorData::new(load, [experts]), &device);
        let balance = (p.mean_dim(0).squeeze_dim::<1>(0) * load).sum() * (experts as f64 * self.balance);
        (y.reshape([b, n, width]), balance)
    }
}

impl<B: Backend> Parts<B> for Mixture<B> {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, B>)) {
        let path = join(path, "block_sparse_moe");
        visitor(&join(&path, "gate"), Part::Small(&mut self.router));
        for (e, expert) in self.experts.iter_mut().enumerate() {
            expert.each_part_as(&join(&path, &format!("experts.{e}")), ["w1", "w3", "w2"], visitor);
        }
    }
}

//! The shape of a mixture, its parameters and its cost.

use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use super::Router;
use crate::{
    model::{Pass, Trainable, matrix_pass},
    parameter::{Declared, Values, choice, float, int},
    techniques::feed_forward::dense,
};

/// The shape of a mixture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MixturePlan {
    /// Hidden neurons of each expert.
    pub hidden: usize,
    /// Number of experts.
    pub experts: usize,
    /// Experts for each token; 0 where experts choose tokens.
    pub top_k: usize,
    /// Weight of the balance loss.
    pub balance: f64,
    /// Weight of the loss that keeps the router's logits small (2202.08906).
    #[serde(default)]
    pub z_loss: f64,
    /// Who goes where.
    #[serde(default)]
    pub router: Router,
}

pub(in crate::techniques::feed_forward) fn parameters() -> Vec<ParameterInfo> {
    let powers = [1, 2, 4, 8].map(Value::Int).to_vec();
    let names: Vec<&str> = super::routers().iter().map(|about| about.name).collect();
    let range = |low, high| Domain::float(low, high, false, None).expect("not empty");
    let mixture = "experts > 1";
    vec![
        int(
            "experts",
            "feed-forward networks to choose from; 1 for no mixture",
            1,
            64,
            1,
        )
        .search(Domain::categorical(powers).expect("not empty")),
        choice("router", "how tokens are sent to networks", &names).when(mixture),
        int("top_k", "networks that each token passes through", 1, 8, 1)
            .when("experts > 1 and router in ['top_k', 'noisy_top_k']")
            .search(Domain::int(1, 2, false, 1).expect("not empty")),
        float(
            "balance_weight",
            "weight of the loss that spreads tokens over experts",
            0.0,
            1.0,
            0.01,
        )
        .when("experts > 1 and router != 'expert_choice'")
        .search(Domain::float(1e-3, 1e-1, true, None).expect("not empty")),
        float(
            "capacity_factor",
            "room of each expert over its even share: of a batch's tokens in training, and further ones skip it; with expert_choice of each text's tokens, always",
            1.0,
            2.0,
            1.25,
        )
        .when("experts > 1 and router in ['switch', 'gshard', 'expert_choice']"),
        float(
            "router_z_loss",
            "weight of the loss that keeps the router's logits small (2202.08906)",
            0.0,
            1e-2,
            0.0,
        )
        .when(mixture),
        float(
            "router_jitter",
            "in training the router's input is multiplied by noise between 1 minus and 1 plus this",
            0.0,
            0.1,
            0.01,
        )
        .when("experts > 1 and router == 'switch'")
        .search(range(0.0, 0.1)),
        int(
            "moe_every",
            "every how many layers one is a mixture; the others are dense",
            1,
            2,
            1,
        )
        .when("experts > 1 and layers >= 2"),
    ]
}

impl MixturePlan {
    pub(in crate::techniques::feed_forward) fn read(values: Values, hidden: usize) -> Result<Self, String> {
        let (experts, router) = (values.int("experts"), Router::read(values));
        let top_k = router.experts_per_token(values);
        if top_k > experts {
            return Err(format!(
                "top_k {top_k} is above experts {experts}; use at most {experts}"
            ));
        }
        let least = router.least_top_k();
        if top_k < least {
            return Err(format!(
                "router = '{}' cannot learn with top_k {top_k}, where every gate is 1; use top_k = {least} or another router",
                router.name()
            ));
        }
        Ok(MixturePlan {
            hidden,
            experts,
            top_k,
            balance: values.float("balance_weight"),
            z_loss: values.float("router_z_loss"),
            router,
        })
    }

    /// Matrices `[experts, width]` of the router: one, or a second one for the size of its noise.
    pub(crate) fn router_matrices(&self) -> usize {
        if self.router.is_noisy() { 2 } else { 1 }
    }

    /// Whether rows may be left out in training.
    pub(crate) fn may_drop(&self) -> bool {
        self.router.may_drop()
    }

    /// Whether Mixtral routes so, in training too.
    pub(crate) fn is_mixtral(&self) -> bool {
        matches!(self.router, Router::TopK(_)) && self.top_k > 1
    }

    /// Rows of experts for a sequence of `n` tokens, all of them together.
    fn expert_rows(&self, n: u64) -> u64 {
        self.router.expert_rows(n as usize, self.experts, self.top_k) as u64
    }

    pub(in crate::techniques::feed_forward) fn parameters(&self, width: u64) -> u64 {
        let router = self.router_matrices() as u64 * width;
        self.experts as u64 * (dense::parameters(width, self.hidden as u64) + router)
    }

    /// The mean over the tokens of a sequence of `n`, to the nearest whole weight.
    pub(in crate::techniques::feed_forward) fn active_parameters(&self, width: u64, n: u64) -> u64 {
        (self.serving_macs(width, n) + n / 2) / n
    }

    /// Of the router, served tokens meet only the matrix of its logits.
    pub(in crate::techniques::feed_forward) fn serving_macs(&self, width: u64, n: u64) -> u64 {
        self.expert_rows(n) * dense::parameters(width, self.hidden as u64) + n * self.experts as u64 * width
    }

    /// Every token meets the router once, and experts as many rows as they are given, whichever they are.
    pub(in crate::techniques::feed_forward) fn training_pass(
        &self,
        width: u64,
        [sequences, n]: [u64; 2],
        trainable: Trainable,
    ) -> Pass {
        let router = matrix_pass(
            sequences * n,
            width,
            self.experts as u64,
            true,
            trainable.others(),
        );
        let rows = sequences * self.expert_rows(n);
        router * self.router_matrices() as u64
            + dense::training_pass(width, self.hidden as u64, rows, trainable)
    }
}

//! The module: a router, its experts, and the losses that come of it.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

use super::{Gated, MixturePlan, Request, Router, dispatch::dispatch, losses};
use crate::{
    model::{Initial, Matrix, Part, Parts, both, join},
    ops::{Lengths, Ops},
};

/// A router and its experts.
#[derive(Module, Debug)]
pub struct Mixture<B: Backend> {
    /// `[experts, width]`
    pub router: Matrix<B>,
    /// The size of noise on the router's scores, `[experts, width]`, for a noisy router.
    pub noise: Option<Matrix<B>>,
    /// The networks.
    pub experts: Vec<Gated<B>>,
    #[module(skip)]
    rule: Router,
    top_k: usize,
    balance: f64,
    z_loss: f64,
}

impl<B: Ops> Mixture<B> {
    pub(in crate::techniques::feed_forward) fn new(
        plan: &MixturePlan,
        width: usize,
        initial: &mut Initial<B>,
    ) -> Self {
        let mut matrix = || initial.scaled_matrix(plan.experts, width, plan.router.initial_scale());
        Mixture {
            router: matrix(),
            noise: plan.router.is_noisy().then(&mut matrix),
            experts: (0..plan.experts)
                .map(|_| Gated::new(width, plan.hidden, initial))
                .collect(),
            rule: plan.router,
            top_k: plan.top_k,
            balance: plan.balance,
            z_loss: plan.z_loss,
        }
    }

    /// `x [b, n, width]` to the same shape, and in training the auxiliary loss, `[1]`; `lengths` where there is padding.
    ///
    /// Training is where the backend tracks gradients: models are trained on such a backend and served on its inner one.
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        lengths: Option<&Lengths>,
    ) -> (Tensor<B, 3>, Option<Tensor<B, 1>>) {
        let [b, n, width] = x.dims();
        let training = B::ad_enabled(&x.device());
        let x = x.reshape([b * n, width]);
        let routing = self.rule.route(&Request {
            x: &x,
            batch: [b, n],
            lengths,
            router: &self.router,
            noise: self.noise.as_ref(),
            top_k: self.top_k,
            training,
        });
        let y = dispatch(x, &self.experts, &routing, training);
        let balance = routing.balance.map(|balance| balance * self.balance);
        let z = (training && self.z_loss > 0.0).then(|| losses::z(routing.logits) * self.z_loss);
        (y.reshape([b, n, width]), both(balance, z))
    }
}

impl<B: Backend> Parts<B> for Mixture<B> {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, B>)) {
        let path = join(path, "block_sparse_moe");
        visitor(&join(&path, "gate"), Part::Small(&mut self.router));
        if let Some(noise) = &mut self.noise {
            visitor(&join(&path, "noise"), Part::Small(noise));
        }
        for (e, expert) in self.experts.iter_mut().enumerate() {
            expert.each_part_as(&join(&path, &format!("experts.{e}")), ["w1", "w3", "w2"], visitor);
        }
    }
}

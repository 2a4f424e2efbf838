//! The router of 2006.16668, as 2112.06905 trains with it: two experts for each token, the second by chance in training.
//!
//! All first choices come before all second ones where room is short. So in training a later token's first choice may
//! displace an earlier one's second; served, no token is displaced.

use burn::tensor::activation::softmax;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{
    About, Request, Routing, Rule,
    capacity::{capacity, fill},
    largest, losses, on_host, random,
};
use crate::{ops::Ops, parameter::Values};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gshard {
    /// Room of an expert over its even share of a batch's choices, of which each token has two.
    pub capacity_factor: f64,
}

impl Rule for Gshard {
    const ABOUT: About = About {
        name: "gshard",
        doc: "each token goes to its two likeliest experts; in training full experts are skipped, and weak second choices by chance",
        paper: "2006.16668, 2112.06905",
    };

    const MAY_DROP: bool = true;

    fn read(values: Values) -> Self {
        Gshard {
            capacity_factor: values.float("capacity_factor"),
        }
    }

    fn experts_per_token(_: Values) -> usize {
        2
    }

    fn route<B: Ops>(&self, request: &Request<B>) -> Routing<B> {
        let logits = request.router.apply(request.x.clone());
        let [tokens, experts] = logits.dims();
        let p = softmax(logits.clone(), 1);
        let chosen = largest(&p, 2);
        let gates = p.clone().gather(1, chosen.clone());
        let gates = gates.clone() / gates.sum_dim(1);
        let chosen = on_host(chosen);
        let mut slots: Vec<Option<usize>> = chosen.iter().copied().map(Some).collect();
        if request.training {
            let mut rng = random::seeded_by(request.x);
            let weights = gates.clone().detach().into_data();
            for (slot, weight) in weights.iter::<f32>().enumerate().skip(1).step_by(2) {
                // kept with probability min(1, 2 g₂)
                if rng.random::<f32>() >= 2.0 * weight {
                    slots[slot] = None;
                }
            }
            let room = capacity(2 * tokens, experts, self.capacity_factor);
            let order = (0..2 * tokens).step_by(2).chain((1..2 * tokens).step_by(2));
            fill(&mut slots, order, experts, room);
        }
        // (1/E) Σ (c_e/S) m_e of first choices: 1/E² when even, 1/E when one expert takes all
        let balance = request
            .training
            .then(|| losses::overlap(p, chosen.into_iter().step_by(2)) / experts as f64);
        Routing::of_tokens(logits, gates, slots, balance)
    }
}

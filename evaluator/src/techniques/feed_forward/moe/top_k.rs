//! Softmax, the best `k`, gates that add up to 1. No row is left out.

use burn::tensor::activation::softmax;
use serde::{Deserialize, Serialize};

use super::{About, Request, Routing, Rule, largest, losses, on_host};
use crate::{ops::Ops, parameter::Values};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopK {}

impl Rule for TopK {
    const ABOUT: About = About {
        name: "top_k",
        doc: "each token goes to its top_k likeliest experts, weighted to a sum of 1; none has a limit",
        paper: "1701.06538, 2401.04088",
    };

    fn read(_: Values) -> Self {
        TopK {}
    }

    fn route<B: Ops>(&self, request: &Request<B>) -> Routing<B> {
        let logits = request.router.apply(request.x.clone());
        let [_, experts] = logits.dims();
        let p = softmax(logits.clone(), 1);
        let chosen = largest(&p, request.top_k);
        let gates = p.clone().gather(1, chosen.clone());
        // with one expert the probability itself is the gate, so that the router learns (2101.03961)
        let gates = if request.top_k > 1 {
            gates.clone() / gates.sum_dim(1)
        } else {
            gates
        };
        let chosen = on_host(chosen);
        // E Σ share · probability: 1 when even, E when one expert takes all
        let balance = request
            .training
            .then(|| losses::overlap(p, chosen.iter().copied()) * experts as f64);
        Routing::of_tokens(logits, gates, chosen.into_iter().map(Some), balance)
    }
}

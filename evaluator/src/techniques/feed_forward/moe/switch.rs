//! Switch (2101.03961): one expert for each token, its probability as the gate, and a capacity in training.

use burn::tensor::activation::softmax;
use rand_distr::Uniform;
use serde::{Deserialize, Serialize};

use super::{
    About, Request, Routing, Rule,
    capacity::{capacity, fill},
    largest, losses, on_host, random,
};
use crate::{ops::Ops, parameter::Values};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Switch {
    /// Room of an expert over its even share of a batch's tokens.
    pub capacity_factor: f64,
    /// The router's input is multiplied by noise between `1 - jitter` and `1 + jitter`.
    pub jitter: f64,
}

impl Rule for Switch {
    const ABOUT: About = About {
        name: "switch",
        doc: "each token goes to its likeliest expert, weighted by its probability; in training full experts are skipped",
        paper: "2101.03961",
    };

    const MAY_DROP: bool = true;

    // "reduce the default Transformer initialisation scale by 10"
    const INITIAL_SCALE: f32 = 0.1;

    fn read(values: Values) -> Self {
        Switch {
            capacity_factor: values.float("capacity_factor"),
            jitter: values.float("router_jitter"),
        }
    }

    fn experts_per_token(_: Values) -> usize {
        1
    }

    fn route<B: Ops>(&self, request: &Request<B>) -> Routing<B> {
        let x = request.x.clone();
        let jitter = self.jitter as f32;
        let seen = match Uniform::new(1.0 - jitter, 1.0 + jitter) {
            Ok(noise) if request.training => {
                let (rng, device) = (random::seeded_by(&x), x.device());
                let noise = random::draw(noise, rng, x.dims(), &device);
                x * noise
            }
            // not in training, or a range of no width
            _ => x,
        };
        let logits = request.router.apply(seen);
        let [tokens, experts] = logits.dims();
        let p = softmax(logits.clone(), 1);
        let chosen = largest(&p, 1);
        let gates = p.clone().gather(1, chosen.clone());
        let chosen = on_host(chosen);
        let mut slots: Vec<Option<usize>> = chosen.iter().copied().map(Some).collect();
        if request.training {
            let room = capacity(tokens, experts, self.capacity_factor);
            fill(&mut slots, 0..tokens, experts, room);
        }
        // E Σ f P of what was chosen, room or not: 1 when even, E when one expert takes all
        let balance = request
            .training
            .then(|| losses::overlap(p, chosen.into_iter()) * experts as f64);
        Routing::of_tokens(logits, gates, slots, balance)
    }
}

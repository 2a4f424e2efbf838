//! Noisy top-k gating (1701.06538): trained noise on the logits, softmax over the chosen ones, even load by two losses.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, activation::relu, activation::softmax, backend::Backend};
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use super::{About, Request, Routing, Rule, largest, losses, on_host, random};
use crate::{ops::Ops, parameter::Values};

/// Least deviation of the noise, as in the authors' program: the load's slope is one over the deviation.
const LEAST_DEVIATION: f64 = 1e-2;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoisyTopK {}

impl Rule for NoisyTopK {
    const ABOUT: About = About {
        name: "noisy_top_k",
        doc: "in training each token goes to the top_k experts of scores with trained noise; none has a limit",
        paper: "1701.06538",
    };

    const IS_NOISY: bool = true;

    // "we initialize the matrices W_g and W_noise to all zeros, which yields no signal and some noise"
    const INITIAL_SCALE: f32 = 0.0;

    // the softmax over one score is 1, whatever the score
    const LEAST_TOP_K: usize = 2;

    fn read(_: Values) -> Self {
        NoisyTopK {}
    }

    fn route<B: Ops>(&self, request: &Request<B>) -> Routing<B> {
        let x = request.x;
        let logits = request.router.apply(x.clone());
        let noise = request.noise.filter(|_| request.training);
        let deviation = noise.map(|noise| softplus(noise.apply(x.clone())) + LEAST_DEVIATION);
        let scores = match &deviation {
            Some(deviation) => {
                let normal = random::draw(StandardNormal, random::seeded_by(x), logits.dims(), &x.device());
                logits.clone() + deviation.clone() * normal
            }
            None => logits.clone(),
        };
        let chosen = largest(&scores, request.top_k);
        let gates = softmax(scores.clone().gather(1, chosen.clone()), 1);
        let balance = deviation.map(|deviation| {
            let importance = losses::variation(importance(&gates, &chosen, logits.dims()[1]));
            match load(&logits, &scores, deviation, request.top_k) {
                Some(load) => importance + losses::variation(load),
                None => importance,
            }
        });
        Routing::of_tokens(logits, gates, on_host(chosen).into_iter().map(Some), balance)
    }
}

/// Sum of each expert's gates, `[experts]`.
fn importance<B: Backend>(gates: &Tensor<B, 2>, chosen: &Tensor<B, 2, Int>, experts: usize) -> Tensor<B, 1> {
    let [tokens, k] = gates.dims();
    Tensor::zeros([experts], &gates.device()).select_assign(
        0,
        chosen.clone().reshape([tokens * k]),
        gates.clone().reshape([tokens * k]),
        IndexingUpdateOp::Add,
    )
}

/// Expected tokens of each expert if its own noise were drawn again, `[experts]`; `None` where every token goes to all.
///
/// An expert is chosen where its score is above the `k`-th highest of the others, which is a smooth function of its
/// logit and deviation, `Φ((logit - threshold) / deviation)`. The count of tokens itself has no gradient.
fn load<B: Backend>(
    logits: &Tensor<B, 2>,
    scores: &Tensor<B, 2>,
    deviation: Tensor<B, 2>,
    k: usize,
) -> Option<Tensor<B, 1>> {
    let [tokens, experts] = logits.dims();
    if k >= experts {
        return None;
    }
    let best = scores.clone().gather(1, largest(scores, k + 1));
    let column = |i: usize| {
        best.clone()
            .slice([0..tokens, i..i + 1])
            .expand([tokens, experts])
    };
    // among the others of a chosen expert the k-th highest is the (k + 1)-th of all
    let is_chosen = scores.clone().greater(column(k));
    let threshold = column(k - 1).mask_where(is_chosen, column(k));
    let p = ((logits.clone() - threshold) / deviation / std::f64::consts::SQRT_2).erf() * 0.5 + 0.5;
    Some(p.sum_dim(0).squeeze_dim::<1>(0))
}

/// `ln(1 + eˣ)` that does not overflow.
fn softplus<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    (x.clone().abs().neg().exp() + 1.0).log() + relu(x)
}

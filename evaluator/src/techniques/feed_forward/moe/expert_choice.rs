//! Expert choice (2202.09368): each expert takes the tokens that score highest with it, so many of each text that all
//! experts have the same load; a token goes to any number of experts.
//!
//! Whether a token is chosen depends on all tokens of its text, later ones too. What writes token after token does not
//! have these yet, so only models that read whole texts have this router. The choice is made in each text by itself and
//! among its real tokens: neither companions of a batch nor padding change it, in training or served.

use burn::tensor::activation::softmax;
use serde::{Deserialize, Serialize};

use super::{About, Request, Routing, Rule, capacity::capacity};
use crate::{counter, ops::Ops, parameter::Values};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpertChoice {
    /// Experts for each token, in the mean.
    pub capacity_factor: f64,
}

impl Rule for ExpertChoice {
    const ABOUT: About = About {
        name: "expert_choice",
        doc: "each expert takes its likeliest tokens of a text, so loads are equal; of models that read whole texts",
        paper: "2202.09368",
    };

    const LOOKS_AHEAD: bool = true;

    const LEAST_TOP_K: usize = 0;

    fn read(values: Values) -> Self {
        ExpertChoice {
            capacity_factor: values.float("capacity_factor"),
        }
    }

    fn experts_per_token(_: Values) -> usize {
        0
    }

    fn expert_rows(&self, n: usize, experts: usize, _: usize) -> usize {
        experts * self.load(n, experts)
    }

    fn route<B: Ops>(&self, request: &Request<B>) -> Routing<B> {
        let logits = request.router.apply(request.x.clone());
        let [tokens, experts] = logits.dims();
        let [b, n] = request.batch;
        let lengths = request
            .lengths
            .map_or_else(|| vec![n; b], |lengths| lengths.iter().collect());
        let p = softmax(logits.clone(), 1);
        let scores: Vec<f32> = p.clone().detach().into_data().iter().collect();
        let places = self.choose(&scores, experts, n, &lengths);
        let mut is_chosen = vec![false; tokens];
        for place in places.iter().flatten() {
            is_chosen[place / experts] = true;
        }
        let present: usize = lengths.iter().sum();
        let by_none = present - is_chosen.into_iter().filter(|chosen| *chosen).count();
        if by_none > 0 {
            counter::add_activity("tokens_chosen_by_no_expert", by_none);
        }
        let chosen: usize = places.iter().map(Vec::len).sum();
        Routing {
            logits,
            gates: p,
            places,
            left_out: b * self.expert_rows(n, experts, 0) - chosen,
            balance: None,
        }
    }
}

impl ExpertChoice {
    /// Tokens that each expert takes of a text of `n`.
    fn load(&self, n: usize, experts: usize) -> usize {
        capacity(n, experts, self.capacity_factor).min(n)
    }

    /// The places in `scores [texts * n, experts]` of each expert's tokens, for texts of these lengths in rows of `n`.
    fn choose(&self, scores: &[f32], experts: usize, n: usize, lengths: &[usize]) -> Vec<Vec<usize>> {
        let mut places = vec![vec![]; experts];
        for (text, length) in lengths.iter().copied().enumerate() {
            let load = self.load(length, experts);
            for (expert, places) in places.iter_mut().enumerate() {
                let place = |token| (text * n + token) * experts + expert;
                let mut best: Vec<usize> = (0..length).map(place).collect();
                if load < length {
                    // of equal scores the earlier token's comes first
                    best.select_nth_unstable_by(load, |a, b| {
                        scores[*b].total_cmp(&scores[*a]).then(a.cmp(b))
                    });
                    best.truncate(load);
                    best.sort_unstable();
                }
                places.extend(best);
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(rows: usize, experts: usize) -> Vec<f32> {
        let of = |i: usize| (i * 7919 % 101) as f32;
        (0..rows * experts).map(of).collect()
    }

    #[test]
    fn loads_are_equal_in_every_text_and_padding_is_never_chosen() {
        let n = 13;
        for experts in [1, 2, 3, 4, 8, 40] {
            for capacity_factor in [1.0, 1.25, 1.5, 2.0] {
                let rule = ExpertChoice { capacity_factor };
                let lengths = [13, 5, 1, 13, 8];
                let places = rule.choose(&scores(5 * n, experts), experts, n, &lengths);
                for (text, length) in lengths.into_iter().enumerate() {
                    let even = (length as f64 * capacity_factor / experts as f64 - 1e-9).ceil() as usize;
                    for (expert, places) in places.iter().enumerate() {
                        let tokens = places
                            .iter()
                            .inspect(|place| assert_eq!(*place % experts, expert));
                        let mut tokens: Vec<usize> = tokens
                            .map(|place| place / experts)
                            .filter(|row| row / n == text)
                            .map(|row| row % n)
                            .collect();
                        tokens.dedup();
                        assert_eq!(
                            tokens.len(),
                            even.min(length),
                            "{experts} {capacity_factor} {length}"
                        );
                        assert!(tokens.iter().all(|token| *token < length));
                    }
                }
            }
        }
    }

    #[test]
    fn an_expert_takes_its_highest_scores_and_of_equal_ones_the_earlier() {
        let rule = ExpertChoice { capacity_factor: 1.0 };
        // rows of two experts, two texts of four tokens
        let scores = [
            0.1, 0.9, 0.8, 0.2, 0.5, 0.5, 0.5, 0.5, //
            0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5,
        ];
        let tokens = |expert: usize| {
            let places = rule.choose(&scores, 2, 4, &[4, 4]);
            places[expert].iter().map(|place| place / 2).collect::<Vec<_>>()
        };
        assert_eq!(tokens(0), [1, 2, 4, 5]);
        assert_eq!(tokens(1), [0, 2, 4, 5]);
    }
}

//! What may come next, and which guesses of it are kept.

use burn::tensor::{Tensor, activation::softmax};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::ops::Ops;

/// How a token is chosen.
#[derive(Clone, Debug)]
pub struct Choice {
    /// 0 for the most likely token; 1 for the model's own distribution.
    pub temperature: f64,
    /// Where chance comes from.
    pub random: ChaCha8Rng,
}

impl Choice {
    /// A choice whose chance comes from `seed`.
    pub fn new(temperature: f64, seed: u64) -> Self {
        Choice {
            temperature,
            random: ChaCha8Rng::seed_from_u64(seed),
        }
    }
}

/// What may come next: one token for certain, or each with a share of the sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Law<'a> {
    /// This token.
    Certain(u32),
    /// Each token with its share; they sum to one but for rounding.
    Shares(&'a [f32]),
}

impl Law<'_> {
    fn of(self, token: u32) -> f32 {
        match self {
            Law::Certain(certain) => f32::from(certain == token),
            Law::Shares(shares) => shares[token as usize],
        }
    }

    /// A token by this law.
    pub fn draw(self, random: &mut ChaCha8Rng) -> u32 {
        match self {
            Law::Certain(token) => token,
            Law::Shares(shares) => {
                let mut left: f32 = random.random::<f32>() * shares.iter().sum::<f32>();
                let found = shares.iter().position(|share| {
                    left -= share;
                    left <= 0.0
                });
                found.unwrap_or(shares.len() - 1) as u32
            }
        }
    }
}

/// The laws of several places.
#[derive(Clone, Debug, PartialEq)]
pub enum Laws {
    /// The token of each place.
    Certain(Vec<u32>),
    /// The shares of each place, one place after the other.
    Shares {
        /// All shares.
        values: Vec<f32>,
        /// Tokens of one place.
        outputs: usize,
    },
}

impl Laws {
    /// The laws that logits `[places, outputs]` say at a temperature; waits for the device.
    pub fn read<B: Ops>(logits: Tensor<B, 2>, temperature: f64) -> Self {
        if temperature <= 0.0 {
            let tokens = logits.argmax(1).into_data();
            return Laws::Certain(tokens.iter::<i64>().map(|token| token as u32).collect());
        }
        let outputs = logits.dims()[1];
        let values = softmax(logits / temperature, 1).into_data().iter().collect();
        Laws::Shares { values, outputs }
    }

    /// The law of one place.
    pub fn at(&self, place: usize) -> Law<'_> {
        match self {
            Laws::Certain(tokens) => Law::Certain(tokens[place]),
            Laws::Shares { values, outputs } => Law::Shares(&values[place * outputs..][..*outputs]),
        }
    }
}

/// A token that a draft takes for the next one.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// The token.
    pub token: u32,
    /// The shares that it was drawn by; `None` where the draft leaves nothing to chance.
    pub shares: Option<Vec<f32>>,
}

impl Guess {
    /// A token drawn by the law of one place.
    pub(super) fn draw(laws: Laws, random: &mut ChaCha8Rng) -> Self {
        let token = laws.at(0).draw(random);
        let shares = match laws {
            Laws::Certain(_) => None,
            Laws::Shares { values, .. } => Some(values),
        };
        Guess { token, shares }
    }

    fn law(&self) -> Law<'_> {
        match &self.shares {
            None => Law::Certain(self.token),
            Some(shares) => Law::Shares(shares),
        }
    }

    /// The probability `min(1, p / q)` with which it is kept where `target` is what may come next.
    pub fn acceptance(&self, target: Law) -> f32 {
        (target.of(self.token) / self.law().of(self.token)).min(1.0)
    }
}

/// What is left of `target` for the place of a guess that was not kept, `max(p - q, 0)`; its sum need not be one.
pub fn residual(target: Law, guess: &Guess) -> Laws {
    let shares = match target {
        Law::Certain(token) => return Laws::Certain(vec![token]),
        Law::Shares(shares) => shares,
    };
    let more = shares.iter().enumerate();
    let values: Vec<f32> = more
        .map(|(token, share)| (share - guess.law().of(token as u32)).max(0.0))
        .collect();
    let outputs = values.len();
    // both laws are one but for rounding
    if values.iter().sum::<f32>() <= 0.0 {
        let values = shares.to_vec();
        return Laws::Shares { values, outputs };
    }
    Laws::Shares { values, outputs }
}

/// Which guesses are kept, and what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Guesses that are kept, from the first one.
    pub accepted: usize,
    /// The token after them.
    pub next: u32,
}

/// Keeps guesses so that what is written follows `target`, whatever the draft: each with probability `min(1, p / q)`; in
/// place of the first that is not kept comes a token by the [`residual`], and after all of them one by `target`.
///
/// `target` holds the laws of the guesses' places and of the one after them.
pub fn verify(target: &Laws, guesses: &[Guess], random: &mut ChaCha8Rng) -> Verdict {
    for (accepted, guess) in guesses.iter().enumerate() {
        let law = target.at(accepted);
        let probability = guess.acceptance(law);
        // what is certain takes no chance, so that greedy text needs none
        let is_kept = probability >= 1.0 || (probability > 0.0 && random.random::<f32>() < probability);
        if !is_kept {
            let next = residual(law, guess).at(0).draw(random);
            return Verdict { accepted, next };
        }
    }
    Verdict {
        accepted: guesses.len(),
        next: target.at(guesses.len()).draw(random),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: [f32; 3] = [0.5, 0.3, 0.2];
    const Q: [f32; 3] = [0.2, 0.5, 0.3];

    fn guess(token: u32, shares: [f32; 3]) -> Guess {
        let shares = Some(shares.to_vec());
        Guess { token, shares }
    }

    fn laws(places: &[[f32; 3]]) -> Laws {
        Laws::Shares {
            values: places.concat(),
            outputs: 3,
        }
    }

    /// The probability of each next token where one guess is drawn by `q`, and that of keeping the guess; nothing is drawn.
    fn enumerated(p: [f32; 3], q: [f32; 3], of: impl Fn(u32) -> Guess) -> ([f64; 3], f64) {
        let (mut law, mut kept) = ([0.0; 3], 0.0);
        for token in 0..3 {
            let guess = of(token);
            let reached = f64::from(q[token as usize]);
            let keep = f64::from(guess.acceptance(Law::Shares(&p)));
            law[token as usize] += reached * keep;
            kept += reached * keep;
            let Laws::Shares { values, .. } = residual(Law::Shares(&p), &guess) else {
                panic!("a law of shares leaves shares");
            };
            let sum: f64 = values.iter().map(|v| f64::from(*v)).sum();
            for (law, value) in law.iter_mut().zip(values) {
                *law += reached * (1.0 - keep) * f64::from(value) / sum;
            }
        }
        (law, kept)
    }

    #[test]
    fn what_is_written_follows_the_target_whatever_the_draft() {
        for (p, q) in [(P, Q), (Q, P), (P, P), (P, [0.0, 1.0, 0.0]), ([1.0, 0.0, 0.0], Q)] {
            let (law, _) = enumerated(p, q, |token| guess(token, q));
            for (law, p) in law.iter().zip(p) {
                assert!((law - f64::from(p)).abs() < 1e-7, "{law} is not {p}");
            }
        }
        // a draft that leaves nothing to chance
        for token in 0..3 {
            let mut q = [0.0; 3];
            q[token as usize] = 1.0;
            let (law, kept) = enumerated(P, q, |token| Guess { token, shares: None });
            assert!(
                law.iter()
                    .zip(P)
                    .all(|(law, p)| (law - f64::from(p)).abs() < 1e-7)
            );
            assert!((kept - f64::from(P[token as usize])).abs() < 1e-7);
        }
        let (_, kept) = enumerated(P, Q, |token| guess(token, Q));
        assert!((kept - 0.7).abs() < 1e-7, "{kept}");
    }

    #[test]
    fn greedy_keeps_what_is_most_likely_and_takes_no_chance() {
        let target = Laws::Certain(vec![4, 7, 9]);
        let certain = |token| Guess { token, shares: None };
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let untouched = random.clone();
        for (guesses, accepted, next) in [
            (vec![4, 7], 2, 9),
            (vec![4, 8], 1, 7),
            (vec![5, 7], 0, 4),
            (vec![], 0, 4),
        ] {
            let guesses: Vec<Guess> = guesses.into_iter().map(certain).collect();
            assert_eq!(verify(&target, &guesses, &mut random), Verdict { accepted, next });
        }
        assert_eq!(random, untouched);
    }

    /// Tokens for each call by the formula, for guesses that are kept with probability `alpha` each.
    fn tokens_per_call(alpha: f64, guesses: i32) -> f64 {
        (1.0 - alpha.powi(guesses + 1)) / (1.0 - alpha)
    }

    #[test]
    fn tokens_per_call_are_those_of_the_formula() {
        let gain = |alpha, guesses, cost| tokens_per_call(alpha, guesses) / (f64::from(guesses) * cost + 1.0);
        assert!((tokens_per_call(0.7, 4) - 2.7731).abs() < 1e-4);
        assert!((gain(0.7, 4, 0.1) - 1.9808).abs() < 1e-4);
        assert!((gain(0.8, 5, 0.05) - 2.9514).abs() < 1e-4);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for (q, guesses) in [(Q, 4), (Q, 1), (P, 6), ([0.05, 0.05, 0.9], 5)] {
            let target = laws(&vec![P; guesses + 1]);
            let (rounds, mut tokens, mut judged, mut kept) = (20_000, 0, 0, 0);
            for _ in 0..rounds {
                let drawn = (0..guesses).map(|_| guess(Law::Shares(&q).draw(&mut random), q));
                let drawn: Vec<Guess> = drawn.collect();
                let Verdict { accepted, .. } = verify(&target, &drawn, &mut random);
                tokens += accepted + 1;
                judged += guesses.min(accepted + 1);
                kept += accepted;
            }
            let alpha = kept as f64 / judged as f64;
            let (measured, foretold) = (
                tokens as f64 / f64::from(rounds),
                match q {
                    P => guesses as f64 + 1.0,
                    _ => tokens_per_call(alpha, guesses as i32),
                },
            );
            assert!(
                (measured / foretold - 1.0).abs() < 0.05,
                "{measured} is not {foretold}"
            );
        }
    }

    /// χ² of 100,000 continuations of two tokens, guesses for both from another law, the second depending on the first.
    #[test]
    fn two_tokens_have_the_law_of_the_target() {
        let then = [[0.1, 0.2, 0.7], [0.6, 0.2, 0.2], [0.3, 0.4, 0.3]];
        let guessed = [[0.3, 0.3, 0.4], [0.2, 0.6, 0.2], [0.8, 0.1, 0.1]];
        for seed in [1, 2, 3] {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let (samples, mut seen) = (100_000, [[0u32; 3]; 3]);
            for _ in 0..samples {
                let first = Law::Shares(&Q).draw(&mut random);
                let q = guessed[first as usize];
                let second = Law::Shares(&q).draw(&mut random);
                let target = laws(&[P, then[first as usize], [1.0, 0.0, 0.0]]);
                let both = [guess(first, Q), guess(second, q)];
                let written = match verify(&target, &both, &mut random) {
                    Verdict { accepted: 2, .. } => [first, second],
                    Verdict { accepted: 1, next } => [first, next],
                    Verdict { next, .. } => {
                        let q = guessed[next as usize];
                        let again = [guess(Law::Shares(&q).draw(&mut random), q)];
                        let target = laws(&[then[next as usize], [1.0, 0.0, 0.0]]);
                        match verify(&target, &again, &mut random) {
                            Verdict { accepted: 1, .. } => [next, again[0].token],
                            Verdict { next: second, .. } => [next, second],
                        }
                    }
                };
                seen[written[0] as usize][written[1] as usize] += 1;
            }
            let mut chi = 0.0;
            for (first, (row, then)) in seen.iter().zip(then).enumerate() {
                for (seen, then) in row.iter().zip(then) {
                    let expected = f64::from(samples) * f64::from(P[first]) * f64::from(then);
                    chi += (f64::from(*seen) - expected).powi(2) / expected;
                }
            }
            // the quantile 0.999 of eight degrees of freedom
            assert!(chi < 26.12, "seed {seed}: {chi}");
        }
    }
}

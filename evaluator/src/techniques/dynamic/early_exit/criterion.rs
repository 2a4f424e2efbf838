//! What an exit is sure by.

use serde::{Deserialize, Serialize};

/// What an exit is sure by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// The probability of the most likely class.
    MaxProb,
    /// One less the entropy of the classes, over that of even ones.
    Entropy,
    /// The probability of the most likely class less that of the second.
    Margin,
    /// How many exits in a row, this one the last, give the same class, over all places to leave (2006.04152).
    Patience,
    /// The cosine between a token's states before and after the last layer so far; no head is asked.
    StateSimilarity,
}

impl Criterion {
    /// Whether it takes an exit's logits to know.
    pub(crate) fn asks_the_head(self) -> bool {
        self != Criterion::StateSimilarity
    }

    /// How sure an exit is that gives these logits, from 0 to 1. `heard` is what those before it said of the same text or
    /// token, and then this one too; a model has so many `places` to leave.
    ///
    /// # Panics
    /// If it is not by logits.
    pub(crate) fn confidence(self, logits: &[f32], heard: &mut Heard, places: usize) -> f32 {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers = logits.iter().map(|logit| (logit - most).exp());
        let sum: f32 = powers.clone().sum();
        match self {
            Criterion::MaxProb => 1.0 / sum,
            Criterion::Entropy => {
                let entropy: f32 = powers.map(|power| -xlogx(power / sum)).sum();
                (1.0 - entropy / (logits.len() as f32).ln()).clamp(0.0, 1.0)
            }
            Criterion::Margin => {
                let larger = |[first, second]: [f32; 2], power: f32| match power {
                    power if power > first => [power, first],
                    power => [first, second.max(power)],
                };
                let [first, second] = powers.fold([0.0; 2], larger);
                (first - second) / sum
            }
            Criterion::Patience => {
                heard.add(largest(logits));
                heard.agreeing as f32 / places as f32
            }
            Criterion::StateSimilarity => unreachable!("states have no logits"),
        }
    }
}

/// What exits have said of one text or token so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    class: usize,
    /// How many of them, the last ones, gave this class.
    agreeing: usize,
}

impl Heard {
    fn add(&mut self, class: usize) {
        let agrees = self.class == class;
        self.agreeing = if agrees { self.agreeing + 1 } else { 1 };
        self.class = class;
    }
}

/// Which of some values is the largest; of equal ones the first.
pub(crate) fn largest(values: &[f32]) -> usize {
    let better = |best: usize, (i, value): (usize, &f32)| if *value > values[best] { i } else { best };
    values.iter().enumerate().fold(0, better)
}

/// How much a layer left a state as it was: the cosine between before and after, 0 where it is negative.
pub(crate) fn similarity(before: &[f32], after: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let sizes = product(before, before) * product(after, after);
    (product(before, after) / sizes.sqrt()).clamp(0.0, 1.0)
}

fn xlogx(x: f32) -> f32 {
    if x > 0.0 { x * x.ln() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_is_none_where_classes_are_even_and_whole_where_one_is_certain() {
        let sure =
            |criterion: Criterion, logits: &[f32]| criterion.confidence(logits, &mut Heard::default(), 1);
        for criterion in [Criterion::MaxProb, Criterion::Entropy, Criterion::Margin] {
            let certain = sure(criterion, &[50.0, 0.0, 0.0]);
            assert!((certain - 1.0).abs() < 1e-6, "{certain}");
            let (less, more) = (sure(criterion, &[1.0, 0.0]), sure(criterion, &[2.0, 0.0]));
            assert!(less < more);
        }
        assert!((sure(Criterion::MaxProb, &[3.0, 3.0]) - 0.5).abs() < 1e-6);
        assert!(sure(Criterion::Entropy, &[3.0, 3.0]).abs() < 1e-6);
        assert_eq!(sure(Criterion::Margin, &[3.0, 3.0]), 0.0);
        // p = (.2, .7, .1)
        let margin = sure(Criterion::Margin, &[2f32.ln(), 7f32.ln(), 0.0]);
        assert!((margin - 0.5).abs() < 1e-6, "{margin}");
        // p = (.9, .1): 1 - 0.325083 / ln 2
        let nine = sure(Criterion::Entropy, &[9f32.ln(), 0.0]);
        assert!((nine - 0.531_004).abs() < 1e-5, "{nine}");
    }

    #[test]
    fn patience_counts_the_exits_in_a_row_that_give_one_class() {
        let mut heard = Heard::default();
        let mut says = |class: usize| {
            let logits = [0, 1, 2].map(|i| f32::from(u8::from(i == class)));
            Criterion::Patience.confidence(&logits, &mut heard, 4)
        };
        assert_eq!([1, 1, 0, 0, 0].map(&mut says), [0.25, 0.5, 0.25, 0.5, 0.75]);
        // the first exit agrees with nobody, whatever it says
        assert_eq!(
            Criterion::Patience.confidence(&[1.0, 0.0], &mut Heard::default(), 4),
            0.25
        );
    }

    #[test]
    fn states_are_alike_by_their_angle() {
        assert_eq!(similarity(&[1.0, 2.0, 2.0], &[1.0, 2.0, 2.0]), 1.0);
        assert!((similarity(&[1.0, 0.0], &[3.0, 4.0]) - 0.6).abs() < 1e-6);
        assert_eq!(similarity(&[1.0, 0.0], &[-1.0, 0.0]), 0.0);
    }
}

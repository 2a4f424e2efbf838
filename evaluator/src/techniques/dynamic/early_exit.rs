//! Early exit (2004.12993, 2110.07038): a text whose class is sure after some layers is not read by the later ones. Of a
//! decoder each token that is written leaves by itself (2207.07061), and later layers take its keys and values from the
//! state that it left with.
//!
//! The kind's own norm and head stand after every few layers; all of them are trained together, each by its depth. The
//! forward passes are in `model/exits.rs`; how the threshold is found in `calibration.rs`.

use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use crate::{
    model::{Kind, LayerPlan},
    parameter::{Declared, Values, choice, float, int},
    techniques::{About, feed_forward::FeedForwardPlan},
};

/// The counter of texts, or tokens that are written, that left before the last layer.
pub(crate) const EXITS_ACTIVITY: &str = "early_exits";

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
    /// The cosine between a token's states before and after the last layer so far; no head is asked.
    StateSimilarity,
}

impl Criterion {
    /// Whether it takes an exit's logits to know.
    pub(crate) fn asks_the_head(self) -> bool {
        self != Criterion::StateSimilarity
    }

    /// How sure logits are, from 0 to 1.
    ///
    /// # Panics
    /// If it is not by logits.
    pub fn confidence(self, logits: &[f32]) -> f32 {
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
            Criterion::StateSimilarity => unreachable!("states have no logits"),
        }
    }
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

/// How sure an exit must be at least, in steps of a ten-thousandth. Its text has one length, so that the bytes of a
/// model's files are known before it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Threshold(u16);

impl Threshold {
    /// Every text leaves at the first exit.
    pub const ALWAYS: Threshold = Threshold(0);
    /// No text leaves before the last layer.
    pub const NEVER: Threshold = Threshold(10_001);

    /// All thresholds, the lowest first.
    pub fn all() -> impl Iterator<Item = Threshold> {
        (Self::ALWAYS.0..=Self::NEVER.0).map(Threshold)
    }

    /// The lowest one that halving finds: it is enough, unless it is [`Threshold::NEVER`], and the one below it is not.
    pub(crate) fn lowest(mut is_enough: impl FnMut(Threshold) -> bool) -> Threshold {
        let (mut low, mut high) = (Self::ALWAYS.0, Self::NEVER.0);
        if is_enough(Self::ALWAYS) {
            return Self::ALWAYS;
        }
        while high - low > 1 {
            let middle = low.midpoint(high);
            if is_enough(Threshold(middle)) {
                high = middle;
            } else {
                low = middle;
            }
        }
        Threshold(high)
    }

    /// Whether so much confidence is enough.
    pub fn is_met(self, confidence: f32) -> bool {
        self != Self::NEVER && confidence >= f32::from(self.0) / 1e4
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> String {
        format!("{:.4}", f64::from(threshold.0) / 1e4)
    }
}

impl TryFrom<String> for Threshold {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let value = text.parse::<f64>().ok().map(|value| (value * 1e4).round());
        match value {
            Some(value) if (0.0..=f64::from(Self::NEVER.0)).contains(&value) => Ok(Threshold(value as u16)),
            _ => Err(format!("threshold '{text}' is not from 0.0000 to 1.0001")),
        }
    }
}

/// The exits of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlyExit {
    /// When a text or token leaves.
    pub criterion: Criterion,
    /// Layers from one exit to the next.
    pub every: usize,
    /// How sure it must be.
    pub threshold: Threshold,
}

impl EarlyExit {
    /// Reads the parameters of the family; `None` where every text goes through every layer. The threshold is found later.
    ///
    /// # Errors
    /// A sentence about a model that has no place for an exit.
    pub(crate) fn read(
        values: Values,
        kind: Kind,
        layers: &[LayerPlan],
        reversible: bool,
    ) -> Result<Option<Self>, String> {
        let (name, every) = (values.text("early_exit"), values.int("exit_every"));
        let criterion = match name {
            "max_prob" => Criterion::MaxProb,
            "entropy" => Criterion::Entropy,
            "margin" => Criterion::Margin,
            "state_similarity" => Criterion::StateSimilarity,
            _ => return Ok(None),
        };
        match kind {
            Kind::Encoder(_) if !criterion.asks_the_head() => {
                return Err(format!(
                    "early_exit = '{name}' compares states of one token, and kind '{}' has a text leave with all of its own; use early_exit = 'max_prob', 'entropy' or 'margin'",
                    kind.name()
                ));
            }
            Kind::Encoder(_) => {}
            Kind::Decoder(_) => check_what_is_remembered(name, layers)?,
            _ => {
                return Err(format!(
                    "early_exit = '{name}' leaves out layers of a text whose class is sure, or of a token that follows others, and kind '{}' has neither; use kind = 'encoder' or 'decoder', or early_exit = 'none'",
                    kind.name()
                ));
            }
        }
        let layers = layers.len();
        if reversible {
            return Err(format!(
                "early_exit = '{name}' needs the outputs of inner layers, which reversible = true does not keep; use reversible = false"
            ));
        }
        if every >= layers {
            return Err(match layers {
                1 => format!("early_exit = '{name}' with one layer leaves none out; use layers = 2 or more"),
                _ => format!(
                    "exit_every {every} with layers {layers} has no exit before the last layer; use at most {}",
                    layers - 1
                ),
            });
        }
        Ok(Some(EarlyExit {
            criterion,
            every,
            threshold: Threshold::NEVER,
        }))
    }

    /// Whether there is an exit after the first `depth` of `layers` layers.
    pub(crate) fn is_after(self, depth: usize, layers: usize) -> bool {
        depth < layers && depth.is_multiple_of(self.every)
    }

    /// Heads that a text or token passes which leaves after `depth` of `layers` layers.
    pub(crate) fn heads(self, depth: usize, layers: usize) -> usize {
        if !self.criterion.asks_the_head() {
            1
        } else if depth < layers {
            depth / self.every
        } else {
            self.depths(layers).count()
        }
    }

    /// The depths at which a text can leave, the last layer's among them.
    pub(crate) fn depths(self, layers: usize) -> impl Iterator<Item = usize> {
        (1..=layers).filter(move |depth| *depth == layers || self.is_after(*depth, layers))
    }

    /// What the loss of each of these depths counts in training; together one (2012.15701 and others weigh by depth).
    pub(crate) fn weights(self, layers: usize) -> impl Iterator<Item = f64> {
        let sum: usize = self.depths(layers).sum();
        self.depths(layers).map(move |depth| depth as f64 / sum as f64)
    }
}

/// Refuses layers of a decoder in which a token that skips them leaves a gap.
fn check_what_is_remembered(name: &str, layers: &[LayerPlan]) -> Result<(), String> {
    let mut cores = layers.iter().map(|layer| &layer.attention.core);
    if let Some(core) = cores.find(|core| !core.keeps_keys_and_values()) {
        return Err(format!(
            "early_exit = '{name}' gives layers that a token skips its keys and values to remember, and {} attention keeps none; use attention full, tiled or sliding_window, or early_exit = 'none'",
            core.name()
        ));
    }
    let mixes = |layer: &LayerPlan| matches!(layer.feed_forward, FeedForwardPlan::ChannelMix { .. });
    if layers.iter().any(mixes) {
        return Err(format!(
            "early_exit = '{name}' lets tokens skip layers, and feed_forward = 'channel_mix' mixes each token with the one before in every layer; use feed_forward = 'gated', or early_exit = 'none'"
        ));
    }
    Ok(())
}

/// What the exits say of themselves.
pub(crate) fn about() -> Vec<About> {
    let about = |name, doc| About {
        name,
        doc,
        paper: "2004.12993, 2110.07038, 2207.07061",
    };
    vec![
        about(
            "max_prob",
            "a text, or a token that is written, leaves once the most likely class has probability enough",
        ),
        about(
            "entropy",
            "a text or token leaves once the classes have little entropy",
        ),
        about(
            "margin",
            "a text or token leaves once the most likely class is well ahead of the second",
        ),
        about(
            "state_similarity",
            "a token of a decoder leaves once a layer hardly turns its state, which no head is asked for",
        ),
    ]
}

/// The parameters of the family.
pub(crate) fn parameters() -> Vec<ParameterInfo> {
    let on = "early_exit in ['max_prob', 'entropy', 'margin', 'state_similarity']";
    let every = [1, 2, 3].map(Value::Int).to_vec();
    let tolerances = [0.0, 0.5, 1.0, 2.0, 5.0].map(Value::Float).to_vec();
    vec![
        choice(
            "early_exit",
            "when a text, or a token that is written, is read by no further layer: never, or once its class is sure",
            &["none", "max_prob", "entropy", "margin", "state_similarity"],
        ),
        int("exit_every", "layers from one exit to the next", 1, 64, 1)
            .unit("layers")
            .when(on)
            .search(Domain::categorical(every).expect("not empty")),
        float(
            "exit_tolerance",
            "accuracy that exits may lose on the texts that their threshold is found on, of a decoder in its next tokens",
            0.0,
            100.0,
            1.0,
        )
        .unit("percentage points")
        .when(on)
        .search(Domain::categorical(tolerances).expect("not empty")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_is_none_where_classes_are_even_and_whole_where_one_is_certain() {
        for criterion in [Criterion::MaxProb, Criterion::Entropy, Criterion::Margin] {
            let sure = criterion.confidence(&[50.0, 0.0, 0.0]);
            assert!((sure - 1.0).abs() < 1e-6, "{sure}");
            let (less, more) = (
                criterion.confidence(&[1.0, 0.0]),
                criterion.confidence(&[2.0, 0.0]),
            );
            assert!(less < more);
        }
        assert!((Criterion::MaxProb.confidence(&[3.0, 3.0]) - 0.5).abs() < 1e-6);
        assert!(Criterion::Entropy.confidence(&[3.0, 3.0]).abs() < 1e-6);
        assert_eq!(Criterion::Margin.confidence(&[3.0, 3.0]), 0.0);
        // p = (.2, .7, .1)
        let margin = Criterion::Margin.confidence(&[2f32.ln(), 7f32.ln(), 0.0]);
        assert!((margin - 0.5).abs() < 1e-6, "{margin}");
        // p = (.9, .1): 1 - 0.325083 / ln 2
        let nine = Criterion::Entropy.confidence(&[9f32.ln(), 0.0]);
        assert!((nine - 0.531_004).abs() < 1e-5, "{nine}");
    }

    #[test]
    fn states_are_alike_by_their_angle() {
        assert_eq!(similarity(&[1.0, 2.0, 2.0], &[1.0, 2.0, 2.0]), 1.0);
        assert!((similarity(&[1.0, 0.0], &[3.0, 4.0]) - 0.6).abs() < 1e-6);
        assert_eq!(similarity(&[1.0, 0.0], &[-1.0, 0.0]), 0.0);
    }

    #[test]
    fn halving_finds_the_lowest_threshold_that_is_enough() {
        for least in [0, 1, 4999, 9_999, 10_001] {
            let mut asked = 0;
            let found = Threshold::lowest(|threshold| {
                asked += 1;
                threshold.0 >= least
            });
            assert!(found.0 == least && asked < 16, "{found:?} after {asked}");
        }
    }

    #[test]
    fn thresholds_have_one_length_and_come_back() {
        for threshold in [
            Threshold::ALWAYS,
            Threshold(1),
            Threshold(8731),
            Threshold(10_000),
            Threshold::NEVER,
        ] {
            let text = String::from(threshold);
            assert_eq!(text.len(), 6);
            assert_eq!(Threshold::try_from(text), Ok(threshold));
        }
        assert!(Threshold::ALWAYS.is_met(0.0) && !Threshold::NEVER.is_met(1.0));
        assert!(Threshold(10_000).is_met(1.0) && !Threshold(10_000).is_met(0.999));
        assert!(Threshold::try_from("1.5".to_owned()).is_err());
    }

    #[test]
    fn exits_stand_after_every_few_layers_and_before_the_last() {
        let exits = |every| EarlyExit {
            criterion: Criterion::MaxProb,
            every,
            threshold: Threshold::NEVER,
        };
        let depths = |every, layers| exits(every).depths(layers).collect::<Vec<_>>();
        assert_eq!(depths(1, 3), [1, 2, 3]);
        assert_eq!(depths(2, 4), [2, 4]);
        assert_eq!(depths(2, 5), [2, 4, 5]);
        let heads = |depth| exits(2).heads(depth, 5);
        assert_eq!([heads(2), heads(4), heads(5)], [1, 2, 3]);
        let without = EarlyExit {
            criterion: Criterion::StateSimilarity,
            ..exits(2)
        };
        assert_eq!([2, 4, 5].map(|depth| without.heads(depth, 5)), [1; 3]);
        assert_eq!(
            exits(1).weights(3).collect::<Vec<_>>(),
            [1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0]
        );
    }
}

//! Early exit (2004.12993, 2110.07038): a text whose class is sure after some layers is not read by the later ones. Of a
//! decoder each token that is written leaves by itself (2207.07061), and later layers take its keys and values from the
//! state that it left with.
//!
//! The kind's own norm and head stand after every few layers; all of them are trained together, each by its depth. The
//! forward passes are in `model/exits.rs`.

pub(crate) mod calibration;
mod criterion;
mod threshold;

use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use crate::{
    model::{Kind, LayerPlan},
    parameter::{Declared, Values, choice, float, int},
    techniques::{About, feed_forward::FeedForwardPlan},
};

pub use criterion::Criterion;
pub(crate) use criterion::{Heard, largest, similarity};
pub use threshold::Threshold;

/// The counter of texts, or tokens that are written, that left before the last layer.
pub(crate) const EXITS_ACTIVITY: &str = "early_exits";

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
            "patience" => Criterion::Patience,
            "state_similarity" => Criterion::StateSimilarity,
            _ => return Ok(None),
        };
        match kind {
            Kind::Encoder(_) if !criterion.asks_the_head() => {
                return Err(format!(
                    "early_exit = '{name}' compares states of one token, and kind '{}' has a text leave with all of its own; use early_exit = 'max_prob', 'entropy', 'margin' or 'patience'",
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
            self.places(layers)
        }
    }

    /// The depths at which a text can leave, the last layer's among them.
    pub(crate) fn depths(self, layers: usize) -> impl Iterator<Item = usize> {
        (1..=layers).filter(move |depth| *depth == layers || self.is_after(*depth, layers))
    }

    /// How many they are.
    pub(crate) fn places(self, layers: usize) -> usize {
        self.depths(layers).count()
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
        About {
            paper: "2006.04152",
            ..about(
                "patience",
                "a text or token leaves once exits enough in a row give the same class",
            )
        },
        about(
            "state_similarity",
            "a token of a decoder leaves once a layer hardly turns its state, which no head is asked for",
        ),
    ]
}

/// The parameters of the family.
pub(crate) fn parameters() -> Vec<ParameterInfo> {
    let on = "early_exit in ['max_prob', 'entropy', 'margin', 'patience', 'state_similarity']";
    let every = [1, 2, 3].map(Value::Int).to_vec();
    let tolerances = [0.0, 0.5, 1.0, 2.0, 5.0].map(Value::Float).to_vec();
    vec![
        choice(
            "early_exit",
            "when a text, or a token that is written, is read by no further layer: never, or once its class is sure",
            &["none", "max_prob", "entropy", "margin", "patience", "state_similarity"],
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

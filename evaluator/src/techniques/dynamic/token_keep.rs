//! Input pruning (2001.08950, 2107.00910): each layer passes on to the next only a share of a text's tokens, those that matter
//! most by a score. Later layers are given shorter rows; what was left out is computed nowhere.
//!
//! A token's score is the attention that the layer's queries give it, summed over heads, as in both papers, or the norm of its
//! residual stream, which costs no product and is there for attention without probabilities too, but may say less: of generated
//! texts in which one token decides the class, attention keeps it more often than chance, and norms less often
//! (`tests/it/token_keep.rs`).
//!
//! A layer can have a share of its own, so that a search finds the retention that 2001.08950 learns; one that passes on all is asked
//! for no score. Shares are the same in training and serving, and gradients go through the tokens that stay. What the kind puts
//! before a text stays, and tokens keep their order and their positions. The passes are in `model/tokens.rs`.

mod layers;

use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo};

use crate::{
    model::{Kind, LayerPlan},
    ops::Band,
    parameter::{Declared, Values, choice, float},
    techniques::{About, attention::Core},
};

pub use layers::LayerKeeps;

/// The counter of tokens that a layer did not pass on.
pub(crate) const ACTIVITY: &str = "tokens_left_out";

/// How many tokens each layer passes on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenKeep {
    /// The share, above 0 and below 1.
    pub share: f64,
    /// By what they are chosen; files from before there was a choice do not say it.
    #[serde(default)]
    pub score: TokenScore,
    /// Of layers that pass on another share.
    #[serde(default, skip_serializing_if = "LayerKeeps::is_same")]
    pub layers: LayerKeeps,
}

/// What says how much a token matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenScore {
    /// The norm of its residual stream.
    #[default]
    Norm,
    /// The attention that it is given.
    Attention,
}

impl TokenKeep {
    /// Reads the parameter; `None` where every layer reads every token.
    ///
    /// # Errors
    /// A sentence about a model whose tokens cannot be left out.
    pub(crate) fn read(
        values: Values,
        kind: Kind,
        layers: &[LayerPlan],
        is_reversible: bool,
    ) -> Result<Option<Self>, String> {
        let share = values.float("token_keep");
        // configurations from before there was a choice do not say it
        if share == 0.0 || share == 1.0 {
            return Ok(None);
        }
        let refused = |why: String| {
            Err(format!(
                "token_keep = {share} leaves tokens out of later layers, and {why}; use token_keep = 1"
            ))
        };
        if !matches!(kind, Kind::Encoder(_)) {
            return refused(format!("kind '{}' needs all of them at its end", kind.name()));
        }
        if layers.len() == 1 {
            return refused("there is one layer".into());
        }
        if is_reversible {
            return refused("reversible = true needs rows of one length to go back".into());
        }
        if values.text("early_exit") != "none" {
            return refused("an exit would see fewer tokens than the threshold was found on".into());
        }
        let by_place = layers.iter().map(|layer| &layer.attention.core);
        let mut by_place = by_place.filter(|core| matches!(core, Core::Aft(_) | Core::Kde(_)));
        if let Some(core) = by_place.next() {
            return refused(format!(
                "{} attention has a weight or a draw for each place of a row",
                core.name()
            ));
        }
        let score = match values.text("token_score") {
            "attention" => TokenScore::Attention,
            _ => TokenScore::Norm,
        };
        let keep = TokenKeep {
            share,
            score,
            layers: LayerKeeps::read(values, layers.len())?,
        };
        if (1..layers.len()).all(|layer| keep.share_of(layer - 1) == 1.0) {
            return refused("every layer has a share of 1 of its own".into());
        }
        let row = values.int("context") + kind.leading();
        if keep.read_by(layers.len() - 1, row) == row {
            return refused(format!(
                "this share leaves none of a row of {row} tokens out in {} layers",
                layers.len()
            ));
        }
        let asked = layers.iter().enumerate();
        let mut asked = asked.filter(|(i, _)| keep.asks_attention(*i, layers.len()));
        match asked.find(|(_, layer)| layer.attention.core.band(Band::whole(1, None)).is_none()) {
            Some((_, layer)) => Err(format!(
                "token_score = 'attention' needs the probabilities of attention, and {} attention has none; use token_score = 'norm' or attention = 'full'",
                layer.attention.core.name()
            )),
            None => Ok(Some(keep)),
        }
    }

    /// Whether a layer of so many is asked for the attention that its tokens are given.
    pub(crate) fn asks_attention(self, layer: usize, layers: usize) -> bool {
        self.score == TokenScore::Attention && layer + 1 < layers && self.leaves_out(layer)
    }

    /// Whether a layer, counted from 0, leaves out tokens where another one follows.
    pub(crate) fn leaves_out(self, layer: usize) -> bool {
        self.share_of(layer) < 1.0
    }

    /// The share that a layer passes on, counted from 0.
    pub fn share_of(self, layer: usize) -> f64 {
        self.layers.of_layer(layer).unwrap_or(self.share)
    }

    /// Tokens of a row of `n` that a layer reads, from 0.
    pub(crate) fn read_by(self, layer: usize, n: usize) -> usize {
        let left = (0..layer).fold(n as f64, |left, layer| left * self.share_of(layer));
        // what rounding leaves of a whole number is no token
        ((left - 1e-9).ceil() as usize).clamp(1, n)
    }
}

/// What it says of itself.
pub(crate) fn about() -> Vec<About> {
    vec![About {
        name: "token_keep",
        doc: "each layer passes on the share of a text's tokens with the largest norm, or that are given the most attention; later layers read shorter rows",
        paper: "2001.08950, 2107.00910",
    }]
}

/// The parameter.
pub(crate) fn parameters() -> Vec<ParameterInfo> {
    let mut all = vec![
        float(
            "token_keep",
            "share of a text's tokens that each layer passes on to the next",
            0.1,
            1.0,
            1.0,
        )
        .search(Domain::float(0.5, 1.0, false, Some(0.05)).expect("not empty")),
        choice(
            "token_score",
            "which tokens are passed on: those of largest norm, or those that are given the most attention",
            &["norm", "attention"],
        )
        .when("token_keep < 1"),
    ];
    all.extend(layers::parameters());
    all
}

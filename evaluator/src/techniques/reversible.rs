//! Reversible layers and a feed-forward part in chunks (2001.04451, 1707.04585): which models have them, and of what form.
//!
//! The streams are in `model/reversible.rs`, the training that keeps no activations in `training/reversible`.

use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo};

use super::About;
use crate::{
    model::LayerPlan,
    parameter::{Declared, Values, choice, int},
};

pub(super) const ABOUT: About = About {
    name: "true",
    doc: "two residual streams from whose end each block's input is had back, so training keeps no activations of blocks",
    paper: "2001.04451, 1707.04585",
};

/// The counter of blocks whose input was had back from their output.
pub(crate) const REVERSED_ACTIVITY: &str = "reversed_blocks";
/// The counter of chunks that went through a feed-forward part one by one.
pub(crate) const CHUNKS_ACTIVITY: &str = "feed_forward_chunks";

/// The form of a model of reversible layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reversible {
    /// Chunks of positions that go through the feed-forward part one by one, in training and serving.
    pub ff_chunks: usize,
}

impl Reversible {
    /// Reads the parameters of the family; `None` where layers are ordinary.
    ///
    /// # Errors
    /// A sentence about chunks that cannot be.
    pub(crate) fn read(values: Values, layers: &[LayerPlan], context: usize) -> Result<Option<Self>, String> {
        if !values.is_true("reversible") {
            return Ok(None);
        }
        let ff_chunks = values.int("ff_chunks").max(1);
        if ff_chunks > context {
            return Err(format!(
                "ff_chunks {ff_chunks} is above context {context}; use at most {context}"
            ));
        }
        let mixture = layers.iter().find_map(|layer| layer.feed_forward.mixture());
        match mixture {
            Some(mixture) if ff_chunks > 1 => Err(format!(
                "ff_chunks {ff_chunks} with experts {}, whose balance and room are those of all tokens of a batch together; use ff_chunks = 1 or experts = 1",
                mixture.experts
            )),
            _ => Ok(Some(Reversible { ff_chunks })),
        }
    }

    /// The chunks of `n` positions: first position and the one after the last, of each.
    pub(crate) fn chunks(self, n: usize) -> impl Iterator<Item = (usize, usize)> {
        let size = n.div_ceil(self.ff_chunks).max(1);
        (0..n).step_by(size).map(move |from| (from, (from + size).min(n)))
    }
}

/// The parameters of the family.
pub(crate) fn parameters() -> Vec<ParameterInfo> {
    let counts = [1, 2, 4, 8].map(spaces::Value::Int).to_vec();
    vec![
        choice(
            "reversible",
            "two residual streams; training keeps no activations of blocks and computes each block once more instead",
            &[false, true],
        ),
        // without reversible layers every chunk's hidden activations would be kept for the backward pass anyway
        int(
            "ff_chunks",
            "chunks of positions that go through the feed-forward part one by one, so that only one's hidden activations exist",
            1,
            16,
            1,
        )
        .when("reversible == true")
        .search(Domain::categorical(counts).expect("not empty")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_every_position_once() {
        for (n, ff_chunks) in [(1, 1), (1, 4), (7, 3), (16, 16), (10, 4), (5, 4)] {
            let chunks: Vec<_> = Reversible { ff_chunks }.chunks(n).collect();
            assert!(chunks.len() <= ff_chunks && chunks[0].0 == 0 && chunks[chunks.len() - 1].1 == n);
            assert!(chunks.windows(2).all(|w| w[0].1 == w[1].0) && chunks.iter().all(|(a, b)| a < b));
        }
    }
}

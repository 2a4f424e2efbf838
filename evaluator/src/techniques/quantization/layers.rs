//! Bits of single layers, where they differ from the model's.

use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use super::BITS;
use crate::{
    model::{ModelPlan, layer_of},
    parameter::{Declared, Values, choice},
};

/// Layers whose bits can be chosen one by one.
pub(crate) const CHOSEN_LAYERS: usize = 8;
/// The value of a layer that has the bits of the model.
const SAME: u8 = 0;

/// Bits of each layer that can be chosen; [`SAME`] for those of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBits([u8; CHOSEN_LAYERS]);

/// The parameter of a layer, counted from 0.
pub(crate) fn name(layer: usize) -> String {
    format!("bits_layer_{}", layer + 1)
}

impl LayerBits {
    /// Reads the parameters, for a model of so many layers.
    ///
    /// # Errors
    /// A sentence where a layer is named that the model does not have.
    pub(super) fn read(values: Values, model: &ModelPlan) -> Result<Self, String> {
        let last = model.layers.len() - 1;
        let layers = 1 + model.place(last).layer;
        let mut all = [SAME; CHOSEN_LAYERS];
        for (layer, bits) in all.iter_mut().enumerate() {
            *bits = values.int(&name(layer)) as u8;
            if *bits != SAME && layer >= layers {
                return Err(format!(
                    "{} = {bits}, and the model has {layers} layers; use {0} = {SAME}",
                    name(layer)
                ));
            }
        }
        Ok(LayerBits(all))
    }

    /// One layer's, counted from 0.
    pub(super) fn of_one(layer: usize, bits: usize) -> Self {
        let mut all = [SAME; CHOSEN_LAYERS];
        all[layer] = bits as u8;
        LayerBits(all)
    }

    /// No layer packed.
    pub(super) fn none_packed() -> Self {
        LayerBits([32; CHOSEN_LAYERS])
    }

    /// Whether all layers have the bits of the model.
    pub fn is_same(&self) -> bool {
        self.0.iter().all(|bits| *bits == SAME)
    }

    /// The bits of a layer, counted from 0 in its half, where they differ.
    pub(super) fn of_layer(&self, layer: usize) -> Option<usize> {
        let bits = self.0.get(layer).copied().filter(|bits| *bits != SAME);
        bits.map(usize::from)
    }

    /// The same of the layer that a matrix of this path belongs to.
    pub(super) fn of_path(&self, path: &str) -> Option<usize> {
        self.of_layer(layer_of(path)?)
    }

    /// All bits that are asked for.
    pub(super) fn asked(&self) -> impl Iterator<Item = usize> + '_ {
        self.0
            .iter()
            .copied()
            .filter(|bits| *bits != SAME)
            .map(usize::from)
    }
}

/// The parameters.
pub(super) fn parameters() -> impl Iterator<Item = ParameterInfo> {
    let all: Vec<i64> = std::iter::once(i64::from(SAME)).chain(BITS).collect();
    let few = [8, 4, 3, 2].map(Value::Int);
    (0..CHOSEN_LAYERS).map(move |layer| {
        choice(
            &name(layer),
            "bits of a weight of this layer alone, 32 for none packed; 0 for those of the model",
            &all,
        )
        .unit("bits")
        .when("bits < 32")
        .search(Domain::categorical(few.to_vec()).expect("not empty"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_told_by_the_path_of_its_matrices() {
        let bits = LayerBits([0, 4, 0, 32, 0, 0, 0, 2]);
        let of = |path: &str| bits.of_path(path);
        assert_eq!(of("model.layers.1.mlp.up_proj"), Some(4));
        assert_eq!(of("model.encoder.layers.3.self_attn.q_proj"), Some(32));
        assert_eq!(of("model.layers.0.self_attn.q_proj"), None);
        assert_eq!(of("model.layers.17.self_attn.q_proj"), None);
        assert_eq!(of("model.embed_tokens"), None);
    }
}

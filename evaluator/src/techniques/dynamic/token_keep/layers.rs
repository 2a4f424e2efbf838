//! Shares of single layers, where they differ from the model's.

use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use crate::parameter::{Declared, Values, choice};

/// Layers whose share can be chosen one by one.
const CHOSEN_LAYERS: usize = 8;
/// The value of a layer that has the share of the model.
const SAME: f64 = 0.0;
/// Shares that a layer can pass on.
const SHARES: [f64; 10] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

/// The share of each layer that can be chosen; [`SAME`] for those of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerKeeps([f64; CHOSEN_LAYERS]);

/// The parameter of a layer, counted from 0.
fn name(layer: usize) -> String {
    format!("token_keep_layer_{}", layer + 1)
}

impl LayerKeeps {
    /// Reads the parameters, for a model of so many layers.
    ///
    /// # Errors
    /// A sentence where a layer is named that passes nothing on to a next one.
    pub(super) fn read(values: Values, layers: usize) -> Result<Self, String> {
        let mut all = [SAME; CHOSEN_LAYERS];
        for (layer, share) in all.iter_mut().enumerate() {
            *share = values.float(&name(layer));
            if *share != SAME && layer + 1 >= layers {
                return Err(format!(
                    "{} = {share}, and of {layers} layers the last passes no tokens on; use {0} = {SAME}",
                    name(layer)
                ));
            }
        }
        Ok(LayerKeeps(all))
    }

    /// Whether all layers have the share of the model.
    pub(crate) fn is_same(&self) -> bool {
        self.0.iter().all(|share| *share == SAME)
    }

    /// The share of a layer, counted from 0, where it differs.
    pub(super) fn of_layer(self, layer: usize) -> Option<f64> {
        self.0.get(layer).copied().filter(|share| *share != SAME)
    }
}

/// The parameters.
pub(super) fn parameters() -> impl Iterator<Item = ParameterInfo> {
    let all: Vec<f64> = [SAME].into_iter().chain(SHARES).collect();
    let few = [0.5, 0.7, 0.9, 1.0].map(Value::Float);
    (0..CHOSEN_LAYERS).map(move |layer| {
        choice(
            &name(layer),
            "share of a text's tokens that this layer passes on to the next; 0 for that of the model",
            &all,
        )
        .when("token_keep < 1")
        .search(Domain::categorical(few.to_vec()).expect("not empty"))
    })
}

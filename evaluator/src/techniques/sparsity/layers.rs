//! Shares of single layers, where they differ from the model's.

use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use crate::{
    model::ModelPlan,
    parameter::{Declared, Values, choice},
};

/// Layers whose share can be chosen one by one.
pub(crate) const CHOSEN_LAYERS: usize = 8;
/// The value of a layer that has the share of the model.
const SAME: f64 = 0.0;
/// The value of a layer of which nothing is removed.
pub const NONE: f64 = -1.0;
/// Shares that a layer can have.
const SHARES: [f64; 8] = [0.25, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95];

/// The share of each layer that can be chosen; [`SAME`] for those of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerShares([f64; CHOSEN_LAYERS]);

/// The parameter of a layer, counted from 0.
pub(crate) fn name(layer: usize) -> String {
    format!("sparsity_layer_{}", layer + 1)
}

impl LayerShares {
    /// Reads the parameters, for a model of so many layers.
    ///
    /// # Errors
    /// A sentence where a layer is named that the model does not have.
    pub(super) fn read(values: Values, model: &ModelPlan) -> Result<Self, String> {
        let last = model.layers.len() - 1;
        let layers = 1 + model.place(last).layer;
        let mut all = [SAME; CHOSEN_LAYERS];
        for (layer, share) in all.iter_mut().enumerate() {
            *share = values.float(&name(layer));
            if *share != SAME && layer >= layers {
                return Err(format!(
                    "{} = {share}, and the model has {layers} layers; use {0} = {SAME}",
                    name(layer)
                ));
            }
        }
        Ok(LayerShares(all))
    }

    /// One layer's, counted from 0.
    pub(super) fn of_one(layer: usize, share: f64) -> Self {
        let mut all = [SAME; CHOSEN_LAYERS];
        all[layer] = share;
        LayerShares(all)
    }

    /// Whether all layers have the share of the model.
    pub fn is_same(&self) -> bool {
        self.0.iter().all(|share| *share == SAME)
    }

    /// The share of a layer, counted from 0 in its half, where it differs.
    pub(super) fn of_layer(&self, layer: usize) -> Option<f64> {
        let share = self.0.get(layer).copied().filter(|share| *share != SAME);
        share.map(|share| share.max(0.0))
    }

    /// The shares of which a part is removed.
    pub(super) fn part(&self, progress: f64) -> Self {
        let part = |share: f64| if share > 0.0 { share * progress } else { share };
        LayerShares(self.0.map(part))
    }

    /// All shares that are asked for and remove something.
    pub(super) fn asked(&self) -> impl Iterator<Item = f64> + '_ {
        self.0.iter().copied().filter(|share| *share > 0.0)
    }
}

/// The parameters.
pub(super) fn parameters() -> impl Iterator<Item = ParameterInfo> {
    let all: Vec<f64> = [SAME, NONE].into_iter().chain(SHARES).collect();
    let few = [NONE, 0.5, 0.75, 0.9].map(Value::Float);
    (0..CHOSEN_LAYERS).map(move |layer| {
        choice(
            &name(layer),
            "share of single weights of this layer's matrices removed, -1 for none; 0 for that of the model",
            &all,
        )
        .when("sparsity > 0")
        .search(Domain::categorical(few.to_vec()).expect("not empty"))
    })
}

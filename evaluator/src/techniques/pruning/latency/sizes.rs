//! Which sizes a layer can have.

use serde::{Deserialize, Serialize};

use crate::{
    model::{LayerPlan, ModelPlan},
    techniques::feed_forward::HIDDEN_MULTIPLE,
};

/// Sizes of a structure that are tried, at most.
const STEPS: usize = 8;

/// What one layer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSize {
    /// Neurons of its feed-forward part, or of each expert.
    pub neurons: usize,
    /// Key/value heads, each with its query heads.
    pub kv_heads: usize,
}

/// What a layer has a number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Structure {
    /// Key/value heads, each with its query heads.
    Heads,
    /// Neurons of the feed-forward part, or of each expert.
    Neurons,
}

impl Structure {
    pub(super) const ALL: [Structure; 2] = [Structure::Heads, Structure::Neurons];

    /// The sizes that are tried of a layer, the smallest first and its own last.
    pub(super) fn sizes(self, layer: &LayerPlan) -> Vec<usize> {
        let (whole, multiple) = match self {
            Structure::Heads => (layer.attention.kv_heads, 1),
            Structure::Neurons => (layer.feed_forward.hidden(), HIDDEN_MULTIPLE),
        };
        let size = |k: usize| (k * whole).div_ceil(STEPS).next_multiple_of(multiple).min(whole);
        let mut sizes: Vec<usize> = (1..=STEPS).map(size).collect();
        sizes.dedup();
        sizes
    }

    /// Cuts a layer to a size.
    pub(super) fn cut(self, layer: &mut LayerPlan, keep: usize) {
        match self {
            Structure::Heads => {
                let share = layer.attention.share();
                layer.attention.kv_heads = keep;
                layer.attention.heads = keep * share;
            }
            Structure::Neurons => layer.feed_forward = layer.feed_forward.with_hidden(keep),
        }
    }
}

/// A structure of layers that are alike, and its sizes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) layers: Vec<usize>,
    pub(super) structure: Structure,
    pub(super) sizes: Vec<usize>,
}

/// What can be cut in a model.
pub(super) fn parts(plan: &ModelPlan) -> Vec<Part> {
    let mut alike: Vec<Vec<usize>> = vec![];
    for (i, layer) in plan.layers.iter().enumerate() {
        match alike.iter_mut().find(|group| plan.layers[group[0]] == *layer) {
            Some(group) => group.push(i),
            None => alike.push(vec![i]),
        }
    }
    let mut parts = vec![];
    for layers in alike {
        for structure in Structure::ALL {
            let sizes = structure.sizes(&plan.layers[layers[0]]);
            if sizes.len() > 1 {
                parts.push(Part {
                    layers: layers.clone(),
                    structure,
                    sizes,
                });
            }
        }
    }
    parts
}

/// Gives the layers of a plan these sizes.
pub fn give(plan: &mut ModelPlan, sizes: &[LayerSize]) {
    for (layer, size) in plan.layers.iter_mut().zip(sizes) {
        Structure::Heads.cut(layer, size.kv_heads);
        Structure::Neurons.cut(layer, size.neurons);
    }
}

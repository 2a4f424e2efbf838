//! How much each structure matters.

use burn::tensor::{Tensor, backend::Backend};

use crate::{
    model::{Attention, Model},
    techniques::feed_forward::Gated,
};

/// Importance of every layer's structures.
#[derive(Clone, Debug, Default)]
pub struct Importance {
    /// One entry for each block.
    pub layers: Vec<LayerImportance>,
}

/// Importance of one block and of its structures; empty where none are removed.
#[derive(Clone, Debug, Default)]
pub struct LayerImportance {
    /// Of each neuron, for each network (one, or one for each expert).
    pub neurons: Vec<Vec<f32>>,
    /// Of each key/value head with its query heads.
    pub heads: Vec<f32>,
    /// The same of the attention to what another half has read; empty where there is none.
    pub cross_heads: Vec<f32>,
    /// Of the block itself; 0 where none is removed.
    pub influence: f32,
}

/// Importance in every block, by how an attention's heads and a network's neurons are scored.
pub(super) fn of_blocks<B: Backend>(
    model: &mut Model<B>,
    heads: impl Fn(&Attention<B>) -> Vec<f32>,
    neurons: impl Fn(&Gated<B>) -> Vec<f32>,
) -> Importance {
    let layers = model.blocks.iter_mut().map(|block| LayerImportance {
        heads: heads(&block.attention),
        cross_heads: block
            .cross
            .as_ref()
            .map_or_else(Vec::new, |cross| heads(&cross.attention)),
        neurons: block
            .feed_forward
            .networks_mut()
            .into_iter()
            .map(|network| neurons(network))
            .collect(),
        influence: 0.0,
    });
    Importance {
        layers: layers.collect(),
    }
}

/// The `keep` most important, in their old order; the earlier one where two are equal.
pub(super) fn most_important(scores: &[f32], keep: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    order.truncate(keep);
    order.sort_unstable();
    order
}

/// Column sums of `[rows, columns]` on the host.
pub(super) fn column_sums<B: Backend>(x: Tensor<B, 2>) -> Vec<f32> {
    x.sum_dim(0).into_data().iter::<f32>().collect()
}

/// Sums over runs of `width` columns.
pub(super) fn runs(columns: &[f32], width: usize) -> impl Iterator<Item = f32> + '_ {
    columns.chunks(width).map(|run| run.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_important_stay_in_order() {
        assert_eq!(most_important(&[0.1, 3.0, 2.0, 3.0, 0.0], 3), [1, 2, 3]);
        assert_eq!(most_important(&[1.0, 1.0, 1.0], 2), [0, 1]);
        assert_eq!(runs(&[1.0, 2.0, 3.0, 4.0], 2).collect::<Vec<_>>(), [3.0, 7.0]);
    }
}

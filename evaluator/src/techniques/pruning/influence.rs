//! Which blocks to remove: those that turn the residual stream least (`ShortGPT`, 2403.03853).
//!
//! A block's influence is `BI = 1 − E cos(x_in, x_out)` over the tokens of training data. Blocks are watched, the model reads
//! some batches, and each block has its sum.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Tensor, backend::Backend};

use super::{About, Watched, watched::without_padding};
use crate::{model::Model, ops::Lengths, training::IntoF32};

pub(super) const ABOUT: About = About {
    name: "block_influence",
    doc: "whole blocks are removed, those first that turn the residual stream least (layer_prune_ratio)",
    paper: "2403.03853",
};

/// The counter that is above zero once blocks were removed.
pub(crate) const ACTIVITY: &str = "removed_layers";

/// Keeps a product of norms from being zero.
const LEAST: f32 = 1e-12;

/// How far one block turned the stream so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cosines(Arc<Mutex<Sums>>);

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    cosines: f64,
    tokens: f64,
}

impl Cosines {
    /// Takes in the stream before and after the block, each `[b, n, width]`.
    pub(super) fn see<B: Backend>(
        &self,
        before: Tensor<B, 3>,
        after: Tensor<B, 3>,
        lengths: Option<&Lengths>,
    ) {
        let [b, n, _] = before.dims();
        let norm = |x: &Tensor<B, 3>| x.clone().square().sum_dim(2).sqrt();
        let norms = (norm(&before) * norm(&after)).clamp_min(LEAST);
        let cosines = without_padding((before * after).sum_dim(2) / norms, lengths);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.cosines += f64::from(cosines.sum().into_scalar_f32());
        seen.tokens += lengths.map_or(b * n, |lengths| lengths.iter().sum()) as f64;
    }

    fn influence(&self) -> f32 {
        let Sums { cosines, tokens } = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (1.0 - cosines / tokens) as f32
    }
}

/// Has every block watched from now on.
pub(super) fn watch<B: Backend>(model: &mut Model<B>) {
    for block in &mut model.blocks {
        block.watched = Some(Watched::Influence(Cosines::default()));
    }
}

/// The influence of every block, from what was seen since it is watched.
pub(super) fn influences<B: Backend>(model: &Model<B>) -> Vec<f32> {
    let watched = model.blocks.iter().filter_map(|block| match &block.watched {
        Some(Watched::Influence(cosines)) => Some(cosines.influence()),
        _ => None,
    });
    watched.collect()
}

#[cfg(test)]
mod tests {
    use burn::{backend::Flex, tensor::TensorData};

    use super::*;

    #[test]
    fn influence_is_one_less_the_mean_cosine_of_tokens_that_are_there() {
        let stream = |values: [[f32; 2]; 4]| {
            let data = TensorData::new(values.concat(), [2, 2, 2]);
            Tensor::<Flex, 3>::from_data(data, &Default::default())
        };
        let before = stream([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0], [1.0, 1.0]]);
        // cosines 1, 0, -1, and 1 of what is padding
        let after = stream([[5.0, 0.0], [1.0, 0.0], [-3.0, -4.0], [2.0, 2.0]]);
        let all = Cosines::default();
        all.see(before.clone(), after.clone(), None);
        assert!((all.influence() - 0.75).abs() < 1e-6, "{}", all.influence());
        let present = Cosines::default();
        present.see(before, after, Some(&Lengths::new(vec![2, 1])));
        assert!(
            (present.influence() - 1.0).abs() < 1e-6,
            "{}",
            present.influence()
        );
    }
}

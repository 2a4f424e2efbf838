//! Importance by what structures put out on training data (2407.14679): of a neuron the mean of `|a|`, of heads the mean L1 norm
//! of their outputs before the output projection.

use burn::tensor::backend::Backend;

use super::{
    About, Importance,
    importance::{of_blocks, runs},
};
use crate::{
    model::{Attention, Matrix, Model},
    techniques::calibration::{Sums, seen, tap},
};

pub(super) const ABOUT: About = About {
    name: "activation",
    doc: "structures that put out least on training data go first",
    paper: "2407.14679",
};

/// Has every structure's outputs summed up from now on.
pub(super) fn watch<B: Backend>(model: &mut Model<B>) {
    for block in &mut model.blocks {
        tap(&mut block.attention.output, Sums::Sizes);
        if let Some(cross) = &mut block.cross {
            tap(&mut cross.attention.output, Sums::Sizes);
        }
        for network in block.feed_forward.networks_mut() {
            tap(&mut network.down, Sums::Sizes);
        }
    }
}

/// Importance of every structure of a watched model whose heads have `depth` components.
pub(super) fn importance<B: Backend>(model: &mut Model<B>, depth: usize, share: usize) -> Importance {
    let heads = |attention: &Attention<B>| runs(&sizes(&attention.output), depth * share).collect();
    of_blocks(model, heads, |network| sizes(&network.down))
}

/// The mean size of each input; zeros where nothing came, as for an expert that got no token.
fn sizes<B: Backend>(matrix: &Matrix<B>) -> Vec<f32> {
    match seen(matrix) {
        Some(seen) => {
            let mean = |sum: &f64| (sum / seen.rows as f64) as f32;
            seen.absolute.iter().map(mean).collect()
        }
        None => vec![0.0; matrix.dims()[1]],
    }
}

//! Importance by the first-order change of the loss (1905.10650, 1611.06440): `E |Σ a ∂L/∂a|` over batches.
//!
//! For an output column of a linear map, `Σ_tokens a ∂L/∂a = Σ_rows w ∂L/∂w`, so the weights' gradients tell it
//! without keeping activations: of the down projection for neurons, of the output projection for heads.

use burn::tensor::{Tensor, backend::AutodiffBackend};

use super::{
    About, Importance,
    importance::{column_sums, of_blocks, runs},
};
use crate::model::{Attention, Matrix, Model};

pub(super) const ABOUT: About = About {
    name: "taylor",
    doc: "structures whose removal changes the loss least, to first order, go first",
    paper: "1905.10650, 1611.06440",
};

/// Adds one batch's importance, from the gradients of its loss, to what earlier batches gave.
pub(super) fn add_batch<A: AutodiffBackend>(
    sum: Option<Importance>,
    model: &mut Model<A>,
    gradients: &A::Gradients,
    depth: usize,
    share: usize,
) -> Importance {
    let heads = |attention: &Attention<A>| {
        let columns = change(&attention.output, gradients);
        runs(&columns, depth * share).map(f32::abs).collect()
    };
    let batch = of_blocks(model, heads, |network| {
        let columns = change(&network.down, gradients);
        columns.into_iter().map(f32::abs).collect()
    });
    match sum {
        None => batch,
        Some(mut sum) => {
            for (layer, more) in sum.layers.iter_mut().zip(&batch.layers) {
                add(&mut layer.heads, &more.heads);
                add(&mut layer.cross_heads, &more.cross_heads);
                for (network, more) in layer.neurons.iter_mut().zip(&more.neurons) {
                    add(network, more);
                }
            }
            sum
        }
    }
}

fn add(sum: &mut [f32], more: &[f32]) {
    for (s, m) in sum.iter_mut().zip(more) {
        *s += m;
    }
}

/// `Σ_rows w ∂L/∂w` of each column; zeros where no gradient came, as for an expert that got no token.
fn change<A: AutodiffBackend>(matrix: &Matrix<A>, gradients: &A::Gradients) -> Vec<f32> {
    let [_, columns] = matrix.dims();
    let product = matrix.as_dense().and_then(|w| {
        let gradient: Tensor<A::InnerBackend, 2> = w.grad(gradients)?;
        Some(column_sums(w.inner() * gradient))
    });
    product.unwrap_or_else(|| vec![0.0; columns])
}

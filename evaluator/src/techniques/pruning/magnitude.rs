//! Importance by the size of weights: the Euclidean norm of everything that belongs to a structure.

use burn::tensor::backend::Backend;

use super::{
    About, Importance,
    importance::{column_sums, of_blocks, runs},
};
use crate::model::{Attention, Matrix, Model};

pub(super) const ABOUT: About = About {
    name: "magnitude",
    doc: "structures with the smallest weights go first",
    paper: "1608.08710",
};

/// Importance of every structure of a dense model whose heads have `depth` components.
pub(super) fn importance<B: Backend>(model: &mut Model<B>, depth: usize, share: usize) -> Importance {
    let heads = |attention: &Attention<B>| {
        let columns = incoming(&attention.output);
        runs(&columns, depth * share).map(f32::sqrt).collect()
    };
    of_blocks(model, heads, |network| {
        let parts = [
            outgoing(&network.gate),
            outgoing(&network.up),
            incoming(&network.down),
        ];
        (0..parts[0].len())
            .map(|i| parts.iter().map(|p| p[i]).sum::<f32>().sqrt())
            .collect()
    })
}

/// Squared norm of each column.
fn incoming<B: Backend>(matrix: &Matrix<B>) -> Vec<f32> {
    matrix
        .as_dense()
        .map_or_else(Vec::new, |w| column_sums(w.square()))
}

/// Squared norm of each row.
fn outgoing<B: Backend>(matrix: &Matrix<B>) -> Vec<f32> {
    matrix
        .as_dense()
        .map_or_else(Vec::new, |w| column_sums(w.square().transpose()))
}

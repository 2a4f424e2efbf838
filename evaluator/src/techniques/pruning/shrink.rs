//! Removing structures: rows and columns are cut out, so every tensor, product and cache becomes smaller.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use super::{Importance, importance::most_important};
use crate::{
    counter,
    model::{Matrix, Model, ModelPlan},
    techniques::attention::Heads,
};

/// Cuts the model down to `plan`, keeping the most important structures of each layer.
pub fn shrink<B: Backend>(model: &mut Model<B>, plan: &ModelPlan, importance: &Importance) {
    let layers = model.blocks.iter_mut().zip(&plan.layers).zip(&importance.layers);
    for (i, ((block, layer), scores)) in layers.enumerate() {
        let (depth, share) = (layer.attention.depth, layer.attention.share());
        let groups = most_important(&scores.heads, layer.attention.kv_heads);
        counter::add_activity("pruned_heads", (scores.heads.len() - groups.len()) * share);
        let queries = components(&groups, depth * share);
        let keys = components(&groups, depth);
        let attention = &mut block.attention;
        select(&mut attention.query, 0, &queries);
        if let Some(key) = &mut attention.key {
            select(key, 0, &keys);
        }
        select(&mut attention.value, 0, &keys);
        select(&mut attention.output, 1, &queries);
        for (own, weight) in attention.own.iter_mut().zip(layer.attention.own(plan.place(i))) {
            let (dim, kept) = match weight.heads {
                Heads::None => continue,
                Heads::Rows => (0, weight.shape[0]),
                Heads::Columns => (1, weight.shape[1]),
            };
            let each = kept / layer.attention.kv_heads;
            select(own, dim, &components(&groups, each));
        }
        for (network, scores) in block.feed_forward.networks_mut().into_iter().zip(&scores.neurons) {
            let neurons = most_important(scores, layer.feed_forward.hidden());
            counter::add_activity("pruned_neurons", scores.len() - neurons.len());
            select(&mut network.gate, 0, &neurons);
            select(&mut network.up, 0, &neurons);
            select(&mut network.down, 1, &neurons);
        }
    }
}

/// The components of each kept structure of the given width.
fn components(kept: &[usize], width: usize) -> Vec<usize> {
    kept.iter().flat_map(|k| k * width..(k + 1) * width).collect()
}

fn select<B: Backend>(matrix: &mut Matrix<B>, dim: usize, kept: &[usize]) {
    if let Some(weight) = matrix.as_dense() {
        if weight.dims()[dim] == kept.len() {
            return;
        }
        let numbers: Vec<i32> = kept.iter().map(|k| *k as i32).collect();
        let kept = Tensor::<B, 1, Int>::from_data(TensorData::new(numbers, [kept.len()]), &weight.device());
        *matrix = Matrix::dense(weight.select(dim, kept).detach());
    }
}

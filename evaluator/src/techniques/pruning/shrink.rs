//! Removing structures: blocks are taken out, rows and columns are cut out, so every tensor, product and cache becomes smaller.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use super::{Importance, LayerImportance, importance::most_important, influence};
use crate::{
    counter,
    model::{Attention, AttentionPlan, Block, LayerPlan, Matrix, Model, ModelPlan},
    ops::Ops,
    techniques::attention::{Heads, Place},
};

/// Cuts the model down to `plan`, keeping the blocks of most influence and the most important structures of each. Gives the
/// numbers of the blocks that stay.
pub fn shrink<B: Ops>(model: &mut Model<B>, plan: &ModelPlan, importance: &Importance) -> Vec<usize> {
    let kept = kept_blocks(model, plan, importance);
    if kept.len() < model.blocks.len() {
        counter::add_activity(influence::ACTIVITY, model.blocks.len() - kept.len());
        model.keep_blocks(&kept, plan);
    }
    let scores = kept.iter().map(|i| &importance.layers[*i]);
    let layers = model.blocks.iter_mut().zip(&plan.layers).zip(scores);
    let mut removed = [0, 0];
    for (i, ((block, layer), scores)) in layers.enumerate() {
        let [neurons, heads] = cut_block(block, layer, scores, plan.place(i));
        removed = [removed[0] + neurons, removed[1] + heads];
    }
    for (name, n) in ["pruned_neurons", "pruned_heads"].iter().zip(removed) {
        counter::add_activity(name, n);
    }
    kept
}

/// Cuts a block down to its plan. Gives the numbers of neurons and of query heads that are gone.
pub(super) fn cut_block<B: Ops>(
    block: &mut Block<B>,
    plan: &LayerPlan,
    scores: &LayerImportance,
    place: Place,
) -> [usize; 2] {
    let mut heads = cut_heads(&mut block.attention, &plan.attention, &scores.heads, place);
    if let (Some(cross), Some(plan)) = (&mut block.cross, &plan.cross) {
        heads += cut_heads(&mut cross.attention, plan, &scores.cross_heads, place);
    }
    let mut removed = 0;
    for (network, scores) in block.feed_forward.networks_mut().into_iter().zip(&scores.neurons) {
        let neurons = most_important(scores, plan.feed_forward.hidden());
        removed += scores.len() - neurons.len();
        select(&mut network.gate, 0, &neurons);
        select(&mut network.up, 0, &neurons);
        select(&mut network.down, 1, &neurons);
    }
    [removed, heads]
}

/// The numbers of the blocks that stay, from 0: of each half as many as it has in `plan`.
fn kept_blocks<B: Ops>(model: &Model<B>, plan: &ModelPlan, importance: &Importance) -> Vec<usize> {
    let influences: Vec<f32> = importance.layers.iter().map(|layer| layer.influence).collect();
    let (reading, writing) = influences.split_at(model.reading());
    let mut kept = most_important(reading, plan.kind.reading());
    let of_writing = most_important(writing, plan.layers.len() - plan.kind.reading());
    kept.extend(of_writing.iter().map(|i| reading.len() + i));
    kept
}

/// Cuts an attention down to its plan, keeping the most important heads. Gives the number of query heads that are gone.
fn cut_heads<B: Backend>(
    attention: &mut Attention<B>,
    plan: &AttentionPlan,
    scores: &[f32],
    place: Place,
) -> usize {
    if scores.len() <= plan.kv_heads {
        return 0;
    }
    let (depth, share) = (plan.depth, plan.share());
    let groups = most_important(scores, plan.kv_heads);
    let queries = components(&groups, depth * share);
    let keys = components(&groups, depth);
    select(&mut attention.query, 0, &queries);
    if let Some(key) = &mut attention.key {
        select(key, 0, &keys);
    }
    select(&mut attention.value, 0, &keys);
    select(&mut attention.output, 1, &queries);
    for (own, weight) in attention.own.iter_mut().zip(plan.own(place)) {
        let (dim, kept) = match weight.heads {
            Heads::None => continue,
            Heads::Rows => (0, weight.shape[0]),
            Heads::Columns => (1, weight.shape[1]),
        };
        let each = kept / plan.kv_heads;
        select(own, dim, &components(&groups, each));
    }
    (scores.len() - groups.len()) * share
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

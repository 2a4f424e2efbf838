//! A narrower residual stream (`SliceGPT`, 2401.15024): it is turned into its principal components on training data, and the
//! smallest are cut off.
//!
//! All blocks share one basis, found on the normalised streams between them; with one for each, as in the paper, every block
//! would carry two more matrices `[width, width]` to turn its residual connections. What turning does to weights is in
//! `model/rotate.rs`.

use std::sync::{Arc, Mutex, PoisonError};

use burn::{
    module::AutodiffModule,
    tensor::{Tensor, TensorData, backend::AutodiffBackend},
};

use super::{
    About, Watched, eigen,
    judge::{BATCHES, read},
    watched::without_padding,
};
use crate::{
    counter,
    model::{Basis, Kind, Model, ModelPlan, NORM_EPSILON},
    ops::{Lengths, Ops, rms_norm},
    techniques::{calibration::InputStatistics, feed_forward::FeedForwardPlan},
    training::Batches,
};

pub(super) const ABOUT: About = About {
    name: "slicegpt",
    doc: "the residual stream is turned into its principal components, and the smallest are cut off (width_prune_ratio)",
    paper: "2401.15024",
};

/// The counter that is above zero once components were cut off.
pub(crate) const ACTIVITY: &str = "sliced_components";

/// Components come in multiples of this, so that rows of weights fill vector registers.
const MULTIPLE: usize = 8;

/// The second moment of the normalised stream after a block, and before it where it is the first one.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    seen: Arc<Mutex<InputStatistics>>,
    is_first: bool,
}

impl Spread {
    pub(super) fn see<B: Ops>(&self, before: Tensor<B, 3>, after: Tensor<B, 3>, lengths: Option<&Lengths>) {
        for stream in self.is_first.then_some(before).into_iter().chain([after]) {
            let [b, n, width] = stream.dims();
            let ones = Tensor::ones([width], &stream.device());
            let normal = rms_norm(stream, ones, NORM_EPSILON as f32);
            let rows = without_padding(normal, lengths).reshape([b * n, width]);
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.add(rows);
        }
    }
}

/// Makes a plan narrower by a share of its width.
pub(super) fn narrow(plan: &mut ModelPlan, ratio: f64) -> Result<(), String> {
    let asked = format!("width_prune_ratio = {ratio}");
    if plan.reversible.is_some() {
        return Err(format!(
            "{asked} turns the residual stream into other components, and reversible = true rounds each of them; use width_prune_ratio = 0 or reversible = false"
        ));
    }
    if matches!(plan.kind, Kind::DualEncoder(_)) {
        return Err(format!(
            "{asked} turns the residual stream into other components, and kind 'dual_encoder' multiplies two texts' one by one; use width_prune_ratio = 0 or another kind"
        ));
    }
    let of_blocks = plan.layers.iter().find_map(|layer| {
        let mixes = matches!(layer.feed_forward, FeedForwardPlan::ChannelMix { .. });
        let named = layer
            .attention
            .core
            .weighs_components()
            .then(|| layer.attention.core.name());
        named.or(mixes.then_some("channel_mix"))
    });
    if let Some(name) = of_blocks {
        return Err(format!(
            "{asked} turns the residual stream into other components, and {name} has a weight for each of them; use width_prune_ratio = 0, or other attentions than 'rwkv' and feed_forward = 'gated'"
        ));
    }
    if plan.layers.iter().any(|layer| layer.adapters.is_some()) {
        return Err(format!(
            "{asked} turns the residual stream into other components, and adapters beside it are not turned; use width_prune_ratio = 0 or another fine_tune"
        ));
    }
    if plan.rotated {
        return Err(format!(
            "{asked} slices a base that was sliced before; use width_prune_ratio = 0 or the base it was made from"
        ));
    }
    let (width, largest) = (plan.width, (plan.width - 1) / MULTIPLE * MULTIPLE);
    let kept = (width - (ratio * width as f64 + 1e-9).floor() as usize).next_multiple_of(MULTIPLE);
    if largest == 0 {
        return Err(format!(
            "{asked} cannot make width {width} smaller, since components come in multiples of {MULTIPLE}; use width_prune_ratio = 0"
        ));
    }
    if kept >= width {
        return Err(format!(
            "{asked} removes none of width {width}, since components come in multiples of {MULTIPLE}; use 0 or at least {:.3}",
            (width - largest) as f64 / width as f64
        ));
    }
    plan.width = kept;
    // a head of its own takes in the scale of the norm before it, one that is the embedding cannot
    plan.rotated = plan.kind.writes();
    Ok(())
}

/// Multiply-adds to slice a model to `kept` components on batches of `batch` examples of `n` tokens a row.
pub(super) fn macs(plan: &ModelPlan, kept: usize, batch: usize, n: usize) -> u64 {
    let (width, kept, rows) = (plan.width as u64, kept as u64, batch * plan.kind.form().texts());
    let after: usize = (0..plan.layers.len()).map(|layer| plan.seen(layer, n)).sum();
    let firsts = first_blocks(plan.kind)
        .into_iter()
        .map(|layer| plan.seen(layer, n));
    let seen = (rows * (after + firsts.sum::<usize>())) as u64;
    let heads = if plan.kind.writes() { kept } else { 0 };
    BATCHES * (plan.forward_macs(batch, n) + seen * width * width)
        + eigen::macs(plan.width)
        + kept * (plan.matrices_on_stream() + heads * width)
}

/// The first block of each half.
fn first_blocks(kind: Kind) -> Vec<usize> {
    match kind.reading() {
        0 => vec![0],
        reading => vec![0, reading],
    }
}

/// Turns the residual stream of a model into its principal components on batches of training data, and keeps as many of them
/// as `plan` is wide.
pub fn slice<A>(model: &mut Model<A>, plan: &ModelPlan, batches: &Batches)
where
    A: AutodiffBackend + Ops,
    A::InnerBackend: Ops,
{
    let mut reader = model.valid();
    let seen = Arc::new(Mutex::new(InputStatistics::default()));
    let firsts = first_blocks(plan.kind);
    for (i, block) in reader.blocks.iter_mut().enumerate() {
        block.watched = Some(Watched::Spread(Spread {
            seen: seen.clone(),
            is_first: firsts.contains(&i),
        }));
    }
    read(&reader, batches);
    let moment = std::mem::take(&mut seen.lock().unwrap_or_else(PoisonError::into_inner).second_moment);
    let width = model.embedding.dims()[1];
    let mut directions = eigen::eigenvectors(moment, width);
    directions.truncate(plan.width);
    counter::add_activity(ACTIVITY, width - plan.width);
    let rows: Vec<f32> = directions.concat().into_iter().map(|x| x as f32).collect();
    let rows = Tensor::from_data(TensorData::new(rows, [plan.width, width]), &model.device());
    model.rotate(&Basis::new(rows), plan);
}

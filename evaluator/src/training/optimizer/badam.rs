//! `BAdam` (2404.02827): `AdamW` of one block at a time. The others are frozen and remembered nothing of: their matrices have no
//! gradient's product, and nothing goes back below the block that is trained.
//!
//! Blocks are those of the model, from the first to the last, and one of all that is outside them: embedding, head, last norm.
//! Each is trained for some steps, with running means that start at nothing, and then the next one, over and over.

use burn::tensor::backend::AutodiffBackend;

use super::{Optimizer, choose_trained, rule::BADAM_ACTIVITY};
use crate::{
    counter,
    model::{Model, ModelPlan, Trainable},
    ops::Ops,
};

/// What is trained after so many steps, of a model of `layers`.
fn part(step: u64, block_steps: u64, layers: usize) -> Trainable {
    match (step / block_steps) as usize % (layers + 1) {
        block if block < layers => Trainable::OneBlock(block),
        _ => Trainable::Others,
    }
}

/// Multiply-adds of a training of `steps` of `batch` examples of `n` tokens a row.
pub(super) fn macs(model: &ModelPlan, block_steps: u64, steps: u64, [batch, n]: [usize; 2]) -> u64 {
    let parts = model.layers.len() as u64 + 1;
    let (rounds, left) = (steps / (parts * block_steps), steps % (parts * block_steps));
    let of_part = |i: u64| {
        let trainable = part(i * block_steps, block_steps, model.layers.len());
        let steps = rounds * block_steps + left.saturating_sub(i * block_steps).min(block_steps);
        steps * model.training_pass(batch, n, trainable).total()
    };
    (0..parts).map(of_part).sum()
}

/// Before a step: freezes all but the block that is trained, and forgets the one before.
pub(in crate::training) fn begin_step<A>(
    model: &mut Model<A>,
    optimizer: &mut Optimizer<A::InnerBackend>,
    step: u64,
    block_steps: u64,
) where
    A: AutodiffBackend + Ops,
    A::InnerBackend: Ops,
{
    if step.is_multiple_of(block_steps) {
        optimizer.forget();
        counter::add_activity(BADAM_ACTIVITY, 1);
    }
    let paths: Vec<String> = (0..model.blocks.len())
        .map(|block| format!("{}.", model.block_path(block)))
        .collect();
    let part = part(step, block_steps, paths.len());
    choose_trained(model, |name| match part {
        Trainable::OneBlock(block) => name.starts_with(&paths[block]),
        _ => !paths.iter().any(|path| name.starts_with(path)),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_steps_in_turn() {
        let parts: Vec<Trainable> = (0..10).map(|step| part(step, 2, 2)).collect();
        let (a, b, c) = (Trainable::OneBlock(0), Trainable::OneBlock(1), Trainable::Others);
        assert_eq!(parts, [a, a, b, b, c, c, a, a, b, b]);
    }
}

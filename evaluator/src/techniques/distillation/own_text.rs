//! Texts that a student has written itself (`MiniLLM`, 2306.08543): it is told what its teacher thinks of the places that it
//! comes to when it is on its own, not only of those that the data leads to.
//!
//! In a share of the steps a student is given the first half of each row and writes the rest, by its own distribution at
//! temperature 1, with the memory that serves. Of what it wrote the teacher's loss is taken, at every place from which it wrote
//! on or would have, over the whole vocabulary; the data has no say in such a step, as it has no next token for such a text.
//! Of the gradient of `KL(p_S ‖ p_T)` over whole texts this is the single-step part (its eq. 4), exactly. The part that follows
//! from how a token changes all later ones, a policy gradient of high variance, is left out: texts are taken as given.

use burn::tensor::{Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use spaces::{Domain, ParameterInfo};

use crate::{
    counter,
    data::Batch,
    decoding::Laws,
    model::{Model, ModelPlan},
    ops::Ops,
    parameter::{Declared, float},
};

/// The counter of tokens that students have written.
pub(crate) const ACTIVITY: &str = "own_text_tokens";

pub(super) const NAME: &str = "distill_own_text";

/// Told apart from what else is drawn by a training's seed.
const CHANCE: u64 = 0x6f77_6e5f_7465_7874;

/// The parameter.
pub(super) fn parameter() -> ParameterInfo {
    float(
        NAME,
        "share of the steps in which a decoder learns from what its teacher says of texts that it has written itself (2306.08543)",
        0.0,
        1.0,
        0.0,
    )
    .when("distill in ['logits', 'reverse_kl']")
    .search(Domain::float(0.0, 1.0, false, None).expect("not empty"))
}

/// How many of the first `steps` are of own texts: where it is above 0, the first one is.
pub(super) fn steps(share: f64, steps: u64) -> u64 {
    (share * steps as f64).ceil() as u64
}

/// Whether this step, from 0, is.
pub(super) fn is_own(share: f64, step: u64) -> bool {
    steps(share, step + 1) > steps(share, step)
}

/// Tokens of a row of `n` that are the data's.
pub(super) fn prompt(n: usize) -> usize {
    n.div_ceil(2)
}

/// Multiply-adds to write `batch` rows of `n` tokens. The last token of a row is written and read by no memory.
pub(super) fn macs(student: &ModelPlan, batch: usize, n: usize) -> u64 {
    let prompt = prompt(n);
    if prompt == n {
        return 0;
    }
    // what will be stored sparse is dense while it learns
    let student = &ModelPlan {
        sparsity: None,
        ..student.clone()
    };
    let written = (prompt..n - 1).map(|position| student.batch_decoding_macs(batch, position));
    student.prompt_macs(batch, prompt) + written.sum::<u64>()
}

/// The batch with rows that a student has written on; scored are the places after which it wrote or would have.
pub(super) fn write<B: Ops>(
    student: &Model<B>,
    plan: &ModelPlan,
    mut batch: Batch,
    [seed, step]: [u64; 2],
) -> Batch {
    let (rows, n) = (batch.batch, batch.context);
    let prompt = prompt(n);
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ CHANCE);
    random.set_stream(step);
    let mut memory = student.memory(plan, rows, n);
    let mut unread: Vec<i32> = batch
        .inputs
        .chunks(n)
        .flat_map(|row| &row[..prompt])
        .map(|token| *token as i32)
        .collect();
    for at in prompt..n {
        let length = unread.len() / rows;
        let tokens = Tensor::from_data(TensorData::new(unread.clone(), [rows, length]), &student.device());
        let laws = Laws::read(student.extend(tokens, &mut memory), 1.0);
        unread.clear();
        for row in 0..rows {
            let token = laws.at(row).draw(&mut random);
            batch.inputs[row * n + at] = token;
            unread.push(token as i32);
        }
    }
    counter::add_activity(ACTIVITY, rows * (n - prompt));
    for row in batch.targets.chunks_mut(n) {
        for (at, target) in row.iter_mut().enumerate() {
            *target = if at + 1 < prompt { -1 } else { 0 };
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_own_texts_is_spread_over_the_steps() {
        for (share, of_ten) in [(0.0, 0), (0.05, 1), (0.3, 3), (0.5, 5), (1.0, 10)] {
            let own: Vec<bool> = (0..10).map(|step| is_own(share, step)).collect();
            assert_eq!(own.iter().filter(|own| **own).count(), of_ten, "{share}");
            assert_eq!(steps(share, 10), of_ten as u64);
            assert_eq!(own[0], share > 0.0);
        }
        for share in [0.1, 0.29, 1.0 / 3.0, 0.7] {
            for all in [1, 7, 100, 12_345] {
                let own = (0..all).filter(|step| is_own(share, *step)).count();
                assert_eq!(own as u64, steps(share, all), "{share} of {all}");
            }
        }
    }
}

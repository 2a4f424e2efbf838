//! Models of two halves: one reads, and the other one writes while it looks at what was read.

use burn::tensor::{Int, Tensor, backend::Backend};

use super::{
    Forward, Inputs, Memory, Model, NORM_EPSILON, Stream,
    attention::{Angles, Sight},
    cross::Source,
    whole::Entered,
};
use crate::ops::{Ops, rms_norm};

impl<B: Ops> Model<B> {
    /// What the half that reads makes of its inputs, and the sum of its routers' losses.
    fn source(&self, inputs: Inputs<B>) -> (Source<B>, Option<Tensor<B, 1>>) {
        let Entered { x, angles, lengths } = self.enter(inputs);
        let (x, auxiliary) = Stream::One(x).through_all(&self.blocks[..self.kind.reading()], &angles);
        let norm = self.reading_norm.as_ref();
        let norm = norm.expect("a model of two halves has a norm between them").val();
        let x = rms_norm(x.end(), norm, NORM_EPSILON as f32);
        (Source { x, lengths }, auxiliary)
    }

    /// [`Model::forward`] of both halves, the second one given `written [rows, n]`.
    pub(super) fn forward_in_halves(&self, inputs: Inputs<B>, written: Tensor<B, 2, Int>) -> Forward<B> {
        let (source, read) = self.source(inputs);
        let angles = Angles {
            source: Some(source),
            ..self.angles(0, written.dims()[1], Sight::Back)
        };
        let x = Stream::One(self.embed(written));
        let (x, wrote) = x.through_all(&self.blocks[self.kind.reading()..], &angles);
        Forward {
            logits: self.logits(x.end(), None),
            auxiliary: both(read, wrote),
        }
    }

    /// Reads what the memory's sequences are to be written from; keys and values of it are computed once.
    ///
    /// # Panics
    /// If rows are longer than the plan's positions, or the model has no half that reads.
    pub fn read(&self, inputs: impl Into<Inputs<B>>, memory: &mut Memory<B>) {
        let (source, _) = self.source(inputs.into());
        let writing = &self.blocks[self.kind.reading()..];
        for (block, state) in writing.iter().zip(&mut memory.states) {
            state.crossed = block.cross.as_ref().map(|cross| cross.look_at(source.clone()));
        }
    }
}

/// The sum of two losses, where there are any.
pub(crate) fn both<B: Backend>(a: Option<Tensor<B, 1>>, b: Option<Tensor<B, 1>>) -> Option<Tensor<B, 1>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::{model::ModelPlan, ops::PackedRows, plan::Plan};

    const BLOCKS: &[&str] = &[
        "attention = 'full'\nkv_heads = 2",
        "attention = 'tiled'\nhead_prune_ratio = 0.5",
        "attention = 'sliding_window'\nwindow = 3",
        "attention = 'linear'",
        "attention = 'aft'\naft_variant = 'simple'\nfeed_forward = 'channel_mix'",
        "attention = 'kde'\nkde_samples = 4\nkde_block = 3",
        "cache_bits = 8\nkv_heads = 2",
        "cache_bits = 4\nattention = 'sliding_window'\nwindow = 3",
    ];

    fn model(block: &str) -> (Model<Flex>, ModelPlan) {
        let text = format!(
            "[data]\ncorpus = 'markov'\n[fixed]\nkind = 'encoder_decoder'\ncontext = 40\nwidth = 32\nheads = 4\n{block}\n"
        );
        let config = spaces::study::config_from_toml(&text, &crate::catalog()).unwrap();
        let plan = Plan::read(&config, 19, None).unwrap().served;
        (Model::new(&plan, 3, &Default::default()), plan)
    }

    fn row(n: usize) -> Tensor<Flex, 2, Int> {
        Tensor::zeros([1, n], &Default::default())
    }

    #[test]
    fn what_is_read_is_seen_by_tokens_before_it() {
        for block in BLOCKS {
            let (model, _) = model(block);
            let first = |text: Tensor<Flex, 2, Int>| {
                let (source, _) = model.source(text.into());
                source.x.narrow(1, 0, 1).into_data()
            };
            let changed = row(9).slice_assign([0..1, 1..2], row(1) + 7);
            assert_ne!(first(row(9)), first(changed), "{block}");
        }
    }

    #[test]
    fn what_is_remembered_of_both_halves_takes_the_foretold_bytes() {
        for block in BLOCKS {
            let (model, plan) = model(block);
            let mut memory = model.memory(&plan, 1, plan.capacity());
            model.read(row(plan.kind.form().read(plan.context)), &mut memory);
            model.extend(row(plan.capacity()), &mut memory);
            let (mut numbers, mut packed) = (0, 0);
            for state in &memory.states {
                let crossed = state.crossed.as_ref().unwrap().keys_and_values.iter();
                let parts = state.attention.parts.iter().chain(crossed);
                numbers += parts.map(|part| part.shape().num_elements()).sum::<usize>();
                let rows = state.attention.packed.iter().flatten();
                packed += rows.map(PackedRows::bytes).sum::<usize>();
                numbers += state
                    .feed_forward
                    .as_ref()
                    .map_or(0, |last| last.shape().num_elements());
            }
            assert_eq!((4 * numbers + packed) as u64, plan.state_bytes(), "{block}");
        }
    }
}

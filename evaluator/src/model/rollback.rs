//! Ways back for what decoding remembers: a memory cut short, and the memory of the first blocks alone.

use burn::tensor::backend::Backend;

use super::{Memory, Model};
use crate::ops::Ops;

impl<B: Ops> Model<B> {
    /// Whether a memory holds each token in a place of its own, so that [`Memory::truncate`] forgets the last ones. Where
    /// tokens are summed up or written over, only a copy from before leads back.
    pub fn remembers_each_token(&self) -> bool {
        self.blocks[self.kind.reading()..]
            .iter()
            .all(|block| block.attention.remembers_each_token() && !block.feed_forward.looks_back())
    }
}

impl<B: Backend> Memory<B> {
    /// Forgets all but the first `position` tokens, of a model that remembers each of them.
    pub fn truncate(&mut self, position: usize) {
        for state in &mut self.states {
            state.attention.taken = position;
        }
        self.position = position;
    }

    /// A copy of what the first `layers` blocks remember, for [`Model::extend`] with those blocks alone.
    pub fn first(&self, layers: usize) -> Self {
        Memory {
            states: self.states[..layers].to_vec(),
            position: self.position,
        }
    }

    /// [`Memory::first`] without a copy, until [`Memory::take_back`].
    pub(crate) fn lend_first(&mut self, layers: usize) -> Self {
        let rest = self.states.split_off(layers);
        Memory {
            states: std::mem::replace(&mut self.states, rest),
            position: self.position,
        }
    }

    /// Takes back what was lent, without what was read meanwhile.
    pub(crate) fn take_back(&mut self, mut lent: Self) {
        lent.truncate(self.position);
        lent.states.append(&mut self.states);
        self.states = lent.states;
    }
}

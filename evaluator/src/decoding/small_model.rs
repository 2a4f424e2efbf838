//! A smaller model as a draft (2211.17192, 2302.01318).

use super::{Choice, Draft, Guess, Laws, Reader};
use crate::{
    model::{Model, ModelPlan},
    ops::Ops,
};

/// A smaller model that reads the same text, in a context of its own.
#[derive(Debug)]
pub struct SmallModel<'a, B: Ops> {
    reader: Reader<'a, B>,
}

impl<'a, B: Ops> SmallModel<'a, B> {
    /// A draft for a text of so many tokens.
    pub fn new(model: &'a Model<B>, plan: &'a ModelPlan, length: usize) -> Self {
        SmallModel {
            reader: Reader::new(model, plan, length),
        }
    }
}

impl<B: Ops> Draft<B> for SmallModel<'_, B> {
    fn guess(
        &mut self,
        text: &[u32],
        _: &[u32],
        most: usize,
        _: &mut Reader<B>,
        choice: &mut Choice,
    ) -> Vec<Guess> {
        let unread = self.reader.follow(text);
        // the last guess is not read
        let most = most.min(self.reader.room(text) + 1);
        let mut guesses: Vec<Guess> = Vec::with_capacity(most);
        while guesses.len() < most {
            let logits = match guesses.last() {
                None => self.reader.read(unread, 1),
                Some(guess) => {
                    if guesses.len() == 1 {
                        self.reader.mark();
                    }
                    self.reader.read(&[guess.token], 1)
                }
            };
            let laws = Laws::read(logits, choice.temperature);
            guesses.push(Guess::draw(laws, &mut choice.random));
        }
        guesses
    }
}

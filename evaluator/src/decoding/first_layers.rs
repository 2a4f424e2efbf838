//! The first layers of the model as its own draft (2404.16710), with what they remember of the text.

use super::{Choice, Draft, Guess, Laws, Reader, reader::row};
use crate::{model::ModelPlan, ops::Ops};

/// The first blocks of the model, its norm and its head.
#[derive(Clone, Copy, Debug)]
pub struct FirstLayers {
    layers: usize,
}

impl FirstLayers {
    /// The first so many blocks of a model.
    ///
    /// # Errors
    /// A sentence where the model has no more of them, or none are asked for.
    pub fn of(layers: usize, plan: &ModelPlan) -> Result<Self, String> {
        let all = plan.layers.len();
        if (1..all).contains(&layers) {
            return Ok(FirstLayers { layers });
        }
        Err(match all {
            1 => "the model has one layer, and no draft comes out before it; use the draft ngram".into(),
            _ => format!(
                "a draft after {layers} layers of a model with {all} saves nothing; use exit:1 to exit:{}",
                all - 1
            ),
        })
    }
}

impl<B: Ops> Draft<B> for FirstLayers {
    fn guess(
        &mut self,
        _: &[u32],
        unread: &[u32],
        most: usize,
        model: &mut Reader<B>,
        choice: &mut Choice,
    ) -> Vec<Guess> {
        model.with_first(self.layers, |model, memory| {
            let mut guesses: Vec<Guess> = Vec::with_capacity(most);
            while guesses.len() < most {
                let input = match guesses.last() {
                    None => row(unread, model),
                    Some(guess) => row(&[guess.token], model),
                };
                let laws = Laws::read(model.extend(input, memory), choice.temperature);
                guesses.push(Guess::draw(laws, &mut choice.random));
            }
            guesses
        })
    }
}

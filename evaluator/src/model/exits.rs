//! Models that give logits after some of their layers, for training all of them and for serving the first that is sure.

use burn::tensor::{Int, Tensor, TensorData};

use super::{Inputs, Model, attention::Sight, halves::both, reversible::Stream, whole::Entered};
use crate::{
    counter,
    ops::{Lengths, Ops},
    techniques::dynamic::early_exit::EXITS_ACTIVITY,
};

/// What serving a batch gives.
pub struct Exited<B: Ops> {
    /// `[rows, 1, outputs]`
    pub logits: Tensor<B, 3>,
    /// Layers that each row went through.
    pub depths: Vec<usize>,
}

impl<B: Ops> Model<B> {
    /// The logits of each depth at which a text can leave, `[rows, 1, outputs]`, those of the last layer last, and the sum
    /// of the routers' balance losses.
    ///
    /// # Panics
    /// If the model has no exits or rows are longer than the plan's context.
    pub fn forward_at_exits(
        &self,
        inputs: impl Into<Inputs<B>>,
    ) -> (Vec<Tensor<B, 3>>, Option<Tensor<B, 1>>) {
        let exits = self.exits.expect("only a model with exits is asked for them");
        let Entered { x, angles, lengths } = self.enter(inputs.into());
        let (mut x, mut auxiliary, mut all) = (Stream::One(x), None, vec![]);
        let layers = self.blocks.len();
        for (i, block) in self.blocks.iter().enumerate() {
            let (y, more) = x.through(block, angles.clone(), None);
            auxiliary = both(auxiliary, more);
            if exits.is_after(i + 1, layers) {
                all.push(self.logits(y.clone().end(), lengths.as_ref()));
            }
            x = y;
        }
        all.push(self.logits(x.end(), lengths.as_ref()));
        (all, auxiliary)
    }

    /// Class logits of texts, each from the first exit that is sure enough. Later blocks are given only the texts that are
    /// left; waits for the device at each exit.
    ///
    /// # Panics
    /// As [`Model::forward_at_exits`].
    pub fn serve(&self, inputs: impl Into<Inputs<B>>) -> Exited<B> {
        let exits = self.exits.expect("only a model with exits is asked for them");
        let Entered {
            mut x,
            mut angles,
            mut lengths,
        } = self.enter(inputs.into());
        let (rows, layers) = (x.dims()[0], self.blocks.len());
        let mut left: Vec<usize> = (0..rows).collect();
        let (mut gone, mut parts, mut depths) = (vec![], vec![], vec![layers; rows]);
        for (i, block) in self.blocks.iter().enumerate() {
            x = Stream::One(x).through(block, angles.clone(), None).0.end();
            let depth = i + 1;
            if !exits.is_after(depth, layers) {
                continue;
            }
            let logits = self.logits(x.clone(), lengths.as_ref());
            let outputs = logits.dims()[2];
            let values: Vec<f32> = logits.clone().into_data().iter().collect();
            let sure = values.chunks_exact(outputs).map(|logits| {
                let confidence = exits.criterion.confidence(logits);
                exits.threshold.is_met(confidence)
            });
            let sure: Vec<bool> = sure.collect();
            let of = |wanted: bool| {
                (0..left.len())
                    .filter(|row| sure[*row] == wanted)
                    .collect::<Vec<_>>()
            };
            let (leaving, staying) = (of(true), of(false));
            if leaving.is_empty() {
                continue;
            }
            counter::add_activity(EXITS_ACTIVITY, leaving.len());
            parts.push(select(logits, &leaving));
            for row in leaving {
                depths[left[row]] = depth;
                gone.push(left[row]);
            }
            left = staying.iter().map(|row| left[*row]).collect();
            if left.is_empty() {
                break;
            }
            x = select(x, &staying);
            lengths = lengths.map(|all| Lengths::new(staying.iter().map(|row| all.of(*row)).collect()));
            angles.sight = Sight::BothWays(lengths.clone());
        }
        if !left.is_empty() {
            parts.push(self.logits(x, lengths.as_ref()));
            gone.append(&mut left);
        }
        // in the order of the rows again
        let mut places = vec![0; rows];
        for (place, row) in gone.into_iter().enumerate() {
            places[row] = place;
        }
        Exited {
            logits: select(Tensor::cat(parts, 0), &places),
            depths,
        }
    }
}

/// These rows of `x [rows, ..]`.
fn select<B: Ops>(x: Tensor<B, 3>, rows: &[usize]) -> Tensor<B, 3> {
    let ids: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
    let n = ids.len();
    let ids = Tensor::<B, 1, Int>::from_data(TensorData::new(ids, [n]), &x.device());
    x.select(0, ids)
}

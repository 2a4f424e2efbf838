//! Reading a text of which each layer passes on fewer tokens.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use super::{Inputs, Model, attention::Sight, halves::both, reversible::Stream, whole::Entered};
use crate::{
    counter,
    ops::{Lengths, Ops},
    techniques::dynamic::token_keep::{ACTIVITY, TokenKeep},
};

/// What comes out of the last layer.
pub(super) struct Kept<B: Backend> {
    /// `[rows, n, width]`
    pub(super) x: Tensor<B, 3>,
    /// How many of each row are no padding, where there is padding.
    pub(super) lengths: Option<Lengths>,
    /// Sum of the routers' balance losses.
    pub(super) auxiliary: Option<Tensor<B, 1>>,
    /// Where the tokens of all rows stood, `rows * n` of them.
    places: Vec<usize>,
}

impl<B: Ops> Model<B> {
    /// All blocks, each but the last of which passes on a share of the tokens; waits for the device between blocks.
    pub(super) fn through_fewer(&self, keep: TokenKeep, entered: Entered<B>) -> Kept<B> {
        let Entered {
            mut x,
            mut angles,
            mut lengths,
        } = entered;
        let [rows, whole, _] = x.dims();
        let all = angles.turns.clone();
        let first: Vec<usize> = lengths
            .as_ref()
            .map_or_else(|| vec![whole; rows], |lengths| lengths.iter().collect());
        let mut places: Vec<usize> = (0..rows).flat_map(|_| 0..whole).collect();
        let mut auxiliary = None;
        for (i, block) in self.blocks.iter().enumerate() {
            angles.asked = keep.asks_attention(i, self.blocks.len()).then(Arc::default);
            let (y, more) = Stream::One(x).through(block, angles.clone(), None);
            auxiliary = both(auxiliary, more);
            x = y.end();
            if i + 1 == self.blocks.len() {
                break;
            }
            if !keep.leaves_out(i) {
                continue;
            }
            let [_, n, width] = x.dims();
            let scores: Vec<f32> = match angles.asked.take() {
                Some(asked) => asked.get().expect("its attention has probabilities").to_data(),
                None => x.clone().detach().powi_scalar(2).sum_dim(2).into_data(),
            }
            .iter()
            .collect();
            let next = keep.read_by(i + 1, whole);
            let mut chosen = Vec::with_capacity(rows * next);
            for (row, first) in first.iter().enumerate() {
                let (now, then) = (keep.read_by(i, *first), keep.read_by(i + 1, *first));
                let scores = &scores[row * n..][..now];
                let mut stay = largest(scores, then, self.kind.leading());
                counter::add_activity(ACTIVITY, now - then);
                // what fills a row up is read as padding
                stay.resize(next, n - 1);
                chosen.extend(stay.into_iter().map(|at| row * n + at));
            }
            places = chosen.iter().map(|at| places[*at]).collect();
            let ids = |places: &[usize]| {
                let ids: Vec<i32> = places.iter().map(|at| *at as i32).collect();
                Tensor::<B, 1, Int>::from_data(TensorData::new(ids, [places.len()]), &x.device())
            };
            let turns = ids(&places);
            angles.turns = (
                all.0.clone().select(0, turns.clone()),
                all.1.clone().select(0, turns),
            );
            let chosen = ids(&chosen);
            x = x
                .reshape([rows * n, width])
                .select(0, chosen)
                .reshape([rows, next, width]);
            lengths = lengths.map(|_| Lengths::new(first.iter().map(|n| keep.read_by(i + 1, *n)).collect()));
            angles.sight = Sight::BothWays(lengths.clone());
        }
        Kept {
            x,
            lengths,
            auxiliary,
            places,
        }
    }

    /// Where the tokens of each text stood that reach the last layer, in their order; what the kind puts before a text is
    /// counted in.
    pub fn tokens_kept(&self, inputs: impl Into<Inputs<B>>) -> Vec<Vec<usize>> {
        let entered = self.enter(inputs.into());
        let [rows, whole, _] = entered.x.dims();
        let Some(keep) = self.tokens else {
            return vec![(0..whole).collect(); rows];
        };
        let kept = self.through_fewer(keep, entered);
        let rows = kept.places.chunks_exact(kept.places.len() / rows).enumerate();
        let there = |row| {
            kept.lengths
                .as_ref()
                .map_or(usize::MAX, |lengths| lengths.of(row))
        };
        rows.map(|(row, places)| places.iter().copied().take(there(row)).collect())
            .collect()
    }
}

/// Where the `n` largest of some scores stand, and before them the first `leading`, in their order; of equal ones the earlier.
fn largest(scores: &[f32], n: usize, leading: usize) -> Vec<usize> {
    let leading = leading.min(n);
    let mut rest: Vec<usize> = (leading..scores.len()).collect();
    let n = n - leading;
    if n < rest.len() {
        let order = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
        rest.select_nth_unstable_by(n, order);
        rest.truncate(n);
        rest.sort_unstable();
    }
    (0..leading).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_stay_in_their_order_and_what_leads_always() {
        let scores = [0.0, 5.0, 1.0, 5.0, 2.0, 9.0];
        assert_eq!(largest(&scores, 3, 0), [1, 3, 5]);
        assert_eq!(largest(&scores, 3, 1), [0, 1, 5]);
        assert_eq!(largest(&scores, 1, 1), [0]);
        assert_eq!(largest(&scores, 6, 1), [0, 1, 2, 3, 4, 5]);
        assert_eq!(largest(&[3.0, 3.0, 3.0], 2, 0), [0, 1]);
    }
}

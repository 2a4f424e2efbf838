//! What decoding remembers: keys and values of positions that have a bias, in a ring, and sums over older ones.

use burn::tensor::{Tensor, activation::sigmoid};

use super::{Aft, State};
use crate::ops::{Ops, aft_add_to_sums, aft_mean_of_sums, aft_recall, write_rows};

impl Aft {
    /// One token.
    pub(super) fn step<B: Ops>(
        &self,
        q: Tensor<B, 4>,
        k: Tensor<B, 4>,
        v: Tensor<B, 4>,
        own: &[Tensor<B, 2>],
        state: &mut State<B>,
    ) -> Tensor<B, 4> {
        let (now, rows) = (state.taken, state.parts[0].dims()[1]);
        state.taken += 1;
        if rows == 0 {
            state.replace(2, |sums| aft_add_to_sums(sums, k, v));
            return sigmoid(q) * aft_mean_of_sums(state.parts[2].clone());
        }
        let row = now % rows;
        if now >= rows {
            // the one that is written over
            let [old_k, old_v] = [0, 1].map(|part| state.parts[part].clone().narrow(1, row, 1));
            state.replace(2, |sums| aft_add_to_sums(sums, old_k, old_v));
        }
        state.replace(0, |ring| write_rows(ring, k, row));
        state.replace(1, |ring| write_rows(ring, v, row));
        let [k, v] = [0, 1].map(|part| state.parts[part].clone());
        sigmoid(q) * aft_recall([k, v], state.parts.get(2).cloned(), own, self.bias(), now)
    }

    /// Remembers the first tokens.
    pub(super) fn take_in<B: Ops>(&self, k: &Tensor<B, 4>, v: &Tensor<B, 4>, state: &mut State<B>) {
        let n = k.dims()[1];
        let rows = state.parts[0].dims()[1];
        let older = n.saturating_sub(rows);
        if older > 0 {
            let (k, v) = (k.clone().narrow(1, 0, older), v.clone().narrow(1, 0, older));
            state.replace(2, |sums| aft_add_to_sums(sums, k, v));
        }
        if older == 0 {
            state.replace(0, |ring| write_rows(ring, k.clone(), 0));
            state.replace(1, |ring| write_rows(ring, v.clone(), 0));
            state.taken = n;
            return;
        }
        for i in older..n {
            for (part, x) in [(0, k), (1, v)] {
                let x = x.clone().narrow(1, i, 1);
                state.replace(part, |ring| write_rows(ring, x, i % rows));
            }
        }
        state.taken = n;
    }
}

//! Attention by kernel density estimation in both directions (`KDEformer`, 2302.02451), with the paper's heavy blocks.
//!
//! Heavy part: queries and keys are each sorted by the code of `bits` fixed hyperplanes, in the order in which neighbours
//! differ in one bit (Gray), equal codes by position, and cut into blocks; a query of the i-th block of queries attends
//! exactly to the i-th block of keys. Residual: for each sequence and head `m = samples` keys are drawn i.i.d. with
//! `p_l = ½ |v_l|² / Σ |v|² + ½ / n` and weighted by `1 / (m p_l)`; those of a query's own heavy block are left out, with
//! weight zero. The same columns with the same weights make numerator `Σ w e^{q·k/√d} v` and denominator
//! `Σ w e^{q·k/√d}` (a column of ones appended to the values), and all of a query's share one running maximum. Both sums
//! are unbiased; their quotient is not, by `O(1/m)`. Work is `O(n (m + block) + n log n)`; pairs of all tokens are never
//! formed.
//!
//! As in the causal form, the even half of `p` stands for the norms of the attention's columns. Padding is in no block, is
//! never drawn, and puts out 0. The draw, like the blocks, is a constant to gradients.

mod blocks;
mod cpu;
#[cfg(test)]
mod estimator;
mod reference;
#[cfg(test)]
mod tests;

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops as Step, OpsKind},
        },
    },
    tensor::{
        Tensor,
        backend::{AutodiffBackend, Backend},
        ops::FloatTensor,
    },
};

use crate::ops::{Lengths, unwrap, wrap};

/// Which keys each query sees.
#[derive(Clone, Debug, PartialEq)]
pub struct KdeBothWays {
    /// Queries and keys of a heavy block; 0 for no heavy part.
    pub block: usize,
    /// Hyperplanes of a code.
    pub bits: usize,
    /// Keys drawn.
    pub samples: usize,
    /// Where sequences are padded, how many tokens of each are there.
    pub lengths: Option<Lengths>,
}

impl KdeBothWays {
    /// Pairs of a query with a key of a sequence of `n`; drawn keys that are left out are multiplied too.
    pub fn pairs(&self, n: usize) -> usize {
        let heavy = match self.block {
            0 => 0,
            block => n / block * block * block + (n % block).pow(2),
        };
        heavy + n * self.samples
    }

    /// Multiply-adds of the codes of one head's queries and keys.
    pub fn code_macs(&self, n: usize, d: usize) -> usize {
        let bits = if self.block > 0 { self.bits } else { 0 };
        2 * n * bits * d
    }

    /// Tokens of one of the sequences of `n` rows.
    fn there(&self, sequence: usize, n: usize) -> usize {
        self.lengths.as_ref().map_or(n, |lengths| lengths.of(sequence))
    }

    /// What padding leaves out of all sequences, where one of so many tokens has so much.
    fn left_out(&self, n: usize, of: impl Fn(usize) -> usize) -> usize {
        let lengths = self.lengths.iter().flat_map(Lengths::iter);
        lengths.map(|there| of(n) - of(there)).sum()
    }
}

/// Attention over heavy blocks and drawn keys. Shapes: `q`, `k` and `v` `[b, n, h, d]`; places `[b, h, 2 n + 2 samples]`,
/// of a head its queries and its keys, each sorted and padding last, where there is a heavy part, then the drawn keys and
/// `-ln(m p)`.
pub trait KdeBothWaysOp: Backend {
    /// Sorts queries and keys, and draws keys.
    fn kde_places(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        form: &KdeBothWays,
    ) -> FloatTensor<Self> {
        unwrap(reference::places::<Self>([wrap(q), wrap(k), wrap(v)], form))
    }

    /// The output `[b, n, h, d]` and the logarithms of the denominators `[b, n, h]`.
    fn kde_both_ways_forward(
        inputs: [FloatTensor<Self>; 4],
        form: &KdeBothWays,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [q, k, v, places] = inputs;
        let (o, log_sums) = reference::forward::<Self>([wrap(q), wrap(k), wrap(v)], wrap(places), form);
        (unwrap(o), unwrap(log_sums))
    }

    /// Gradients of `q`, `k` and `v` for constant places, from queries, keys, values and places, and the outcome of the
    /// forward pass.
    fn kde_both_ways_backward(
        [q, k, v, places]: [FloatTensor<Self>; 4],
        o: FloatTensor<Self>,
        log_sums: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        form: &KdeBothWays,
    ) -> [FloatTensor<Self>; 3] {
        let results = [wrap(o), wrap(gradient)];
        reference::backward::<Self>(
            [wrap(q), wrap(k), wrap(v)],
            wrap(places),
            results,
            wrap(log_sums),
            form,
        )
        .map(unwrap)
    }
}

/// Attention over whole sequences in both directions; see [`KdeBothWaysOp`].
pub fn kde_both_ways<B: KdeBothWaysOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    form: &KdeBothWays,
) -> Tensor<B, 4> {
    let inputs = [q, k, v].map(unwrap);
    let [q, k, v] = inputs.clone();
    let places = B::kde_places(q, k, v, form);
    let [q, k, v] = inputs;
    wrap(B::kde_both_ways_forward([q, k, v, places], form).0)
}

#[cfg(feature = "cuda")]
impl KdeBothWaysOp for burn::backend::Cuda {}

impl<B: KdeBothWaysOp, C: CheckpointStrategy> KdeBothWaysOp for Autodiff<B, C> {
    fn kde_places(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        form: &KdeBothWays,
    ) -> FloatTensor<Self> {
        Self::from_inner(B::kde_places(q.primitive, k.primitive, v.primitive, form))
    }

    fn kde_both_ways_forward(
        inputs: [FloatTensor<Self>; 4],
        form: &KdeBothWays,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct Kde;
        impl<B: KdeBothWaysOp> Backward<B, 3> for Kde {
            type State = ([FloatTensor<B>; 4], FloatTensor<B>, FloatTensor<B>, KdeBothWays);

            fn backward(self, ops: Step<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (inputs, o, log_sums, form) = ops.state;
                let gradients = B::kde_both_ways_backward(inputs, o, log_sums, g, &form);
                pass_on!(B, ops.parents, gradients, grads);
            }
        }
        let nodes = [0, 1, 2].map(|i: usize| inputs[i].node.clone());
        let inputs = inputs.map(|x| x.primitive);
        let (o, log_sums) = B::kde_both_ways_forward(inputs.clone(), form);
        let kept = Self::from_inner(log_sums.clone());
        let o = match Kde.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, o.clone(), log_sums, form.clone()), o),
            OpsKind::UnTracked(prep) => prep.finish(o),
        };
        (o, kept)
    }
}

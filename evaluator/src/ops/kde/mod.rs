//! Causal attention by kernel density estimation (`KDEformer`, 2302.02451, with the recursion of `HyperAttention`,
//! 2310.05869).
//!
//! A query attends exactly to its own leaf of `leaf` positions, up to itself. Everything before splits into dyadic
//! blocks, one for each set bit of the number of its leaf: the lower-left quadrants of the recursion, unmasked because
//! they lie wholly in the past. Of a block of more than `samples` keys, `m = samples` are drawn i.i.d. with
//! `p_l = ½ |v_l|² / Σ |v|² + ½ / len` and weighted by `1 / (m p_l)`, in the numerator `Σ e^{q·k/√d} v` and the
//! denominator `Σ e^{q·k/√d}` alike (a column of ones appended to the values). Both sums are unbiased; their quotient
//! is not, by `O(1/m)`. All parts share one running maximum. Work is `O(n (leaf + m log(n / leaf)))`.
//!
//! The draw depends on values of the block and a fixed seed, so it is strictly causal. The heavy part of the paper,
//! keys and queries sorted by hyperplane codes into blocks, is left out: a later query would shift the blocks of
//! earlier ones, as `heavy.rs` shows; the form that sees both ways (`both_ways/`) has it. Left out too are the norms of
//! the attention's columns in `p`, which only later queries tell; the even half stands for them. The same tokens
//! attended in other pieces get the same draw, save where a sum of rounded norms moves across a uniform number, about
//! once in 10^5 blocks.

mod both_ways;
mod codes;
mod columns;
mod cpu;
#[cfg(test)]
mod heavy;
mod reference;
mod sampling;
#[cfg(test)]
mod tests;

use std::ops::Range;

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops as Step, OpsKind},
        },
    },
    tensor::{Tensor, backend::Backend, ops::FloatTensor},
};

pub use self::{
    both_ways::{KdeBothWays, KdeBothWaysOp, kde_both_ways},
    sampling::KdeBlocks,
};
use super::{unwrap, wrap};

/// Attention by sampled keys. Shapes: `q [b, n, h, d]`, `k` and `v` `[b, keys or more, h, d]`, the first query at
/// position `offset` of the keys; draws `[b, blocks, h, 2 samples]`, indices within the block and then `-ln(m p)`.
pub trait KdeOp: Backend {
    /// Draws the keys of the blocks `rows`, in the order in which blocks become past.
    fn kde_draw(v: FloatTensor<Self>, rows: Range<usize>, blocks: KdeBlocks) -> FloatTensor<Self> {
        unwrap(reference::draw::<Self>(wrap(v), rows, blocks))
    }

    /// The output `[b, n, h, d]` and the logarithms of the denominators `[b, n, h]`.
    fn kde_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        draws: FloatTensor<Self>,
        offset: usize,
        blocks: KdeBlocks,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (o, log_sums) =
            reference::forward::<Self>(wrap(q), wrap(k), wrap(v), wrap(draws), offset, blocks);
        (unwrap(o), unwrap(log_sums))
    }

    /// Gradients of `q`, `k` and `v` for a constant draw, from queries, keys, values and draws, and the outcome of
    /// the forward pass.
    fn kde_backward(
        inputs: [FloatTensor<Self>; 4],
        o: FloatTensor<Self>,
        log_sums: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        offset: usize,
        blocks: KdeBlocks,
    ) -> [FloatTensor<Self>; 3] {
        let inputs = inputs.map(wrap);
        reference::backward::<Self>(inputs, wrap(o), wrap(log_sums), wrap(gradient), offset, blocks)
            .map(unwrap)
    }
}

/// The draws of the blocks `rows` of values `v [b, n, h, d]`; no gradient flows through them. See [`KdeOp`].
pub fn kde_draw<B: KdeOp>(v: Tensor<B, 4>, rows: Range<usize>, blocks: KdeBlocks) -> Tensor<B, 4> {
    wrap(B::kde_draw(unwrap(v), rows, blocks))
}

/// Attention over leaves and sampled past blocks; see [`KdeOp`].
pub fn kde_attention<B: KdeOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    draws: Tensor<B, 4>,
    offset: usize,
    blocks: KdeBlocks,
) -> Tensor<B, 4> {
    wrap(B::kde_forward(unwrap(q), unwrap(k), unwrap(v), unwrap(draws), offset, blocks).0)
}

#[cfg(feature = "cuda")]
impl KdeOp for burn::backend::Cuda {}

impl<B: KdeOp, C: CheckpointStrategy> KdeOp for Autodiff<B, C> {
    fn kde_draw(v: FloatTensor<Self>, rows: Range<usize>, blocks: KdeBlocks) -> FloatTensor<Self> {
        <Self as burn::tensor::backend::AutodiffBackend>::from_inner(B::kde_draw(v.primitive, rows, blocks))
    }

    fn kde_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        draws: FloatTensor<Self>,
        offset: usize,
        blocks: KdeBlocks,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct Kde;
        impl<B: KdeOp> Backward<B, 3> for Kde {
            type State = (
                [FloatTensor<B>; 4],
                FloatTensor<B>,
                FloatTensor<B>,
                usize,
                KdeBlocks,
            );

            fn backward(self, ops: Step<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (inputs, o, log_sums, offset, blocks) = ops.state;
                let gradients = B::kde_backward(inputs, o, log_sums, g, offset, blocks);
                pass_on!(B, ops.parents, gradients, grads);
            }
        }
        let nodes = [q.node.clone(), k.node.clone(), v.node.clone()];
        let inputs = [q.primitive, k.primitive, v.primitive, draws.primitive];
        let [q, k, v, draws] = inputs.clone();
        let (o, log_sums) = B::kde_forward(q, k, v, draws, offset, blocks);
        let kept = <Self as burn::tensor::backend::AutodiffBackend>::from_inner(log_sums.clone());
        let o = match Kde.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, o.clone(), log_sums, offset, blocks), o),
            OpsKind::UnTracked(prep) => prep.finish(o),
        };
        (o, kept)
    }
}

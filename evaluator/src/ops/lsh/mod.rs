//! Attention among tokens that hash alike (Reformer, 2001.04451), in the form whose chunks are aligned to buckets.
//!
//! Queries and keys are one projection, keys of length one. In each round a fixed rotation sends a token to a bucket,
//! `argmax [qR; -qR]`; the tokens of a bucket, in the order of their positions, are cut into chunks. A token sees its
//! own chunk up to itself and the chunk before it in the same bucket. All of that depends on earlier tokens alone, so
//! the form is strictly causal and decoding equals training; with chunks of the whole sorted order (the paper's
//! default) a later token could shift the chunks of earlier ones; `leak.rs` shows how often it does.
//!
//! The token itself has the score [`SELF_SCORE`], so that it counts only where nothing else is seen. Rounds are
//! combined by their sums of exponentials, each pair divided by the number of rounds in which it meets: the result is
//! the softmax over the union of all rounds.
//!
//! Buckets fill unevenly, so the number of seen pairs depends on the data. The work does not: in each round the
//! token at position `i` is multiplied with [`Hashing::slots`] `= min(2 · chunk, i + 1)` rows, the seen ones and as
//! many others, of weight exactly 0, as are missing.

mod cpu;
#[cfg(test)]
mod leak;
mod reference;
mod rotations;
mod rounds;
mod step;
#[cfg(test)]
mod tests;

use super::{unwrap, wrap};
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

/// The score of a token with itself, before the softmax.
const SELF_SCORE: f32 = -1e5;

/// Added to the square of a length, so that a zero vector has a key.
const EPSILON: f32 = 1e-6;

/// How tokens are hashed and cut into chunks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hashing {
    /// Independent hashes of each token.
    pub rounds: usize,
    /// Values of a hash; even.
    pub buckets: usize,
    /// Tokens of a bucket that see each other, and the chunk before.
    pub chunk: usize,
}

impl Hashing {
    /// Rows that the token at `position` is multiplied with in a round.
    pub fn slots(&self, position: usize) -> usize {
        (2 * self.chunk).min(position + 1)
    }

    /// The bucket of a place, and the chunk of that bucket.
    fn cell(&self, place: usize) -> (usize, usize) {
        (place % self.buckets, place / self.buckets / self.chunk)
    }
}

/// Attention among tokens that hash alike.
///
/// The place of a token in a round is `rank · buckets + bucket`, where the rank is the number of earlier tokens in its
/// bucket. Shapes: `q` and `v` `[b, n, h, d]`, places `[b, n, h, rounds]`.
pub trait LshOp: Backend {
    /// The places of tokens that come after `past.1` others, whose places are the first rows of `past.0`.
    fn lsh_places(
        q: FloatTensor<Self>,
        past: Option<(FloatTensor<Self>, usize)>,
        hashing: Hashing,
    ) -> FloatTensor<Self> {
        let past = past.map(|(places, taken)| (wrap(places), taken));
        unwrap(reference::places::<Self>(wrap(q), past, hashing))
    }

    /// The output `[b, n, h, d]`, and the largest score and sum of exponentials of each token `[b, n, h, 2]`.
    fn lsh_forward(
        q: FloatTensor<Self>,
        v: FloatTensor<Self>,
        places: FloatTensor<Self>,
        hashing: Hashing,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (o, sums) = reference::forward::<Self>(wrap(q), wrap(v), wrap(places), hashing);
        (unwrap(o), unwrap(sums))
    }

    /// Gradients of `q` and `v`; scores are computed again.
    fn lsh_backward(
        [q, v, places]: [FloatTensor<Self>; 3],
        [o, sums]: [FloatTensor<Self>; 2],
        gradient: FloatTensor<Self>,
        hashing: Hashing,
    ) -> [FloatTensor<Self>; 2] {
        reference::backward::<Self>(
            [wrap(q), wrap(v), wrap(places)],
            [wrap(o), wrap(sums)],
            wrap(gradient),
            hashing,
        )
        .map(unwrap)
    }

    /// The output `[b, 1, h, d]` of the token at `position`, which is already in the caches `[b, rows, h, ..]` of
    /// keys of length one, values and places.
    fn lsh_step(
        q: FloatTensor<Self>,
        caches: [FloatTensor<Self>; 3],
        position: usize,
        hashing: Hashing,
    ) -> FloatTensor<Self> {
        unwrap(reference::step::<Self>(
            wrap(q),
            caches.map(wrap),
            position,
            hashing,
        ))
    }
}

/// Places of tokens after those of `past`; see [`LshOp`].
pub fn lsh_places<B: LshOp>(
    q: Tensor<B, 4>,
    past: Option<(Tensor<B, 4>, usize)>,
    hashing: Hashing,
) -> Tensor<B, 4> {
    let past = past.map(|(places, taken)| (unwrap(places), taken));
    wrap(B::lsh_places(unwrap(q), past, hashing))
}

/// Attention over whole sequences; see [`LshOp`].
pub fn lsh_attention<B: LshOp>(
    q: Tensor<B, 4>,
    v: Tensor<B, 4>,
    places: Tensor<B, 4>,
    hashing: Hashing,
) -> Tensor<B, 4> {
    wrap(B::lsh_forward(unwrap(q), unwrap(v), unwrap(places), hashing).0)
}

/// Attention of the newest token; see [`LshOp::lsh_step`].
pub fn lsh_attention_step<B: LshOp>(
    q: Tensor<B, 4>,
    caches: [Tensor<B, 4>; 3],
    position: usize,
    hashing: Hashing,
) -> Tensor<B, 4> {
    wrap(B::lsh_step(unwrap(q), caches.map(unwrap), position, hashing))
}

/// Keys: queries at length one.
pub fn unit_length<B: Backend>(q: Tensor<B, 4>) -> Tensor<B, 4> {
    let squares = (q.clone() * q.clone()).sum_dim(3) + EPSILON;
    q / squares.sqrt()
}

#[cfg(feature = "cuda")]
impl LshOp for burn::backend::Cuda {}

impl<B: LshOp, C: CheckpointStrategy> LshOp for Autodiff<B, C> {
    fn lsh_places(
        q: FloatTensor<Self>,
        past: Option<(FloatTensor<Self>, usize)>,
        hashing: Hashing,
    ) -> FloatTensor<Self> {
        // places are whole numbers: nothing flows back through them
        let past = past.map(|(places, taken)| (places.primitive, taken));
        Self::from_inner(B::lsh_places(q.primitive, past, hashing))
    }

    fn lsh_forward(
        q: FloatTensor<Self>,
        v: FloatTensor<Self>,
        places: FloatTensor<Self>,
        hashing: Hashing,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct Lsh;
        impl<B: LshOp> Backward<B, 2> for Lsh {
            type State = ([FloatTensor<B>; 3], [FloatTensor<B>; 2], Hashing);

            fn backward(self, ops: Step<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (inputs, results, hashing) = ops.state;
                let gradients = B::lsh_backward(inputs, results, g, hashing);
                pass_on!(B, ops.parents, gradients, grads);
            }
        }
        let nodes = [q.node.clone(), v.node.clone()];
        let inputs = [q.primitive, v.primitive, places.primitive];
        let [q, v, places] = inputs.clone();
        let (o, sums) = B::lsh_forward(q, v, places, hashing);
        let kept = Self::from_inner(sums.clone());
        let o = match Lsh.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, [o.clone(), sums], hashing), o),
            OpsKind::UnTracked(prep) => prep.finish(o),
        };
        (o, kept)
    }
}

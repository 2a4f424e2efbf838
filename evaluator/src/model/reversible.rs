//! What flows from block to block: one residual stream, or the two of reversible layers (2001.04451, 1707.04585).
//!
//! `y1 = x1 + Attn(norm x2)`, `y2 = x2 + FFN(norm y1)`; both streams begin with the embedding, and the head reads their
//! mean. What is added is first rounded to a multiple of 2⁻¹⁶ (1810.10999 does so for recurrent networks). Sums of such
//! numbers are exact in 32-bit floats below 256, so `x2 = y2 - FFN(norm y1)` and `x1 = y1 - Attn(norm x2)` are the inputs
//! to the bit wherever a processor computes the same twice. Otherwise an error of the last digit would be enough to send a
//! token to another hash bucket or expert, or to draw a router's noise anew. The gradient passes the rounding as it is.

use burn::tensor::{Tensor, backend::Backend};

use super::{
    attention::Angles,
    block::{Block, BlockState},
    halves::both,
};
use crate::{
    counter,
    ops::{Lengths, Ops},
    techniques::{
        feed_forward::Last,
        reversible::{CHUNKS_ACTIVITY, Reversible},
    },
};

/// Adding this to a number below 64 and taking it away rounds to a multiple of 2⁻¹⁶: it has 24 binary digits, 8 of them whole.
const ROUNDING: f32 = 192.0;

/// The residual stream or streams between blocks, each `[b, n, width]`.
#[derive(Clone, Debug)]
pub(crate) enum Stream<B: Backend> {
    /// Of ordinary layers.
    One(Tensor<B, 3>),
    /// Of reversible layers.
    Two([Tensor<B, 3>; 2], Reversible),
}

impl<B: Ops> Stream<B> {
    /// Before the first block.
    pub(crate) fn start(x: Tensor<B, 3>, form: Option<Reversible>) -> Self {
        match form {
            None => Stream::One(x),
            Some(form) => {
                let x = rounded(x);
                Stream::Two([x.clone(), x], form)
            }
        }
    }

    /// After a block, and the auxiliary loss of its router if it has one.
    pub(crate) fn through(
        self,
        block: &Block<B>,
        angles: Angles<B>,
        state: Option<&mut BlockState<B>>,
    ) -> (Self, Option<Tensor<B, 1>>) {
        let Some(watched) = &block.watched else {
            return self.on_through(block, angles, state);
        };
        let (before, sight) = (self.clone().end(), angles.sight.clone());
        let (after, auxiliary) = self.on_through(block, angles, state);
        watched.see(before, after.clone().end(), sight.lengths());
        (after, auxiliary)
    }

    fn on_through(
        self,
        block: &Block<B>,
        angles: Angles<B>,
        state: Option<&mut BlockState<B>>,
    ) -> (Self, Option<Tensor<B, 1>>) {
        match self {
            Stream::One(x) => {
                let (x, auxiliary) = block.forward(x, angles, state);
                (Stream::One(x), auxiliary)
            }
            Stream::Two([x1, x2], form) => {
                let (state, before) = state.map(|s| (&mut s.attention, &mut s.feed_forward)).unzip();
                let sight = angles.sight.clone();
                let y1 = x1 + rounded(block.attended(x2.clone(), angles, state));
                let (more, auxiliary) = in_chunks(block, y1.clone(), before, sight.lengths(), form);
                (Stream::Two([y1, x2 + more], form), auxiliary)
            }
        }
    }

    /// After all these blocks, and the sum of the auxiliary losses of their routers.
    pub(crate) fn through_all(self, blocks: &[Block<B>], angles: &Angles<B>) -> (Self, Option<Tensor<B, 1>>) {
        let first = (self, None);
        blocks.iter().fold(first, |(x, sum), block| {
            let (x, more) = x.through(block, angles.clone(), None);
            (x, both(sum, more))
        })
    }

    /// What the head reads.
    pub(crate) fn end(self) -> Tensor<B, 3> {
        match self {
            Stream::One(x) => x,
            Stream::Two([x1, x2], _) => (x1 + x2) * 0.5,
        }
    }
}

/// What the feed-forward part adds, chunk after chunk, so that hidden activations exist for one chunk at a time.
fn in_chunks<B: Ops>(
    block: &Block<B>,
    x: Tensor<B, 3>,
    before: Option<&mut Last<B>>,
    lengths: Option<&Lengths>,
    form: Reversible,
) -> (Tensor<B, 3>, Option<Tensor<B, 1>>) {
    let [b, n, width] = x.dims();
    let chunks: Vec<_> = form.chunks(n).collect();
    if chunks.len() == 1 {
        let (y, auxiliary) = block.fed(x, before, lengths);
        return (rounded(y), auxiliary);
    }
    counter::add_activity(CHUNKS_ACTIVITY, chunks.len());
    let mut fresh = None;
    let before = before.unwrap_or(&mut fresh);
    // there are no mixtures here, and so neither auxiliary losses nor anything that depends on lengths
    let chunk = |(from, to)| {
        block
            .fed(x.clone().slice([0..b, from..to, 0..width]), Some(before), None)
            .0
    };
    let all: Vec<_> = chunks.into_iter().map(chunk).collect();
    (rounded(Tensor::cat(all, 1)), None)
}

/// `x` as multiples of 2⁻¹⁶; the gradient is handed through.
pub(crate) fn rounded<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    x.add_scalar(ROUNDING).sub_scalar(ROUNDING)
}

#[cfg(test)]
mod tests {
    use burn::{backend::Flex, tensor::TensorData};

    use super::*;

    #[test]
    fn sums_of_rounded_numbers_are_undone_to_the_bit() {
        let random = |salt: u32, size: f32| -> Tensor<Flex, 3> {
            let values = (0..4096u32).map(|i| {
                let bits = (i ^ salt).wrapping_mul(0x9e37_79b9) >> 8;
                size * (bits as f32 / (1 << 23) as f32 - 1.0)
            });
            let data = TensorData::new(values.collect::<Vec<f32>>(), [1, 64, 64]);
            Tensor::from_data(data, &Default::default())
        };
        for size in [1e-3, 1.0, 60.0] {
            let (x, more) = (rounded(random(1, size)), random(2, size));
            let worst: f32 = (rounded(more.clone()) - more.clone()).abs().max().into_scalar();
            assert!(worst <= 0.5_f32.powi(17), "{worst}");
            let more = rounded(more);
            let back = (x.clone() + more.clone()) - more;
            assert_eq!(x.into_data(), back.into_data(), "{size}");
        }
    }
}

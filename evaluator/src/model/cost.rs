//! Parameters and matrix work of a plan, by formula. Tests hold them against tensors and executed work.
//!
//! All work is in multiply-adds (MACs); one is two FLOPs.

use std::ops::{Add, AddAssign, Mul, Sub};

use super::{AttentionPlan, ModelPlan, plan::Projection};
use crate::techniques::attention::Place;

/// Multiply-adds of a training pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Of the forward pass.
    pub forward: u64,
    /// Of the backward pass.
    pub backward: u64,
}

impl Pass {
    /// Forward and backward.
    pub fn total(self) -> u64 {
        self.forward + self.backward
    }
}

impl Add for Pass {
    type Output = Pass;

    fn add(self, other: Pass) -> Pass {
        Pass {
            forward: self.forward + other.forward,
            backward: self.backward + other.backward,
        }
    }
}

impl Sub for Pass {
    type Output = Pass;

    fn sub(self, other: Pass) -> Pass {
        Pass {
            forward: self.forward - other.forward,
            backward: self.backward - other.backward,
        }
    }
}

impl AddAssign for Pass {
    fn add_assign(&mut self, other: Pass) {
        *self = *self + other;
    }
}

impl Mul<u64> for Pass {
    type Output = Pass;

    fn mul(self, n: u64) -> Pass {
        Pass {
            forward: self.forward * n,
            backward: self.backward * n,
        }
    }
}

/// Which weights a training changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trainable {
    /// All of them.
    All,
    /// Only low-rank additions.
    LowRank {
        /// Their rank.
        rank: u64,
        /// On the feed-forward matrices too, not only on those of the attention.
        feed_forward: bool,
    },
}

/// How one matrix takes part in a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Trained,
    Frozen,
    LowRank(u64),
}

impl Trainable {
    fn attention(self) -> Form {
        match self {
            Trainable::All => Form::Trained,
            Trainable::LowRank { rank, .. } => Form::LowRank(rank),
        }
    }

    /// The form of feed-forward matrices.
    pub(crate) fn feed_forward(self) -> Form {
        match self {
            Trainable::All => Form::Trained,
            Trainable::LowRank {
                rank,
                feed_forward: true,
            } => Form::LowRank(rank),
            Trainable::LowRank { .. } => Form::Frozen,
        }
    }

    /// The form of routers, embedding and head.
    pub(crate) fn others(self) -> Form {
        match self {
            Trainable::All => Form::Trained,
            Trainable::LowRank { .. } => Form::Frozen,
        }
    }
}

/// The pass of a matrix `[out, input]` over `tokens` rows; `upstream` tells whether the input wants a gradient.
pub(crate) fn matrix_pass(tokens: u64, input: u64, out: u64, upstream: bool, form: Form) -> Pass {
    let once = tokens * input * out;
    let upstream = u64::from(upstream);
    match form {
        Form::Trained => Pass {
            forward: once,
            backward: once * (1 + upstream),
        },
        Form::Frozen => Pass {
            forward: once,
            backward: once * upstream,
        },
        Form::LowRank(rank) => {
            let (down, up) = (tokens * rank * input, tokens * rank * out);
            Pass {
                forward: once + down + up,
                backward: once * upstream + down * (1 + upstream) + 2 * up,
            }
        }
    }
}

impl AttentionPlan {
    /// Multiply-adds of the projections for one token.
    fn projection_macs(&self, width: usize) -> u64 {
        let of_one = |p: &Projection| (p.input * p.out) as u64;
        self.projections(width).iter().map(of_one).sum()
    }

    fn parameters(&self, place: Place) -> u64 {
        let own = self
            .own(place)
            .into_iter()
            .map(|w| (w.shape[0] * w.shape[1]) as u64);
        self.projection_macs(place.width) + own.sum::<u64>()
    }
}

impl ModelPlan {
    /// All weights of the dense model.
    pub fn parameters(&self) -> u64 {
        self.count_parameters(|feed_forward, width| feed_forward.parameters(width))
    }

    /// Weights that one token passes through.
    pub fn active_parameters(&self) -> u64 {
        self.count_parameters(|feed_forward, width| feed_forward.active_parameters(width))
    }

    fn count_parameters(
        &self,
        feed_forward: impl Fn(&crate::techniques::feed_forward::FeedForwardPlan, u64) -> u64,
    ) -> u64 {
        let width = self.width as u64;
        let blocks = self.layers.iter().enumerate().map(|(i, layer)| {
            let attention = layer.attention.parameters(self.place(i));
            attention + feed_forward(&layer.feed_forward, width) + 2 * width
        });
        self.vocabulary as u64 * width + blocks.sum::<u64>() + width
    }

    /// One training step on `batch` sequences of `n` tokens; where experts have a capacity, with room for every token.
    pub fn training_pass(&self, batch: usize, n: usize, trainable: Trainable) -> Pass {
        let (width, tokens) = (self.width as u64, (batch * n) as u64);
        let head = matrix_pass(tokens, width, self.vocabulary as u64, true, trainable.others());
        let mut pass = head;
        for (i, layer) in self.layers.iter().enumerate() {
            // a frozen embedding has no gradient, so nothing flows below the first block's attention
            let upstream = i > 0 || trainable == Trainable::All;
            let mut block = Pass::default();
            for Projection { name, input, out } in layer.attention.projections(self.width) {
                let upstream = upstream || name == "o_proj";
                block += matrix_pass(tokens, input as u64, out as u64, upstream, trainable.attention());
            }
            block += layer.attention.core.training_pass(&layer.attention, n) * batch as u64;
            block += layer.feed_forward.training_pass(width, tokens, trainable);
            if self.reversible.is_some() {
                // each block is computed once more on the way back
                block.backward += block.forward;
            }
            pass += block;
        }
        pass
    }

    /// Multiply-adds to decode the token at `position`, from 0.
    pub fn decoding_macs(&self, position: usize) -> u64 {
        let width = self.width as u64;
        let blocks = self.layers.iter().map(|layer| {
            layer.attention.projection_macs(self.width)
                + layer.attention.core.decoding_macs(&layer.attention, position)
                + layer.feed_forward.serving_macs(width)
        });
        blocks.sum::<u64>() + self.vocabulary as u64 * width
    }

    /// FLOPs to decode one token, mean over the positions of a full-length sequence.
    pub fn inference_flops_per_token(&self) -> f64 {
        let total: u64 = (0..self.context).map(|p| self.decoding_macs(p)).sum();
        2.0 * total as f64 / self.context as f64
    }

    /// Bytes of the decoding state of one full-length sequence, in 32-bit floats.
    pub fn state_bytes(&self) -> u64 {
        self.layers
            .iter()
            .map(|layer| {
                let attention = layer.attention.core.state_values(&layer.attention, self.context);
                4 * (attention + layer.feed_forward.state_values(self.width as u64))
            })
            .sum()
    }
}

//! What a router decides on, and what it decides.

use burn::tensor::{Tensor, backend::Backend};

use crate::{counter, model::Matrix, ops::Lengths};

/// What a router decides on.
pub(crate) struct Request<'a, B: Backend> {
    /// The tokens, `[tokens, width]`.
    pub(super) x: &'a Tensor<B, 2>,
    /// Sequences, and tokens of each with its padding.
    pub(super) batch: [usize; 2],
    /// How many of each sequence are no padding, where there is padding.
    pub(super) lengths: Option<&'a Lengths>,
    /// The router, `[experts, width]`.
    pub(super) router: &'a Matrix<B>,
    /// The size of noise, `[experts, width]`, where the router is noisy.
    pub(super) noise: Option<&'a Matrix<B>>,
    /// Experts for each token.
    pub(super) top_k: usize,
    /// Whether gradients are tracked: noise, capacity and losses belong to training alone.
    pub(super) training: bool,
}

/// What a router decided.
pub(crate) struct Routing<B: Backend> {
    /// The router's scores without noise on them, `[tokens, experts]`.
    pub(super) logits: Tensor<B, 2>,
    /// What experts' outputs are multiplied by, row by row: `[tokens, top_k]`, or `[tokens, experts]` where experts choose.
    pub(super) gates: Tensor<B, 2>,
    /// The places in `gates`, counted row by row, of what each expert works on.
    pub(super) places: Vec<Vec<usize>>,
    /// Rows that the formula has beyond these: those that an expert had no room for, and padding.
    pub(super) left_out: usize,
    /// How uneven the load is, `[1]`; only in training, and where it can be uneven.
    pub(super) balance: Option<Tensor<B, 1>>,
}

impl<B: Backend> Routing<B> {
    /// Of tokens that choose: `slots` has the expert of each place in `gates`, `None` where the token skips it.
    pub(super) fn of_tokens(
        logits: Tensor<B, 2>,
        gates: Tensor<B, 2>,
        slots: impl IntoIterator<Item = Option<usize>>,
        balance: Option<Tensor<B, 1>>,
    ) -> Self {
        let mut places = vec![vec![]; logits.dims()[1]];
        let mut dropped = 0;
        for (place, expert) in slots.into_iter().enumerate() {
            match expert {
                Some(expert) => places[expert].push(place),
                None => dropped += 1,
            }
        }
        if dropped > 0 {
            counter::add_activity("expert_rows_dropped", dropped);
        }
        Routing {
            logits,
            gates,
            places,
            left_out: dropped,
            balance,
        }
    }
}

//! Parameters and matrix work of a plan, by formula. Tests hold them against tensors and executed work.
//!
//! All work is in multiply-adds (MACs); one is two FLOPs.

use std::ops::{Add, AddAssign, Mul, Sub};

use super::{
    AttentionPlan, KindWeight, LayerPlan, ModelPlan,
    plan::Projection,
    trainable::{Form, Trainable, matrix_pass},
};
use crate::{
    ops::Band,
    techniques::{attention::Place, dynamic::token_keep::TokenKeep, feed_forward::FeedForwardPlan},
};

/// What wants a gradient on the way through the blocks.
struct Tracked {
    /// The residual stream.
    stream: bool,
    /// What another half has read.
    source: bool,
}

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

    /// The same where nothing goes back through it.
    fn forward_only(self) -> Pass {
        Pass { backward: 0, ..self }
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

impl AttentionPlan {
    /// Multiply-adds of the projections for one token.
    fn projection_macs(&self, width: usize) -> u64 {
        self.macs(width, |_| true)
    }

    /// Multiply-adds of some of the projections for one token.
    pub(super) fn macs(&self, width: usize, which: impl Fn(&Projection) -> bool) -> u64 {
        let of_one = |p: &Projection| (p.input * p.out) as u64;
        self.projections(width)
            .iter()
            .filter(|p| which(p))
            .map(of_one)
            .sum()
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
    /// All weights; of matrices that are stored sparse those that are stored.
    pub fn parameters(&self) -> u64 {
        self.count_parameters(|_, feed_forward, width| feed_forward.parameters(width)) - self.left_out()
    }

    /// Weights that one token of a full-length example passes through; the mean, where that differs from token to token.
    pub fn active_parameters(&self) -> u64 {
        let all = self.count_parameters(|layer, feed_forward, width| {
            feed_forward.active_parameters(width, self.seen(layer, self.context) as u64)
        });
        all - self.left_out_of_met()
    }

    fn count_parameters(&self, feed_forward: impl Fn(usize, &FeedForwardPlan, u64) -> u64) -> u64 {
        let width = self.width as u64;
        let blocks = self.layers.iter().enumerate().map(|(i, layer)| {
            let attention = layer.attention.parameters(self.place(i));
            let cross = layer
                .cross
                .map_or(0, |cross| cross.parameters(self.place(i)) + width);
            let adapters = layer.adapters.map_or(0, |plan| plan.parameters(width));
            attention + cross + feed_forward(i, &layer.feed_forward, width) + adapters + 2 * width
        });
        let reading_norm = if self.kind.reading() > 0 { width } else { 0 };
        let own = self.kind.weights(self).into_iter();
        let own = own.map(|weight| (weight.shape[0] * weight.shape[1]) as u64);
        self.vocabulary as u64 * width + blocks.sum::<u64>() + reading_norm + width + own.sum::<u64>()
    }

    /// One training step of dense weights on `batch` examples of `n` tokens a row, where a text is corrupted `n` before that; where experts have a capacity, with room for every token,
    /// and where rows may be padded, without padding.
    pub fn training_pass(&self, batch: usize, n: usize, trainable: Trainable) -> Pass {
        let mut pass = self.kind.head_pass(self, batch, n, trainable) * self.heads_trained();
        let rows = batch * self.kind.form().texts();
        // the embedding is the first thing of each half that may want a gradient
        let embedded = trainable.others() == Form::Trained;
        let mut tracked = Tracked {
            stream: embedded,
            source: false,
        };
        for i in 0..self.layers.len() {
            if self.kind.reading() > 0 && i == self.kind.reading() {
                tracked = Tracked {
                    stream: embedded,
                    source: tracked.stream || trainable.vectors(),
                };
            }
            let here = trainable.of_block(i, self.layers.len());
            let mut block = self.block_pass(i, rows, n, here, &mut tracked);
            if self.reversible.is_some() {
                // each block is computed once more on the way back
                block.backward += block.forward;
            }
            pass += block;
        }
        pass
    }

    /// What the head that is the embedding has of its own: the scale of the norm before it, where that is a matrix.
    pub(super) fn tied_head_weights(&self) -> Vec<KindWeight> {
        let scale = KindWeight {
            name: "model.norm_scale",
            shape: [self.width; 2],
            small: false,
        };
        self.rotated.then_some(scale).into_iter().collect()
    }

    /// The pass of that head over `tokens`.
    pub(super) fn tied_head_pass(&self, tokens: usize, trainable: Trainable) -> Pass {
        let (tokens, width) = (tokens as u64, self.width as u64);
        let form = trainable.others();
        let head = matrix_pass(tokens, width, self.vocabulary as u64, true, form);
        let scale = matrix_pass(tokens, width, width, true, form) * u64::from(self.rotated);
        head + scale
    }

    /// Times that a training step computes logits: after each exit, and after the last layer.
    fn heads_trained(&self) -> u64 {
        self.early_exit
            .map_or(1, |exits| exits.depths(self.layers.len()).count() as u64)
    }

    /// A forward pass alone, to the last layer's head, on `batch` examples of `n` tokens a row, without what only training does.
    pub fn forward_macs(&self, batch: usize, n: usize) -> u64 {
        let rows = batch * self.kind.form().texts();
        let noise = self.layers.iter().enumerate().filter_map(|(i, layer)| {
            let mixture = layer.feed_forward.mixture()?;
            let more = (mixture.router_matrices() - 1) * mixture.experts * self.width;
            Some((more * rows * self.seen(i, n)) as u64)
        });
        let inner_heads = self.heads_trained() - 1;
        let heads = self.kind.head_pass(self, batch, n, Trainable::All).forward * inner_heads;
        self.training_pass(batch, n, Trainable::All).forward - heads - noise.sum::<u64>()
    }

    /// Multiply-adds of all blocks without the head, forward, on `batch` examples of `n` tokens a row.
    pub(crate) fn blocks_forward(&self, batch: usize, n: usize) -> u64 {
        let all = self.training_pass(batch, n, Trainable::All).forward;
        all - self.kind.head_pass(self, batch, n, Trainable::All).forward
    }

    /// One block of which `here` is trained, over rows of texts of `n` tokens.
    fn block_pass(&self, i: usize, rows: usize, n: usize, here: Trainable, tracked: &mut Tracked) -> Pass {
        let layer = &self.layers[i];
        let (width, read, n) = (self.width as u64, self.seen(0, n), self.seen(i, n));
        let tokens = (rows * n) as u64;
        let adapter_after = |parallel_too: bool, upstream: bool| match layer.adapters {
            Some(plan) if parallel_too || plan.follows_attention() => {
                plan.pass(width, tokens, upstream, here)
            }
            _ => Pass::default(),
        };
        let adapts = layer.adapters.is_some() && here.adapters() == Form::Trained;
        let adapts_attention = adapts && layer.adapters.is_some_and(|plan| plan.follows_attention());

        let normal = tracked.stream || here.vectors();
        let attended = normal || here.before_the_core();
        let mut block = Pass::default();
        for Projection { name, input, out } in layer.attention.projections(self.width) {
            let upstream = if name == "o_proj" { attended } else { normal };
            block += matrix_pass(tokens, input as u64, out as u64, upstream, here.attention());
        }
        let mut core = self.core_pass(i, n);
        if !normal && here.attention() == Form::Frozen {
            // vectors on keys and values alone: queries want no gradient
            core.backward -= layer.attention.core.backward_of_queries(&layer.attention, n);
        }
        let core = core * rows as u64;
        block += if attended { core } else { core.forward_only() };
        block += adapter_after(false, attended);
        tracked.stream |= attended || adapts_attention;

        if let Some(cross) = &layer.cross {
            let queries = tracked.stream || here.vectors();
            let looked = queries || tracked.source || here.before_the_core();
            for projection in cross.projections(self.width) {
                let (input, out) = (projection.input as u64, projection.out as u64);
                let (rows_of_it, upstream) = match projection.name {
                    "o_proj" => (n, looked),
                    _ if projection.is_of_keys() => (read, tracked.source),
                    _ => (n, queries),
                };
                block += matrix_pass((rows * rows_of_it) as u64, input, out, upstream, here.attention());
            }
            let core = cross.core.pass_over_another(cross, n, read) * rows as u64;
            block += if looked { core } else { core.forward_only() };
            tracked.stream |= looked;
        }

        let normal = tracked.stream || here.vectors();
        let network = layer
            .feed_forward
            .training_pass(width, [rows as u64, n as u64], here);
        block += if normal { network } else { network.forward_only() };
        block += adapter_after(true, normal);
        tracked.stream |= normal || adapts;
        block
    }

    /// The attention core of a layer for one row of `n` positions.
    fn core_pass(&self, layer: usize, n: usize) -> Pass {
        let attention = &self.layers[layer].attention;
        if !self.kind.sees_both_ways() || self.looks_across(layer) {
            return attention.core.training_pass(attention, n);
        }
        let mut pass = attention.core.training_pass_both_ways(attention, n);
        let asks = |keep: TokenKeep| keep.asks_attention(layer, self.layers.len());
        if self.tokens.is_some_and(asks) {
            let band = attention.core.band(Band::whole(n, None));
            let pairs = band.map_or(0, |band| band.pairs(n));
            pass.forward += (attention.heads * attention.depth * pairs) as u64;
        }
        pass
    }

    /// Multiply-adds to serve one full-length example: of a kind that writes token by token, after it has read what there
    /// is to read, of other kinds in one pass.
    pub fn serving_macs(&self) -> u64 {
        let reading = self.reading_macs(self.kind.form().read(self.context), self.layers.len());
        if self.kind.writes() {
            return reading + (0..self.capacity()).map(|p| self.decoding_macs(p)).sum::<u64>();
        }
        let head = self.kind.head_pass(self, 1, self.context, Trainable::All).forward;
        self.kind.form().texts() as u64 * reading + head
    }

    /// Multiply-adds to read a row of `n` tokens in both directions with the first `depth` layers, and to compute once what writing looks at.
    pub(super) fn reading_macs(&self, n: usize, depth: usize) -> u64 {
        let (width, at) = (self.width as u64, n + self.kind.leading());
        let layer = |(i, layer): (usize, &LayerPlan)| {
            if let Some(cross) = &layer.cross {
                return n as u64
                    * (cross.macs(self.width, Projection::is_of_keys) - self.left_out_in(i, true));
            }
            if !self.kind.sees_both_ways() {
                return 0;
            }
            let at = self.tokens.map_or(at, |keep| keep.read_by(i, at));
            let core = self.core_pass(i, at).forward;
            let (projections, at) = (layer.attention.projection_macs(self.width), at as u64);
            let networks = layer.feed_forward.serving_macs(width, at);
            let adapters = layer.adapters.map_or(0, |plan| plan.serving_macs(width));
            at * (projections + adapters) + networks - at * self.left_out_in(i, false) + core
        };
        self.layers[..depth].iter().enumerate().map(layer).sum()
    }

    /// Multiply-adds of a kind that writes to take in prompts of `n` tokens at once, to the logits after the last one.
    pub fn prompt_macs(&self, batch: usize, n: usize) -> u64 {
        if n == 1 {
            return self.batch_decoding_macs(batch, 0);
        }
        let head = self.kind.head_pass(self, batch, n, Trainable::All).forward;
        let others = self.forward_macs(batch, n) - head;
        let cores = (0..self.layers.len()).map(|i| {
            let attention = &self.layers[i].attention;
            [
                attention.core.prompt_macs(attention, n),
                self.core_pass(i, n).forward,
            ]
        });
        let [taken, whole] = cores.fold([0; 2], |[a, b], [c, d]| [a + c, b + d]);
        others + batch as u64 * taken - batch as u64 * whole
            + self.tied_head_pass(batch, Trainable::All).forward
    }

    /// Multiply-adds of a kind that writes for the token at `position`, from 0, of a full-length example; where there are exits,
    /// of a token that none of them lets go.
    pub fn decoding_macs(&self, position: usize) -> u64 {
        self.leaving_macs(position, self.layers.len())
    }

    /// The same of those blocks that write among the first `depth`, without a head.
    pub(super) fn blocks_decoding_macs(&self, position: usize, depth: usize) -> u64 {
        let (width, read) = (self.width as u64, self.kind.form().read(self.context));
        let blocks = (self.kind.reading()..depth).map(|i| {
            let layer = &self.layers[i];
            let cross = layer.cross.as_ref().map_or(0, |cross| {
                let core = cross.core.pass_over_another(cross, 1, read).forward;
                core + cross.macs(self.width, |projection| !projection.is_of_keys())
            });
            layer.attention.projection_macs(self.width)
                + layer.attention.core.decoding_macs(&layer.attention, position)
                + cross
                + layer.feed_forward.serving_macs(width, 1)
                + layer.adapters.map_or(0, |plan| plan.serving_macs(width))
                - self.left_out_in(i, false)
        });
        blocks.sum()
    }

    /// Tokens of one full-length example: those that are written where something is written, and otherwise those that are read.
    pub fn served_tokens(&self) -> usize {
        if self.kind.writes() {
            self.capacity()
        } else {
            self.context * self.kind.form().texts()
        }
    }

    /// FLOPs to serve one token, mean over a full-length example.
    pub fn inference_flops_per_token(&self) -> f64 {
        2.0 * self.serving_macs() as f64 / self.served_tokens() as f64
    }

    /// Bytes that a kind which writes remembers of one full-length sequence: of what it has written, and of what it has read;
    /// other kinds remember nothing.
    pub fn state_bytes(&self) -> u64 {
        if !self.kind.writes() {
            return 0;
        }
        let read = self.kind.form().read(self.context);
        let bytes = self.layers[self.kind.reading()..].iter().map(|layer| {
            let attention = &layer.attention;
            let values = attention.core.state_values(attention, self.capacity());
            let remembered = match attention.cache {
                // a row for each head and token
                Some(form) => values / attention.depth as u64 * form.row_bytes(attention.depth),
                None => 4 * values,
            };
            let cross = layer
                .cross
                .map_or(0, |cross| 2 * (cross.kv_heads * cross.depth * read) as u64);
            remembered + 4 * (cross + layer.feed_forward.state_values(self.width as u64))
        });
        bytes.sum()
    }
}

//! Gradients of reversible layers without activations of blocks (2001.04451 §3, 1707.04585).
//!
//! The blocks run without a graph, and only the two streams at their end are kept. From the last block to the first,
//! one part at a time is computed again with a graph: its value gives the stream that it was added to back, its gradient
//! goes into the one that it read. So one part's activations exist at a time, however many blocks there are, for one
//! more forward pass of each block. Where the feed-forward part is chunked, it is one chunk's.

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{
        Int, Tensor,
        backend::{AutodiffBackend, Backend},
    },
};

use crate::{
    counter,
    model::{Angles, Block, Entered, Inputs, Model, Stream, rounded},
    ops::{Lengths, Ops, cross_entropy},
    techniques::reversible::{REVERSED_ACTIVITY, Reversible},
};

#[cfg(test)]
mod tests;

/// The way back: streams and their gradients at one place between blocks, each `[b, n, width]`.
struct Reversal<A: AutodiffBackend> {
    streams: [Tensor<A::InnerBackend, 3>; 2],
    gradients: [Tensor<A::InnerBackend, 3>; 2],
    /// Of the weights so far.
    weights: A::Gradients,
}

/// The loss of a batch, `[1]` on the inner backend, and its gradients.
pub(super) fn gradients<A>(
    model: &Model<A>,
    form: Reversible,
    inputs: Inputs<A>,
    targets: Tensor<A, 1, Int>,
) -> (Tensor<A::InnerBackend, 1>, A::Gradients)
where
    A: AutodiffBackend + Ops,
{
    let (loss, reversal) = reverse(model, form, inputs, targets);
    (loss, reversal.weights)
}

/// Forward and all the way back, to the streams that the embedding gave.
fn reverse<A>(
    model: &Model<A>,
    form: Reversible,
    inputs: Inputs<A>,
    targets: Tensor<A, 1, Int>,
) -> (Tensor<A::InnerBackend, 1>, Reversal<A>)
where
    A: AutodiffBackend + Ops,
{
    let Forward {
        stream,
        auxiliary,
        angles,
        lengths,
    } = counter::without_backward(|| forward(model, inputs.clone()));
    let Stream::Two(streams, _) = stream.clone() else {
        unreachable!("a model of reversible layers has two streams");
    };
    let end = leaf::<A>(stream.end().inner());
    let logits = model.logits(end.clone(), lengths.as_ref());
    let [b, n, vocabulary] = logits.dims();
    let loss = cross_entropy(logits.reshape([b * n, vocabulary]), targets);
    let mut weights = loss.backward();
    let mut loss = loss.inner();
    if let Some(auxiliary) = auxiliary {
        loss = loss + auxiliary.inner();
    }
    // the end is the mean of both
    let gradient = taken(&end, &mut weights) * 0.5;
    let mut reversal = Reversal {
        streams: streams.map(Tensor::inner),
        gradients: [gradient.clone(), gradient],
        weights,
    };
    let trains_embedding = model
        .embedding
        .as_dense()
        .is_some_and(|weight| weight.is_require_grad());
    for (i, block) in model.blocks.iter().enumerate().rev() {
        reversal.undo_feed_forward(block, lengths.as_ref(), form);
        reversal.undo_attention(block, angles.clone(), i > 0 || trains_embedding);
        counter::add_activity(REVERSED_ACTIVITY, 1);
    }
    if trains_embedding {
        let [first, second] = reversal.gradients.clone();
        let rows = model.enter(inputs).x * Tensor::from_inner(first + second);
        reversal.take_in(model, rows.sum().backward());
    }
    (loss, reversal)
}

/// The end of the way through all blocks.
struct Forward<A: Backend> {
    stream: Stream<A>,
    /// Sum of the routers' losses.
    auxiliary: Option<Tensor<A, 1>>,
    angles: Angles<A>,
    lengths: Option<Lengths>,
}

/// Through all blocks, as in a training, with nothing kept.
fn forward<A>(model: &Model<A>, inputs: Inputs<A>) -> Forward<A>
where
    A: AutodiffBackend + Ops,
{
    // on the backend of trainings, where routers draw noise and have a capacity, but without a weight that wants a gradient
    let model = model.clone().no_grad();
    let Entered { x, angles, lengths } = model.enter(inputs);
    let mut stream = Stream::start(x, model.reversible);
    let mut auxiliary: Option<Tensor<A, 1>> = None;
    for block in &model.blocks {
        let (next, more) = stream.through(block, angles.clone(), None);
        stream = next;
        auxiliary = match (auxiliary, more) {
            (Some(sum), Some(more)) => Some(sum + more),
            (sum, more) => sum.or(more),
        };
    }
    Forward {
        stream,
        auxiliary,
        angles,
        lengths,
    }
}

impl<A: AutodiffBackend + Ops> Reversal<A> {
    /// From after a block's feed-forward part to before it: `x2 = y2 - FFN(y1)`.
    fn undo_feed_forward(&mut self, block: &Block<A>, lengths: Option<&Lengths>, form: Reversible) {
        let [b, n, width] = self.streams[0].dims();
        for (from, to) in form.chunks(n) {
            let seen = usize::from(from > 0 && block.feed_forward.looks_back());
            let (here, read) = ([0..b, from..to, 0..width], [0..b, from - seen..to, 0..width]);
            let x = leaf::<A>(self.streams[0].clone().slice(read.clone()));
            let (more, auxiliary) = block.fed_after(x.clone(), seen, lengths);
            let more = rounded(more);
            let before = self.streams[1].clone().slice(here.clone()) - more.clone().inner();
            let mut loss = scalar(more, self.gradients[1].clone().slice(here.clone()));
            if let Some(auxiliary) = auxiliary {
                loss = loss + auxiliary;
            }
            let mut gradients = loss.backward();
            let gradient = self.gradients[0].clone().slice(read.clone()) + taken(&x, &mut gradients);
            change(&mut self.gradients[0], |all| all.slice_assign(read, gradient));
            change(&mut self.streams[1], |all| all.slice_assign(here, before));
            self.take_in(block, gradients);
        }
    }

    /// From after a block's attention to before it: `x1 = y1 - Attn(x2)`; `upstream` tells whether anything before it is trained.
    fn undo_attention(&mut self, block: &Block<A>, angles: Angles<A>, upstream: bool) {
        let x = Tensor::<A, 3>::from_inner(self.streams[1].clone()).set_require_grad(upstream);
        let more = rounded(block.attended(x.clone(), angles, None));
        let value = more.clone().inner();
        change(&mut self.streams[0], |after| after - value);
        let mut gradients = scalar(more, self.gradients[0].clone()).backward();
        if upstream {
            let gradient = taken(&x, &mut gradients);
            change(&mut self.gradients[1], |all| all + gradient);
        }
        self.take_in(block, gradients);
    }

    /// Adds the gradients of a module's weights to those of all.
    fn take_in(&mut self, module: &impl Module<A>, from: A::Gradients) {
        module.visit(&mut Move {
            from,
            to: &mut self.weights,
        });
    }
}

/// Moves gradients of weights from one graph's to another's.
struct Move<'a, A: AutodiffBackend> {
    from: A::Gradients,
    to: &'a mut A::Gradients,
}

impl<A: AutodiffBackend> ModuleVisitor<A> for Move<'_, A> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
        let weight = param.val();
        let Some(more) = weight.grad_remove(&mut self.from) else {
            return;
        };
        let sum = match weight.grad_remove(self.to) {
            Some(before) => before + more,
            None => more,
        };
        weight.grad_replace(self.to, sum);
    }
}

/// The beginning of a graph.
pub(super) fn leaf<A: AutodiffBackend>(x: Tensor<A::InnerBackend, 3>) -> Tensor<A, 3> {
    Tensor::from_inner(x).require_grad()
}

/// A number, `[1]`, whose gradient by `y` is `gradient`.
pub(super) fn scalar<A: AutodiffBackend>(
    y: Tensor<A, 3>,
    gradient: Tensor<A::InnerBackend, 3>,
) -> Tensor<A, 1> {
    (y * Tensor::from_inner(gradient)).sum()
}

/// The gradient of a leaf.
pub(super) fn taken<A: AutodiffBackend>(
    leaf: &Tensor<A, 3>,
    gradients: &mut A::Gradients,
) -> Tensor<A::InnerBackend, 3> {
    let gradient = leaf.grad_remove(gradients);
    gradient.unwrap_or_else(|| leaf.clone().inner().zeros_like())
}

/// Changes a tensor that is taken out of its place, so that the change finds itself the only owner.
fn change<B: Backend>(place: &mut Tensor<B, 3>, change: impl FnOnce(Tensor<B, 3>) -> Tensor<B, 3>) {
    let empty = Tensor::empty([0; 3], &place.device());
    *place = change(std::mem::replace(place, empty));
}

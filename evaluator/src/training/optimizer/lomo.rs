//! LOMO (2306.09782): gradient descent on the way back, so that gradients of all weights never exist at once.
//!
//! An automatic way back gives all gradients together. Here blocks run without a graph first, and only what each was given
//! is kept; from the last block to the first, one is computed again with a graph, its weights are changed, and their
//! gradients are gone. Clipping by the norm of all gradients wants that norm before the first change (§3.3 there): the way
//! back is gone twice, the first time to measure it.

use std::collections::BTreeMap;

use burn::{
    module::Module,
    tensor::{Tensor, backend::AutodiffBackend},
};

use super::{Rates, collect, sgd};
use crate::{
    counter,
    model::{Angles, Entered, Inputs, Model, Parts, Stream},
    ops::{Lengths, Ops, total_norm},
    plan::TrainingPlan,
    training::{
        reversible::{leaf, scalar, taken},
        step::Task,
    },
};

/// The table that is used at both ends of a decoder, and so changed at the end of the way back.
const EMBEDDING: &str = "model.embed_tokens.weight";

/// What is done with the gradients of a part, which are gone afterwards.
enum Act {
    /// The sum of their squares is taken.
    Measure(f64),
    /// The part is changed by them, with a factor on gradients and a decay of matrices.
    Change(f64, f64),
}

impl Act {
    fn take<A>(
        &mut self,
        part: &mut impl Parts<A>,
        gradients: BTreeMap<String, Tensor<A::InnerBackend, 1>>,
        rates: &Rates,
    ) where
        A: AutodiffBackend,
        A::InnerBackend: Ops,
    {
        match self {
            Act::Measure(squares) => *squares += total_norm(gradients.values()).powi(2),
            Act::Change(scale, decay) => sgd::step(part, gradients, (rates, *scale), *decay),
        }
    }
}

/// What the way there keeps.
struct Kept<A: AutodiffBackend> {
    /// What each block is given and what the last one gives, `[rows, n, width]` each.
    streams: Vec<Tensor<A::InnerBackend, 3>>,
    angles: Angles<A>,
    lengths: Option<Lengths>,
    /// Sum of the routers' losses.
    auxiliary: Option<Tensor<A::InnerBackend, 1>>,
}

/// One step; gives its loss, `[1]`.
pub(in crate::training) fn step<A>(
    model: &mut Model<A>,
    task: &Task<A>,
    rate: f64,
    plan: &TrainingPlan,
) -> Tensor<A::InnerBackend, 1>
where
    A: AutodiffBackend + Ops,
    A::InnerBackend: Ops,
{
    let kept = counter::without_backward(|| there(model, task.inputs.clone()));
    let rates = Rates::of(model, rate, plan.layer_decay);
    let mut measure = Act::Measure(0.0);
    back(model, &kept, task, &mut measure, &rates);
    let norm = match measure {
        Act::Measure(squares) => squares.sqrt(),
        Act::Change(..) => unreachable!("it measures"),
    };
    let mut change = Act::Change(plan.clipping(norm), plan.weight_decay);
    let loss = back(model, &kept, task, &mut change, &rates);
    match kept.auxiliary {
        Some(auxiliary) => loss + auxiliary,
        None => loss,
    }
}

/// Through all blocks without a graph.
fn there<A: AutodiffBackend + Ops>(model: &Model<A>, inputs: Inputs<A>) -> Kept<A> {
    let model = model.clone().no_grad();
    let Entered { x, angles, lengths } = model.enter(inputs);
    let mut streams = vec![x.clone().inner()];
    let (mut stream, mut auxiliary) = (Stream::One(x), None);
    for block in &model.blocks {
        let (next, more) = stream.through(block, angles.clone(), None);
        streams.push(next.clone().end().inner());
        stream = next;
        auxiliary = match (auxiliary, more.map(Tensor::inner)) {
            (Some(sum), Some(more)) => Some(sum + more),
            (sum, more) => sum.or(more),
        };
    }
    Kept {
        streams,
        angles,
        lengths,
        auxiliary,
    }
}

/// All the way back; gives the loss of what is asked, `[1]`.
fn back<A>(
    model: &mut Model<A>,
    kept: &Kept<A>,
    task: &Task<A>,
    act: &mut Act,
    rates: &Rates,
) -> Tensor<A::InnerBackend, 1>
where
    A: AutodiffBackend + Ops,
    A::InnerBackend: Ops,
{
    let blocks = model.blocks.len();
    let end = leaf::<A>(kept.streams[blocks].clone());
    let logits = model.logits(end.clone(), kept.lengths.as_ref());
    let loss = task.loss_of(logits);
    let value = loss.clone().inner();
    let mut gradients = loss.backward();
    let mut gradient = taken(&end, &mut gradients);
    let mut collected = collect(model, &mut gradients);
    let of_head = collected.remove(EMBEDDING);
    act.take(model, collected, rates);
    let given = model.blocks.iter_mut().zip(&kept.streams[..blocks]);
    for (i, (block, x)) in given.enumerate().rev() {
        let x = leaf::<A>(x.clone());
        let (y, auxiliary) = Stream::One(x.clone()).through(block, kept.angles.clone(), None);
        let mut loss = scalar(y.end(), gradient);
        if let Some(auxiliary) = auxiliary {
            loss = loss + auxiliary;
        }
        let mut gradients = loss.backward();
        gradient = taken(&x, &mut gradients);
        let collected = collect(block, &mut gradients);
        act.take(block, collected, &rates.of_block(i));
    }
    let rows = model.enter(task.inputs.clone()).x * Tensor::from_inner(gradient);
    let mut collected = collect(model, &mut rows.sum().backward());
    if let (Some(of_head), Some(of_rows)) = (of_head, collected.get_mut(EMBEDDING)) {
        *of_rows = of_rows.clone() + of_head;
    }
    act.take(model, collected, rates);
    value
}

//! Batches, losses and gradients.

use burn::{
    module::AutodiffModule,
    tensor::{
        Int, Tensor, TensorData,
        backend::{AutodiffBackend, Backend},
    },
};

use super::{batches::Batches, reversible};
use crate::{
    data::Batch,
    model::{Inputs, Model},
    ops::{Lengths, Ops, cross_entropy},
    techniques::{
        distillation::{Teacher, Told},
        quantization::{QuantizationPlan, qat},
    },
};

/// Held-out tokens behind a point of the learning curve.
const QUICK_TOKENS: usize = 4096;

/// Inputs and targets on the device.
pub(crate) fn to_device<B: Backend>(batch: Batch, device: &B::Device) -> (Inputs<B>, Tensor<B, 1, Int>) {
    let Batch {
        batch,
        context,
        inputs,
        lengths,
        written,
        targets,
    } = batch;
    let rows = |ids: Vec<u32>, n: usize| {
        let ids: Vec<i32> = ids.into_iter().map(|t| t as i32).collect();
        Tensor::from_data(TensorData::new(ids, [batch, n]), device)
    };
    let tokens = rows(inputs, context);
    let n = written.len() / batch;
    let is_padded = lengths.iter().any(|n| *n < context);
    let inputs = Inputs {
        tokens,
        lengths: is_padded.then(|| Lengths::new(lengths)),
        written: (n > 0).then(|| rows(written, n)),
    };
    let n = targets.len();
    (inputs, Tensor::from_data(TensorData::new(targets, [n]), device))
}

/// A teacher, and what it tells of a batch.
type Taught<'a, B> = (&'a Teacher<B>, Told<B>);

/// A training batch on the device, with what a teacher says of it where there is one.
pub(super) struct Task<'a, A: AutodiffBackend> {
    pub(super) inputs: Inputs<A>,
    targets: Tensor<A, 1, Int>,
    told: Option<Taught<'a, A::InnerBackend>>,
    /// Whether the model has written the texts itself.
    is_own: bool,
}

impl<'a, A: AutodiffBackend + Ops> Task<'a, A> {
    /// The batch of a step, for a model as it is before it; of its own writing where a teacher asks for that.
    pub(super) fn of_step(
        model: &Model<A>,
        batches: &Batches,
        step: u64,
        teacher: Option<&'a Teacher<A::InnerBackend>>,
    ) -> Self
    where
        A::InnerBackend: Ops,
    {
        let device = &model.device();
        let asking = teacher.filter(|teacher| teacher.asks_for_own_text(step));
        let batch = match (batches.of_step(step), asking) {
            (batch, Some(teacher)) => teacher.own_text(&model.valid(), batch, batches.seed, step),
            (batch, None) => batch,
        };
        let told = teacher.map(|teacher| {
            let inputs = to_device::<A::InnerBackend>(batch.clone(), device).0;
            (teacher, teacher.tell(inputs))
        });
        let (inputs, targets) = to_device(batch, device);
        Task {
            inputs,
            targets,
            told,
            is_own: asking.is_some(),
        }
    }

    /// What a training of the model makes small, `[1]`: its loss at every depth at which a text can leave, and those of its
    /// routers.
    pub(super) fn loss(&self, model: &Model<A>) -> Tensor<A, 1> {
        let inputs = self.inputs.clone();
        let (loss, auxiliary) = match model.exits {
            Some(exits) => {
                let (depths, auxiliary) = model.forward_at_exits(inputs);
                let losses = depths.into_iter().map(|logits| self.loss_of(logits));
                let weighted = losses.zip(exits.weights(model.blocks.len()));
                let sum = weighted.map(|(loss, weight)| loss * weight).reduce(|a, b| a + b);
                (sum.expect("there is a last layer"), auxiliary)
            }
            None => {
                let forward = model.forward(inputs);
                (self.loss_of(forward.logits), forward.auxiliary)
            }
        };
        let inside = self.told.as_ref();
        let inside = inside.and_then(|(teacher, told)| teacher.loss_inside(model, told));
        inside
            .into_iter()
            .chain(auxiliary)
            .fold(loss, |sum, more| sum + more)
    }

    /// The loss of logits `[b, n, outputs]` after any layer, `[1]`.
    pub(super) fn loss_of(&self, logits: Tensor<A, 3>) -> Tensor<A, 1> {
        let [b, n, outputs] = logits.dims();
        let logits = logits.reshape([b * n, outputs]);
        if let Some((teacher, told)) = self.told.as_ref().filter(|_| self.is_own) {
            let loss = teacher.loss_of_outputs(logits, told, self.targets.clone());
            return loss.expect("own texts are asked for where outputs are learnt");
        }
        let loss = cross_entropy(logits.clone(), self.targets.clone());
        match &self.told {
            Some((teacher, told)) => teacher.loss(loss, logits, told, self.targets.clone()),
            None => loss,
        }
    }

    /// Its loss, `[1]` on the inner backend, and its gradients.
    fn gradients(self, model: &Model<A>) -> (Tensor<A::InnerBackend, 1>, A::Gradients) {
        if let Some(form) = model.reversible {
            return reversible::gradients(model, form, self.inputs, self.targets);
        }
        let loss = self.loss(model);
        let value = loss.clone().inner();
        (value, loss.backward())
    }
}

/// The loss of one training batch, `[1]` on the inner backend, and its gradients; from a teacher too, where there is one.
pub(crate) fn gradients<A>(
    model: &Model<A>,
    batches: &Batches,
    step: u64,
    teacher: Option<&Teacher<A::InnerBackend>>,
) -> (Tensor<A::InnerBackend, 1>, A::Gradients)
where
    A: AutodiffBackend + Ops,
    A::InnerBackend: Ops,
{
    Task::of_step(model, batches, step, teacher).gradients(model)
}

/// The loss of a batch, `[1]` on the inner backend, and its gradients.
pub fn gradients_of<A>(model: &Model<A>, batch: Batch) -> (Tensor<A::InnerBackend, 1>, A::Gradients)
where
    A: AutodiffBackend + Ops,
{
    let (inputs, targets) = to_device::<A>(batch, &model.device());
    let task = Task {
        inputs,
        targets,
        told: None,
        is_own: false,
    };
    task.gradients(model)
}

/// Sums over what is scored of held-out data.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scores {
    /// Sum of the losses in nats.
    pub(crate) loss: f64,
    /// Times that the most likely output is the right one.
    pub(crate) right: u64,
    /// Targets that are scored.
    pub(crate) scored: u64,
}

/// Scores a model on held-out data.
pub(crate) fn score<B: Ops>(model: &Model<B>, batches: &Batches, max_tokens: usize) -> Scores {
    score_on(
        model,
        batches.data.validation(batches.batch, batches.rows, max_tokens),
    )
}

/// Scores a model on these batches.
pub(crate) fn score_on<B: Ops>(model: &Model<B>, batches: impl IntoIterator<Item = Batch>) -> Scores {
    let mut scores = Scores::default();
    for batch in batches {
        let scored = batch.scored() as u64;
        let (inputs, targets) = to_device::<B>(batch, &model.device());
        let logits = model.forward(inputs).logits;
        let [b, n, outputs] = logits.dims();
        let logits = logits.reshape([b * n, outputs]);
        let chosen = logits.clone().argmax(1).squeeze_dim::<1>(1);
        let right = chosen
            .equal(targets.clone())
            .int()
            .sum()
            .into_data()
            .iter::<i64>()
            .sum::<i64>();
        scores.right += right as u64;
        scores.loss += f64::from(cross_entropy(logits, targets).into_scalar_f32()) * scored as f64;
        scores.scored += scored;
    }
    scores
}

/// Mean loss on what is scored of a few held-out tokens, and how much that is; of weights as they are rounded, where they are.
pub(super) fn quick_loss<A>(
    model: &Model<A>,
    batches: &Batches,
    rounding: Option<QuantizationPlan>,
) -> (f64, u64)
where
    A: AutodiffBackend + Ops,
    A::InnerBackend: Ops,
{
    let mut model = model.valid();
    if let Some(packing) = rounding {
        qat::round(&mut model, packing);
    }
    let scores = score(&model, batches, QUICK_TOKENS);
    (scores.loss / scores.scored.max(1) as f64, scores.scored)
}

/// Reads a one-element tensor.
pub(crate) trait IntoF32 {
    /// The element; waits for the device.
    fn into_scalar_f32(self) -> f32;
}

impl<B: Backend> IntoF32 for Tensor<B, 1> {
    fn into_scalar_f32(self) -> f32 {
        self.into_data().iter::<f32>().next().unwrap_or(f32::NAN)
    }
}

//! Has a trained model show how much each of its structures matters, on batches of training data or by its weights alone.

use burn::{module::AutodiffModule, tensor::backend::AutodiffBackend};

use super::{
    Criterion, Importance, LayerImportance, PruningPlan, activation, influence, latency, magnitude, slice,
    taylor,
};
use crate::{
    counter,
    model::{Model, ModelPlan, Trainable},
    ops::Ops,
    techniques::calibration,
    training::{Batches, Beside, gradients_of},
};

/// Batches that importance is judged on before pruning.
pub(super) const BATCHES: u64 = 8;
impl PruningPlan {
    /// Whether structures inside of blocks are removed, which the criterion is asked about.
    fn cuts_blocks(&self) -> bool {
        self.neurons > 0.0 || self.heads > 0.0 || self.latency.is_some()
    }

    /// Whether gradients are asked.
    fn judges_by_gradient(&self) -> bool {
        self.cuts_blocks() && self.criterion == Criterion::Taylor
    }

    /// Whether outputs of structures are watched.
    fn judges_by_activation(&self) -> bool {
        self.cuts_blocks() && self.criterion == Criterion::Activation
    }

    /// Multiply-adds to judge a model on batches of `batch` examples of `n` tokens a row.
    pub(crate) fn judging_macs(&self, model: &ModelPlan, batch: usize, n: usize) -> u64 {
        let mut each = 0;
        if self.judges_by_gradient() {
            each += model.training_pass(batch, n, Trainable::All).total();
        }
        if self.judges_by_activation() || self.layers > 0.0 {
            each += model.forward_macs(batch, n);
        }
        let mut macs = BATCHES * each;
        if self.latency.is_some() {
            macs += latency::macs(model, batch, n);
        }
        if self.width > 0.0 {
            let whole = PruningPlan { width: 0.0, ..*self };
            let (whole, narrow) = (whole.pruned(model), self.pruned(model));
            // plans of what cannot be pruned were refused before
            if let (Ok(whole), Ok(narrow)) = (whole, narrow) {
                macs += slice::macs(&whole, narrow.width, batch, n);
            }
        }
        macs
    }
}

/// How much every structure matters that `plan` removes some of, in a trained model of this shape.
pub fn judge<A>(model: &mut Model<A>, plan: PruningPlan, shape: &ModelPlan, batches: &Batches) -> Importance
where
    A: AutodiffBackend + Ops,
    A::InnerBackend: Ops,
{
    let attention = shape.layers.first().map(|l| l.attention);
    let (depth, share) = attention.map_or((1, 1), |a| (a.depth, a.share()));
    let mut reader = model.valid();
    if plan.judges_by_activation() {
        activation::watch(&mut reader);
    }
    if plan.layers > 0.0 {
        influence::watch(&mut reader);
    }
    if plan.judges_by_activation() || plan.layers > 0.0 {
        read(&reader, batches);
    }
    let mut importance = if plan.judges_by_activation() {
        activation::importance(&mut reader, depth, share)
    } else if plan.judges_by_gradient() {
        let mut sum = None;
        for batch in batches.beside(Beside::Importance, BATCHES) {
            let (_, of_batch) = gradients_of(model, batch);
            sum = Some(taylor::add_batch(sum, model, &of_batch, depth, share));
        }
        sum.unwrap_or_default()
    } else if plan.cuts_blocks() {
        magnitude::importance(model, depth, share)
    } else {
        Importance {
            layers: vec![LayerImportance::default(); model.blocks.len()],
        }
    };
    if plan.layers > 0.0 {
        let influences = influence::influences(&reader);
        for (layer, influence) in importance.layers.iter_mut().zip(influences) {
            layer.influence = influence;
        }
    }
    importance
}

/// Has the model read the batches that judge.
pub(super) fn read<B: Ops>(model: &Model<B>, batches: &Batches) {
    // nothing goes back through what is only read
    counter::without_backward(|| calibration::read(model, batches.beside(Beside::Importance, BATCHES)));
}

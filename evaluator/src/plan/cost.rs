//! Steps and FLOPs of a whole training, which follow from its plan alone.

use super::{Budget, Plan, TrainingPlan};
use crate::model::{ModelPlan, Trainable};

impl Plan {
    /// Optimizer steps of the recovery after pruning, for a main training of `steps`.
    pub fn recovery_steps(&self, steps: u64) -> u64 {
        share_of(self.pruning.map_or(0.0, |p| p.recovery), steps)
    }

    /// Optimizer steps with rounded weights, for a main training of `steps`.
    pub fn rounded_steps(&self, steps: u64) -> u64 {
        share_of(self.qat, steps)
    }

    /// Steps that recovery is a share of, after so many steps of this part of the training: of a base that is not trained, those
    /// of its budget.
    pub(crate) fn steps_to_share(&self, trained: u64, part: f64) -> u64 {
        match self.training.budget {
            Budget::Steps(steps) if self.trainable().is_none() => {
                ((part * steps as f64).ceil() as u64).max(1)
            }
            _ => trained,
        }
    }

    /// Steps of the main training, where it and the recovery after pruning took so many together.
    pub(crate) fn main_steps(&self, together: u64) -> u64 {
        let is_main = |main: &u64| main + self.recovery_steps(*main) >= together;
        (0..together).find(is_main).unwrap_or(together)
    }

    /// Whether [`Plan::training_flops`] is what a training executes; where experts have a capacity, attention leaves out
    /// padding, or a rank is drawn for each step, it is the most, because what is left out costs nothing. So it is where
    /// sizes of layers are found after training, because smaller ones cost less.
    pub fn training_flops_are_exact(&self) -> bool {
        !self.model.kind.form().pads()
            && !self.finds_sizes()
            && !self.model.layers.iter().any(|l| l.feed_forward.may_drop())
            && self.fine_tuning.is_none_or(|method| method.has_one_cost())
    }

    /// FLOPs of the whole training for a main training of `steps`: choosing weights, training, judging importance and slicing, recovery, training with rounded weights, finding single weights to remove, calibration, lessons of predictors.
    pub fn training_flops(&self, steps: u64) -> u64 {
        let TrainingPlan {
            batch, rows, rule, ..
        } = self.training;
        let training =
            |model: &ModelPlan, steps, trainable| rule.macs(model, steps, [batch, rows.context], trainable);
        let chosen = self
            .fine_tuning
            .map_or(0, |method| method.macs_before(&self.model, rows.context));
        let taught = |student: &ModelPlan, teacher: &ModelPlan, steps| {
            let rows = [batch, rows.context];
            self.distillation
                .map_or(0, |plan| plan.macs(student, teacher, steps, rows))
        };
        let from_teacher = self
            .teacher
            .as_ref()
            .map_or(0, |teacher| taught(&self.model, teacher, steps));
        let main = self.trainable().map_or(0, |trainable| {
            let first = self.fine_tuning.map_or(0, |method| method.head_steps(steps));
            let heads = training(&self.model, first, Trainable::Head);
            heads + training(&self.model, steps - first, trainable) + from_teacher
        });
        let judged = self
            .pruning
            .map_or(0, |plan| plan.judging_macs(&self.model, batch, rows.context));
        let teacher = self.teacher.as_ref().unwrap_or(&self.model);
        let again = |steps| training(&self.served, steps, Trainable::All);
        let recovering = self.recovery_steps(steps);
        let recovery = again(recovering) + taught(&self.recovered(), teacher, recovering);
        let rounded = again(self.rounded_steps(steps));
        let sparsity = self.sparsity.map_or(0, |plan| {
            again(plan.recovery_steps(steps)) + plan.macs(&self.served, batch, rows.context)
        });
        let packing = self
            .quantization
            .map_or(0, |plan| plan.macs(&self.served, batch, rows.context));
        let lessons = self
            .contextual
            .map_or(0, |keep| keep.macs(&self.served, batch, rows.context));
        2 * (chosen + main + judged + recovery + rounded + sparsity + packing + lessons)
    }
}

/// A share of some steps, at least one where it is not 0.
fn share_of(share: f64, steps: u64) -> u64 {
    if share > 0.0 {
        ((share * steps as f64).round() as u64).max(1)
    } else {
        0
    }
}

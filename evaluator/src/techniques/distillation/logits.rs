//! Distillation of logits (Hinton et al., 1503.02531): `τ² KL(p_T^τ ‖ p_S^τ)`, whose gradient for the student's logits is
//! `τ (p_S^τ − p_T^τ)` and so stays of one size as the temperature grows.

use burn::tensor::{
    Int, Tensor,
    activation::{log_softmax, softmax},
    backend::Backend,
};

use super::About;

pub(super) const ABOUT: About = About {
    name: "logits",
    doc: "the probabilities of a teacher",
    paper: "1503.02531",
};

/// The mean over the rows that are scored, `[1]`, of `student` and `teacher` `[rows, outputs]`; `targets [rows]` are below 0
/// where a row is not scored. The teacher's logits are constants.
pub(super) fn loss<B: Backend>(
    student: Tensor<B, 2>,
    teacher: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    temperature: f64,
) -> Tensor<B, 1> {
    let teacher = teacher.detach() / temperature;
    let p = softmax(teacher.clone(), 1);
    let apart = log_softmax(teacher, 1) - log_softmax(student / temperature, 1);
    mean_of_scored(p * apart, targets) * temperature.powi(2)
}

/// The mean over the rows that are scored, `[1]`, of the sums of rows of `x [rows, outputs]`.
pub(super) fn mean_of_scored<B: Backend>(x: Tensor<B, 2>, targets: Tensor<B, 1, Int>) -> Tensor<B, 1> {
    let rows = x.sum_dim(1).squeeze_dim::<1>(1);
    let scored = targets.greater_equal_elem(0).float();
    let count = scored.clone().sum().clamp_min(1.0);
    (rows * scored).sum() / count
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{both, nothing_is_learnt_from_who_agrees, one, row},
        *,
    };

    #[test]
    fn loss_and_gradient_are_the_golden_ones() {
        let (value, gradient) = both(loss, [1.0, 2.0, 3.0], [2.0, 1.0, 0.0], 4.0);
        assert!((value - 1.31963).abs() < 1e-4, "{value}");
        for (found, golden) in gradient.iter().zip([-0.65981, 0.0, 0.65981]) {
            assert!((found - golden).abs() < 1e-5, "{gradient:?}");
        }
    }

    #[test]
    fn who_agrees_has_nothing_to_learn() {
        nothing_is_learnt_from_who_agrees(loss);
    }

    #[test]
    fn at_high_temperatures_logits_are_matched() {
        // centred logits: the gradient tends to their difference over the number of outputs
        let (_, gradient) = both(loss, [1.0, 0.0, -1.0], [-0.5, 1.5, -1.0], 1000.0);
        for (found, expected) in gradient.iter().zip([0.5, -0.5, 0.0]) {
            assert!((found - expected).abs() < 2e-3, "{gradient:?}");
        }
    }

    #[test]
    fn rows_that_are_not_scored_teach_nothing() {
        let student = Tensor::cat(vec![row([1.0, 2.0, 3.0]), row([5.0, 0.0, 0.0])], 0);
        let teacher = Tensor::cat(vec![row([2.0, 1.0, 0.0]), row([0.0, 0.0, 9.0])], 0);
        let targets = Tensor::cat(vec![one(2), one(-1)], 0);
        let value = loss(student, teacher, targets, 4.0).into_data();
        assert!((value.iter::<f64>().next().unwrap() - 1.31963).abs() < 1e-4);
    }
}

//! Reverse divergence (`MiniLLM`, 2306.08543): `τ² KL(p_S^τ ‖ p_T^τ)`, which a student keeps small by leaving out what the teacher
//! finds unlikely, rather than by covering all that it finds likely.
//!
//! It is taken at the data's positions, and where `distill_own_text` asks for it, as the paper does, at those of texts that the
//! student has written.

use burn::tensor::{Int, Tensor, activation::log_softmax, backend::Backend};

use super::{About, logits::mean_of_scored};

pub(super) const ABOUT: About = About {
    name: "reverse_kl",
    doc: "the probabilities of a teacher, what it finds unlikely first; on the student's own texts too, as distill_own_text says",
    paper: "2306.08543",
};

/// The mean over the rows that are scored, `[1]`, of `student` and `teacher` `[rows, outputs]`; `targets [rows]` are below 0
/// where a row is not scored. The teacher's logits are constants.
pub(super) fn loss<B: Backend>(
    student: Tensor<B, 2>,
    teacher: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    temperature: f64,
) -> Tensor<B, 1> {
    let student = log_softmax(student / temperature, 1);
    let teacher = log_softmax(teacher.detach() / temperature, 1);
    let rows = student.clone().exp() * (student - teacher);
    mean_of_scored(rows, targets) * temperature.powi(2)
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{both, nothing_is_learnt_from_who_agrees},
        *,
    };

    #[test]
    fn loss_and_gradient_are_those_of_the_formula() {
        let (student, teacher, t) = ([1.0f32, 2.0, 3.0], [2.0f32, 0.5, 0.0], 2.0f64);
        let probabilities = |z: [f32; 3]| {
            let e = z.map(|z| (f64::from(z) / t).exp());
            e.map(|x| x / e.iter().sum::<f64>())
        };
        let (p, q) = (probabilities(student), probabilities(teacher));
        let apart: Vec<f64> = (0..3).map(|i| (p[i] / q[i]).ln()).collect();
        let divergence: f64 = (0..3).map(|i| p[i] * apart[i]).sum();
        let (value, gradient) = both(loss, student, teacher, t);
        assert!((value - t * t * divergence).abs() < 1e-5, "{value}");
        for i in 0..3 {
            let expected = t * p[i] * (apart[i] - divergence);
            assert!((gradient[i] - expected).abs() < 1e-5, "{gradient:?}");
        }
    }

    #[test]
    fn who_agrees_has_nothing_to_learn() {
        nothing_is_learnt_from_who_agrees(loss);
    }

    #[test]
    fn what_the_teacher_finds_unlikely_costs_more_than_what_the_student_leaves_out() {
        // a teacher of two ways: a student of one of them is better off than one that lies between
        let teacher = [3.0, 3.0, -3.0];
        let (one_way, between) = (
            both(loss, [6.0, -3.0, -3.0], teacher, 1.0).0,
            both(loss, [1.0, 1.0, 1.0], teacher, 1.0).0,
        );
        assert!(one_way < between, "{one_way} {between}");
    }
}

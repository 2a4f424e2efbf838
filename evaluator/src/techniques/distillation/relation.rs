//! Distillation of relations (`MiniLM`, 2002.10957): with `R = softmax(V Vᵀ / √d)` of the last layer's values, the mean over
//! heads and tokens of `KL(R_T ‖ R_S)`. Values have no width in it, so those of a student may be fewer.
//!
//! Where both have as many heads, each is compared with its own. Otherwise all heads are joined to one, as their successor does
//! before it cuts them anew (2012.15828). Relations are between all tokens of a row, whatever attention sees of them. The values
//! are projected once more from what the last block is given, so that no other pass has to keep them.

use burn::tensor::{
    Tensor,
    activation::{log_softmax, softmax},
    backend::Backend,
};

use super::{About, streams::mean_of_present};
use crate::{
    model::{Form, ModelPlan, matrix_pass},
    ops::{Lengths, Ops, matmul},
};

pub(super) const ABOUT: About = About {
    name: "relation",
    doc: "how alike the values of tokens are in a teacher's last layer",
    paper: "2002.10957",
};

/// Is added where there is padding, so that nothing is said of it.
const NEVER: f32 = -1e9;

/// Multiply-adds of a step on rows of `n` tokens, `rows` of them.
pub(super) fn macs(student: &ModelPlan, teacher: &ModelPlan, rows: usize, n: usize) -> u64 {
    let last = |plan: &ModelPlan| {
        let layer = plan.layers.len() - 1;
        let (attention, seen) = (plan.layers[layer].attention, plan.seen(layer, n));
        let out = attention.kv_heads * attention.depth;
        let tokens = (rows * seen) as u64;
        let projected = matrix_pass(tokens, plan.width as u64, out as u64, true, Form::Trained);
        (projected, tokens * (seen * out) as u64)
    };
    let ((student, of_student), (teacher, of_teacher)) = (last(student), last(teacher));
    student.total() + 3 * of_student + teacher.forward + of_teacher
}

/// The heads that values `[b, n, heads, depth]` of both are compared in.
fn heads<B: Backend, C: Backend>(student: &Tensor<B, 4>, teacher: &Tensor<C, 4>) -> usize {
    match (student.dims()[2], teacher.dims()[2]) {
        (ours, theirs) if ours == theirs => ours,
        _ => 1,
    }
}

/// How alike values are, before the softmax, `[b, heads, n, n]`; nothing is alike to padding.
fn alike<B: Ops>(v: Tensor<B, 4>, heads: usize, lengths: Option<&Lengths>) -> Tensor<B, 4> {
    let [b, n, all, depth] = v.dims();
    let depth = all * depth / heads;
    let v = v.reshape([b, n, heads, depth]).swap_dims(1, 2);
    let scores = matmul(v.clone(), v.swap_dims(2, 3)) / (depth as f64).sqrt();
    match lengths {
        None => scores,
        Some(lengths) => {
            let absent = lengths.absent::<B>(0..n, &scores.device()).float() * NEVER;
            scores + absent.reshape([b, 1, 1, n])
        }
    }
}

/// The mean over heads and tokens that are no padding, `[1]`, of values `[b, n, heads, depth]`. The teacher's are constants.
pub(super) fn loss<B: Ops>(
    student: Tensor<B, 4>,
    teacher: Tensor<B, 4>,
    lengths: Option<&Lengths>,
) -> Tensor<B, 1> {
    let heads = heads(&student, &teacher);
    let teacher = alike(teacher, heads, lengths);
    let student = log_softmax(alike(student, heads, lengths), 3);
    let p = softmax(teacher.clone(), 3);
    let apart = (p * (log_softmax(teacher, 3) - student))
        .sum_dim(3)
        .squeeze_dim::<3>(3);
    let apart = apart.mean_dim(1).squeeze_dim::<2>(1);
    mean_of_present(apart, lengths)
}

#[cfg(test)]
mod tests {
    use burn::{backend::Flex, tensor::TensorData};

    use super::*;
    use crate::training::IntoF32;

    fn values(values: Vec<f32>, shape: [usize; 4]) -> Tensor<Flex, 4> {
        Tensor::from_data(TensorData::new(values, shape), &Default::default())
    }

    #[test]
    fn it_is_the_divergence_of_relations_whatever_their_width() {
        // one head, two tokens: relations softmax(1, 0), softmax(0, 4) and softmax(2, 0), softmax(0, 2)
        let teacher = values(vec![1.0, 0.0, 0.0, 2.0], [1, 2, 1, 2]) * 2f64.powf(0.25);
        let student = values(vec![1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0], [1, 2, 1, 4]) * 2f64.sqrt();
        let first = |apart: f64| 1.0 / (1.0 + (-apart).exp());
        let divergence = |p: f64, q: f64| p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
        let expected = (divergence(first(1.0), first(2.0)) + divergence(first(4.0), first(2.0))) / 2.0;
        let found = f64::from(loss(student, teacher, None).into_scalar_f32());
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }

    #[test]
    fn who_agrees_has_nothing_to_learn_and_padding_teaches_nothing() {
        let same = values((0..24).map(|i| (i as f32).sin()).collect(), [2, 3, 2, 2]);
        let found = loss(same.clone(), same.clone(), None).into_scalar_f32();
        assert!(found.abs() < 1e-6, "{found}");
        // the last token of the second row is padding
        let lengths = Lengths::new(vec![3, 2]);
        let other = same.clone().slice_assign(
            [1..2, 2..3, 0..2, 0..2],
            same.clone().narrow(0, 0, 1).narrow(1, 0, 1) + 5.0,
        );
        let found = loss(other, same, Some(&lengths)).into_scalar_f32();
        assert!(found.abs() < 1e-6, "{found}");
    }

    #[test]
    fn where_heads_differ_they_are_joined() {
        let joined = values((0..12).map(|i| (i as f32).cos()).collect(), [1, 3, 1, 4]);
        let apart = joined.clone().reshape([1, 3, 2, 2]);
        let found = loss(apart, joined, None).into_scalar_f32();
        assert!(found.abs() < 1e-6, "{found}");
    }
}

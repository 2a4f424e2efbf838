//! Distillation of hidden states (`TinyBERT`, 1909.10351): the mean over mapped layers, tokens and components of
//! `(W n(h_S) - n(h_T))²`, where `n` divides a token's residual stream by its root mean square.
//!
//! The paper's streams come out of a norm; ours do not, and a stream that has grown would drown the others. `W` is learned with
//! the student where it is narrower or wider, and thrown away afterwards.

use burn::tensor::Tensor;

use super::{
    About,
    streams::{Around, mean_of_present},
};
use crate::{
    model::{Matrix, NORM_EPSILON},
    ops::{Ops, rms_norm},
};

pub(super) const ABOUT: About = About {
    name: "hidden",
    doc: "the residual stream of a teacher after each layer, through a learned matrix where widths differ",
    paper: "1909.10351",
};

/// The mean over tokens that are no padding and over components, `[1]`; `translation` is `[teacher's width, student's]`.
pub(super) fn loss<B: Ops>(
    student: Around<B>,
    teacher: Tensor<B, 3>,
    translation: Option<&Matrix<B>>,
) -> Tensor<B, 1> {
    let normal = |x: Tensor<B, 3>| {
        let ones = Tensor::ones([x.dims()[2]], &x.device());
        rms_norm(x, ones, NORM_EPSILON as f32)
    };
    let said = normal(student.after);
    let said = match translation {
        Some(matrix) => matrix.apply(said),
        None => said,
    };
    let apart = (said - normal(teacher)).square().mean_dim(2).squeeze_dim::<2>(2);
    mean_of_present(apart, student.lengths.as_ref())
}

#[cfg(test)]
mod tests {
    use burn::{backend::Flex, tensor::TensorData};

    use super::*;
    use crate::{ops::Lengths, training::IntoF32};

    fn stream(values: Vec<f32>, shape: [usize; 3]) -> Tensor<Flex, 3> {
        Tensor::from_data(TensorData::new(values, shape), &Default::default())
    }

    fn around(after: Tensor<Flex, 3>, lengths: Option<Lengths>) -> Around<Flex> {
        Around {
            before: after.clone(),
            after,
            lengths,
        }
    }

    #[test]
    fn it_is_the_square_distance_of_normal_streams_of_tokens_that_are_there() {
        // normal forms (1, 1) and (1, -1); (1.2649, 0.6325) and (1, 1); what is padding lies far apart
        let student = stream(vec![3.0, 3.0, 4.0, 2.0, 1.0, 1.0, 5.0, -5.0], [2, 2, 2]);
        let teacher = stream(vec![2.0, -2.0, 1.0, 1.0, 7.0, 7.0, 1.0, 1.0], [2, 2, 2]);
        let all = loss(around(student.clone(), None), teacher.clone(), None).into_scalar_f32();
        let second = ((4.0 / 10f32.sqrt() - 1.0).powi(2) + (2.0 / 10f32.sqrt() - 1.0).powi(2)) / 2.0;
        assert!((all - (2.0 + second + 0.0 + 2.0) / 4.0).abs() < 1e-4, "{all}");
        let lengths = Some(Lengths::new(vec![2, 1]));
        let there = loss(around(student, lengths), teacher, None).into_scalar_f32();
        assert!((there - (2.0 + second) / 3.0).abs() < 1e-4, "{there}");
    }

    #[test]
    fn who_agrees_has_nothing_to_learn_nor_who_says_it_in_fewer_components() {
        let narrow = stream(vec![1.0, 2.0, -2.0, 1.0], [1, 2, 2]);
        let same = loss(around(narrow.clone(), None), narrow.clone() * 3.0, None).into_scalar_f32();
        assert!(same < 1e-6, "{same}");
        // the teacher has each component twice
        let wide = stream(vec![1.0, 1.0, 2.0, 2.0, -2.0, -2.0, 1.0, 1.0], [1, 2, 4]);
        let twice = [[1.0f32, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]];
        let matrix = Matrix::dense(Tensor::from_data(TensorData::from(twice), &Default::default()));
        let told = loss(around(narrow, None), wide, Some(&matrix)).into_scalar_f32();
        assert!(told < 1e-6, "{told}");
    }
}

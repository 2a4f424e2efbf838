//! One row of a student's and a teacher's logits, and what a loss says of them.

use burn::{
    backend::{Autodiff, Flex},
    tensor::{Int, Tensor, TensorData},
};

pub(super) type A = Autodiff<Flex>;

/// A loss of the logits of a student and a teacher, at these targets and this temperature.
type Loss = fn(Tensor<A, 2>, Tensor<A, 2>, Tensor<A, 1, Int>, f64) -> Tensor<A, 1>;

pub(super) fn row(values: [f32; 3]) -> Tensor<A, 2> {
    Tensor::from_data(TensorData::from([values]), &Default::default())
}

pub(super) fn one(target: i32) -> Tensor<A, 1, Int> {
    Tensor::from_data(TensorData::from([target]), &Default::default())
}

/// The loss, and its gradient for the student's logits.
pub(super) fn both(loss: Loss, student: [f32; 3], teacher: [f32; 3], temperature: f64) -> (f64, Vec<f64>) {
    let student = row(student).require_grad();
    let loss = loss(student.clone(), row(teacher), one(0), temperature);
    let gradients = loss.backward();
    let gradient = student.grad(&gradients).unwrap().into_data();
    let value = loss.into_data().iter::<f64>().next().unwrap();
    (value, gradient.iter::<f64>().collect())
}

/// Who agrees has nothing to learn.
pub(super) fn nothing_is_learnt_from_who_agrees(loss: Loss) {
    let (value, gradient) = both(loss, [0.3, -1.0, 2.0], [0.3, -1.0, 2.0], 3.0);
    assert!(value.abs() < 1e-6 && gradient.iter().all(|g| g.abs() < 1e-6));
}

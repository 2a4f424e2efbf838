//! Whole models that teach and are taught.

use burn::{
    backend::{Autodiff, Flex},
    module::AutodiffModule,
    tensor::{Tensor, TensorData},
};

use super::*;
use crate::{plan::Plan, training::IntoF32};

type A = Autodiff<Flex>;

const METHODS: [Method; 4] = [
    Method::Logits,
    Method::ReverseKl,
    Method::Hidden,
    Method::Relation,
];

fn model(fixed: &str, seed: u64) -> (Model<A>, ModelPlan) {
    let width = if fixed.contains("width") {
        ""
    } else {
        "width = 32\nheads = 4"
    };
    let text = format!("[data]\ncorpus = 'markov'\n[fixed]\ncontext = 12\nlayers = 2\n{width}\n{fixed}\n");
    let config = spaces::study::config_from_toml(&text, &crate::catalog()).unwrap();
    let plan = Plan::read(&config, 19, None).unwrap().model;
    (Model::new(&plan, seed, &Default::default()), plan)
}

fn plan(method: Method) -> DistillationPlan {
    DistillationPlan {
        method,
        temperature: 2.0,
        weight: 1.0,
    }
}

fn tokens<B: Backend>() -> Tensor<B, 2, Int> {
    let ids: Vec<i32> = (0..24).map(|i| (i * 7 + i * i) % 19).collect();
    Tensor::from_data(TensorData::new(ids, [2, 12]), &Default::default())
}

/// The loss of a student that is taught by nothing else.
fn taught(teacher: &Teacher<Flex>, student: &mut Model<A>) -> f32 {
    teacher.attach(student, 1);
    let told = teacher.tell(tokens::<Flex>().into());
    let logits = student.forward(tokens::<A>()).logits;
    let targets = Tensor::zeros([24], &Default::default());
    let nothing = Tensor::zeros([1], &Default::default());
    let loss = teacher.loss(nothing, logits.reshape([24, 19]), &told, targets);
    let inside = teacher.loss_inside(student, &told);
    inside
        .map_or(loss.clone(), |inside| loss + inside)
        .into_scalar_f32()
}

#[test]
fn who_is_the_teacher_has_nothing_to_learn() {
    for fixed in [
        "",
        "attention = 'linear'\nkv_heads = 2",
        "attention = 'rwkv'",
        "experts = 2",
    ] {
        for method in METHODS {
            let (mut student, _) = model(fixed, 3);
            let teacher = Teacher::new(student.valid(), plan(method), None);
            let loss = taught(&teacher, &mut student);
            assert!(loss.abs() < 1e-5, "{method:?} of {fixed}: {loss}");
            assert!(student.translations.is_empty());
            let (mut other, _) = model(fixed, 4);
            let loss = taught(&teacher, &mut other);
            assert!(loss > 1e-6, "{method:?} of {fixed}: {loss}");
        }
    }
}

#[test]
fn what_was_beside_a_student_is_taken_away() {
    let (whole, _) = model("", 3);
    let (mut student, plan_of_it) = model("width = 16\nheads = 2", 4);
    let teacher = Teacher::new(whole.valid(), plan(Method::Hidden), None);
    teacher.attach(&mut student, 1);
    let shapes: Vec<[usize; 2]> = student.translations.iter().map(Matrix::dims).collect();
    assert_eq!(shapes, [[32, 16]; 2]);
    detach(&mut student);
    let mut weights = 0;
    crate::model::each_tensor(&mut student, &mut |_, tensor| weights += tensor.elements() as u64);
    assert_eq!(weights, plan_of_it.parameters());
    assert!(student.blocks.iter().all(|block| block.watched.is_none()));
}

#[test]
fn layers_learn_from_those_that_are_as_far_on() {
    assert_eq!(as_far_on(2, 6), [2, 5]);
    assert_eq!(as_far_on(3, 4), [1, 2, 3]);
    assert_eq!(as_far_on(4, 2), [0, 0, 1, 1]);
    assert_eq!(as_far_on(0, 3), [0; 0]);
}

//! Known answers of low-rank additions to one matrix.

use burn::{
    backend::Flex,
    module::Param,
    tensor::{Distribution, Tensor},
};
use evaluator::{
    model::{Dense, Matrix, Part, Parts},
    ops::{AdamWStep, adamw},
    techniques::fine_tuning::{
        FineTuning,
        dylora::use_rank,
        lora::{Base, LowRank},
    },
};

use crate::{
    fine_tuning::method,
    support::{A, plan},
};

/// One matrix.
struct One(Matrix<A>);

impl Parts<A> for One {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, A>)) {
        visitor(path, Part::Matrix(&mut self.0));
    }
}

fn normal(rows: usize, columns: usize) -> Tensor<A, 2> {
    Tensor::random(
        [rows, columns],
        Distribution::Normal(0.0, 1.0),
        &Default::default(),
    )
}

fn low_rank(weight: Tensor<A, 2>, a: Tensor<A, 2>, b: Tensor<A, 2>) -> One {
    let weight = Param::from_tensor(weight).set_require_grad(false);
    One(Matrix::LowRank(LowRank::new(
        Base::Dense(Dense { weight }),
        a,
        b,
        6.0,
    )))
}

#[test]
fn a_drawn_rank_is_a_module_of_the_first_rows_and_columns() {
    let (w, a, b, x) = (normal(7, 5), normal(4, 5), normal(7, 4), normal(3, 5));
    for rank in 1..=4 {
        let mut whole = low_rank(w.clone(), a.clone(), b.clone());
        use_rank(&mut whole, rank);
        let part = low_rank(
            w.clone(),
            a.clone().narrow(0, 0, rank),
            b.clone().narrow(1, 0, rank),
        );
        let [of_whole, of_part] = [whole, part].map(|one| one.0.apply(x.clone()).into_data());
        assert_eq!(of_whole, of_part, "{rank}");
    }
    let FineTuning::Dylora(dylora) =
        method(&plan("fine_tune = 'dylora'\nlora_rank = 5\ndylora_min_rank = 2"))
    else {
        panic!("it is dylora");
    };
    let mut ranks: Vec<usize> = (0..200).map(|step| dylora.rank(1, step)).collect();
    ranks.sort_unstable();
    ranks.dedup();
    assert_eq!(ranks, [2, 3, 4, 5]);
}

#[test]
fn an_addition_of_full_rank_can_be_any_change() {
    let (n, w) = (6, normal(6, 6));
    let change = normal(n, n);
    let (mut a, mut b) = (normal(n, n) * 0.5, normal(n, n) * 0.1);
    let eye = Tensor::<A, 2>::eye(n, &Default::default());
    let target = (w.clone() + change.clone()).transpose();
    let zeros = || Tensor::<Flex, 1>::zeros([n * n], &Default::default());
    let mut moments = [(); 2].map(|()| [zeros(), zeros()]);
    let steps = 6000;
    let residual = |a: &Tensor<A, 2>, b: &Tensor<A, 2>| {
        low_rank(w.clone(), a.clone(), b.clone()).0.apply(eye.clone()) - target.clone()
    };
    for step in 0..steps {
        // as parameters of a module, so that the gradient goes through the product as in a training
        let one = low_rank(w.clone(), a.clone(), b.clone());
        let Matrix::LowRank(module) = &one.0 else {
            panic!("it is one")
        };
        let grads = (one.0.apply(eye.clone()) - target.clone())
            .square()
            .sum()
            .backward();
        let gradients = [&module.a, &module.b].map(|p| p.val().grad(&grads).unwrap().reshape([n * n]));
        let numbers = AdamWStep {
            learning_rate: 0.02 * (1.0 - step as f32 / steps as f32),
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            gradient_scale: 1.0,
            step: step + 1,
        };
        let state = [&a, &b].map(|t| t.clone().inner().reshape([n * n]));
        let tensors = state.into_iter().zip(moments).zip(gradients);
        let updated = adamw(
            tensors.map(|((w, [m, v]), g)| ([w, m, v], g, 0.0)).collect(),
            numbers,
        );
        let mut updated = updated
            .into_iter()
            .map(|[w, m, v]| (Tensor::<A, 2>::from_inner(w.reshape([n, n])), [m, v]));
        let ((next_a, m_a), (next_b, m_b)) = (updated.next().unwrap(), updated.next().unwrap());
        (a, b, moments) = (next_a, next_b, [m_a, m_b]);
    }
    let left = f64::from(residual(&a, &b).abs().max().into_scalar());
    assert!(left <= 1e-4, "{left}");
}

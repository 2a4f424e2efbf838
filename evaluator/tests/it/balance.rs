//! Known values of the losses that keep experts even, and what they do.

use burn::{module::Param, tensor::Tensor};
use evaluator::model::{TensorMut, each_tensor};

use crate::{
    mixture::{ROUTERS, WIDTH, mixture, mixture_of, positive, rows},
    oracles::random_model,
    support::A,
};

#[test]
fn balance_losses_have_their_known_values_when_even_and_when_one_takes_all() {
    // the sum of shares times probabilities is 1 / experts when even and 1 when one takes all
    for experts in [2.0f32, 4.0, 8.0] {
        for (router, scale) in [("top_k", experts), ("switch", experts), ("gshard", 1.0 / experts)] {
            let fixed = format!("experts = {experts}\nrouter = '{router}'\nbalance_weight = 0.01");
            let mut mixture = mixture::<A>(&fixed);
            let mut balance = |first: f32, others: f32| {
                let mut values = vec![others; experts as usize];
                values[0] = first;
                mixture.router = rows(&values);
                mixture.forward(positive(64), None).1.unwrap().into_scalar()
            };
            let (even, one) = (balance(0.0, 0.0), balance(10.0, -10.0));
            assert!((even - 0.01 * scale / experts).abs() < 1e-6, "{fixed}: {even}");
            assert!((one - 0.01 * scale).abs() < 1e-6, "{fixed}: {one}");
        }
    }
}

#[test]
fn noisy_gates_are_even_at_first_and_uneven_load_costs() {
    let mut mixture = mixture::<A>("experts = 4\nrouter = 'noisy_top_k'\ntop_k = 2\nbalance_weight = 1");
    let mut balance = |values: [f32; 4]| {
        mixture.router = rows(&values);
        mixture.noise = Some(rows(&[0.0; 4]));
        mixture.forward(positive(512), None).1.unwrap().into_scalar()
    };
    assert!(balance([0.0; 4]) < 0.05);
    // two of four take all, each half: the squared variation of load is 1, that of importance at least 1
    let uneven = balance([10.0, 10.0, -10.0, -10.0]);
    assert!((1.99..2.5).contains(&uneven), "{uneven}");
}

#[test]
fn the_z_loss_is_the_mean_square_of_the_log_of_the_sum() {
    let mut mixture = mixture::<A>("experts = 4\nbalance_weight = 0\nrouter_z_loss = 0.01");
    mixture.router = rows(&[0.0; 4]);
    let loss = mixture.forward(positive(8), None).1.unwrap().into_scalar();
    assert!((loss - 0.01 * 4f32.ln().powi(2)).abs() < 1e-6, "{loss}");
}

/// The spread of tokens over experts, as the coefficient of variation, after a training with this weight of the loss.
fn unevenness(router: &str, weight: f64) -> f64 {
    let (_, mut model) = random_model::<A>(&format!(
        "experts = 4\n{router}\nlayers = 1\nbalance_weight = {weight}"
    ));
    // tokens that have much in common, so that the router's first favourite is everybody's
    let device = Default::default();
    let mut noise = evaluator::model::Initial::<A>::new(11, 1, device);
    let x = (noise.normal(128, WIDTH, 0.3) + 0.5).unsqueeze::<3>();
    for _ in 0..150 {
        let mixture = mixture_of(&mut model);
        let (y, auxiliary) = mixture.forward(x.clone(), None);
        let loss = (y - x.clone()).square().mean() + auxiliary.unwrap();
        let grads = loss.backward();
        each_tensor(&mut model, &mut |_, tensor| {
            if let TensorMut::Matrix(param) = tensor
                && let Some(gradient) = param.val().grad(&grads)
            {
                let step = Tensor::from_inner(gradient.sign() * 3e-3);
                *param = Param::from_tensor((param.val() - step).detach());
            }
        });
    }
    let best = mixture_of(&mut model)
        .router
        .apply(x.squeeze_dim::<2>(0))
        .argmax(1);
    let mut load = [0.0; 4];
    for e in best.into_data().iter::<i64>() {
        load[e as usize] += 1.0 / 32.0;
    }
    (load.iter().map(|l| (l - 1.0) * (l - 1.0)).sum::<f64>() / 4.0).sqrt()
}

#[test]
fn training_with_the_balance_loss_leaves_experts_more_even() {
    for router in ROUTERS {
        let (without, with) = (unevenness(router, 0.0), unevenness(router, 1.0));
        assert!(with < 0.7 * without, "{router}: {with} against {without}");
    }
}

//! Known answers of mixtures of experts, for every router that models which write can have.

use burn::{
    backend::Flex,
    module::AutodiffModule,
    tensor::{Distribution, Int, Tensor, TensorData, activation::softmax},
};
use evaluator::{
    bundle::Served,
    counter::{activity, count_macs, count_skipped},
    model::{Matrix, Model, Pass},
    ops::{Ops, cross_entropy, swiglu},
    plan::Plan,
    techniques::feed_forward::{FeedForward, FeedForwardPlan, Gated, Mixture, MixturePlan},
};

use crate::{
    oracles::{logits, random_model, worst},
    support::{A, VOCABULARY, config, plan, recall, tokens},
};

pub(crate) const WIDTH: usize = 32;

/// All but expert choice, which has a file of its own.
pub(crate) const ROUTERS: [&str; 4] = [
    "router = 'top_k'\ntop_k = 2",
    "router = 'switch'",
    "router = 'gshard'",
    "router = 'noisy_top_k'\ntop_k = 2",
];

pub(crate) fn mixture_of<B: Ops>(model: &mut Model<B>) -> &mut Mixture<B> {
    match &mut model.blocks[0].feed_forward {
        FeedForward::Moe(mixture) => mixture,
        _ => panic!("a mixture was asked for"),
    }
}

/// The mixture of a one-layer model with random weights.
pub(crate) fn mixture<B: Ops>(fixed: &str) -> Mixture<B> {
    let (_, mut model) = random_model::<B>(&format!("{fixed}\nlayers = 1"));
    mixture_of(&mut model).clone()
}

/// Weights of one value for each row.
pub(crate) fn rows<B: Ops>(values: &[f32]) -> Matrix<B> {
    let all: Vec<f32> = values.iter().flat_map(|v| [*v; WIDTH]).collect();
    Matrix::dense(Tensor::from_data(
        TensorData::new(all, [values.len(), WIDTH]),
        &Default::default(),
    ))
}

/// Positive inputs: a positive row of the router wins everywhere.
pub(crate) fn positive<B: Ops>(n: usize) -> Tensor<B, 3> {
    Tensor::random(
        [1, n, WIDTH],
        Distribution::Uniform(1.0, 2.0),
        &Default::default(),
    )
}

fn inputs(n: usize) -> Tensor<Flex, 2> {
    Tensor::random([n, WIDTH], Distribution::Default, &Default::default())
}

pub(crate) fn run<B: Ops>(network: &Gated<B>, x: Tensor<B, 2>) -> Tensor<B, 2> {
    network
        .down
        .apply(swiglu(network.gate.apply(x.clone()), network.up.apply(x)))
}

pub(crate) fn list<B: Ops, const D: usize>(x: Tensor<B, D>) -> Vec<f32> {
    x.into_data().iter().collect()
}

fn count(name: &str) -> u64 {
    activity().get(name).copied().unwrap_or(0)
}

#[test]
fn one_expert_is_the_dense_network() {
    for router in ["router = 'top_k'", "router = 'switch'"] {
        let mut shape = plan("layers = 1").model;
        let chosen = plan(&format!("experts = 2\n{router}")).model.layers[0]
            .feed_forward
            .mixture()
            .unwrap()
            .clone();
        let mixed = MixturePlan { experts: 1, ..chosen };
        shape.layers[0].feed_forward = FeedForwardPlan::Moe(mixed);
        let mut model = Model::<Flex>::new(&shape, 3, &Default::default());
        let mixture = mixture_of(&mut model);
        let x = inputs(13);
        let expected = run(&mixture.experts[0], x.clone());
        let (y, auxiliary) = mixture.forward(x.unsqueeze::<3>(), None);
        assert_eq!(list(y), list(expected), "{router}");
        assert!(auxiliary.is_none(), "losses belong to training");
    }
}

#[test]
fn a_full_mixture_is_the_weighted_sum_of_its_experts() {
    for router in ["top_k", "noisy_top_k"] {
        let mixture = mixture::<Flex>(&format!("experts = 4\ntop_k = 4\nrouter = '{router}'"));
        let x = inputs(13);
        let p = softmax(mixture.router.apply(x.clone()), 1);
        let mut expected = Tensor::zeros([13, WIDTH], &x.device());
        for (e, expert) in mixture.experts.iter().enumerate() {
            expected = expected + run(expert, x.clone()) * p.clone().slice([0..13, e..e + 1]);
        }
        let (y, _) = mixture.forward(x.unsqueeze::<3>(), None);
        assert!(worst(&list(y), &list(expected)) < 1e-4, "{router}");
    }
}

#[test]
fn with_one_expert_for_each_token_the_gate_is_its_probability() {
    for router in ["top_k", "switch"] {
        let mixture = mixture::<Flex>(&format!("experts = 3\nrouter = '{router}'"));
        let x = inputs(9);
        let p = softmax(mixture.router.apply(x.clone()), 1);
        let best: Vec<i64> = p.clone().argmax(1).into_data().iter().collect();
        let (y, _) = mixture.forward(x.clone().unsqueeze::<3>(), None);
        for (row, e) in best.into_iter().enumerate() {
            let e = e as usize;
            let one = run(&mixture.experts[e], x.clone().slice([row..row + 1, 0..WIDTH]));
            let expected = list(one * p.clone().slice([row..row + 1, e..e + 1]));
            let got = list(y.clone().slice([0..1, row..row + 1]));
            assert!(worst(&got, &expected) < 1e-4, "{router}, row {row}");
        }
    }
}

/// The served form of `gshard` and of noisy gates is the best two, weighted to a sum of 1.
#[test]
fn without_noise_and_limits_all_routers_of_two_experts_are_one() {
    let x = inputs(21).unsqueeze::<3>();
    let plain = mixture::<Flex>("experts = 4\nrouter = 'top_k'\ntop_k = 2");
    let expected = list(plain.forward(x.clone(), None).0);
    for router in ["router = 'gshard'", "router = 'noisy_top_k'\ntop_k = 2"] {
        let mut other = mixture::<Flex>(&format!("experts = 4\n{router}"));
        other.router = plain.router.clone();
        other.experts = plain.experts.clone();
        assert!(
            worst(&list(other.forward(x.clone(), None).0), &expected) < 1e-4,
            "{router}"
        );
    }
}

#[test]
fn work_does_not_grow_with_the_number_of_experts() {
    for router in ROUTERS {
        let macs = |experts: usize| {
            let (_, model) = random_model::<Flex>(&format!("experts = {experts}\n{router}\nlayers = 1"));
            let router = 16 * 2 * WIDTH as u64 * experts as u64;
            count_macs(|| model.forward(tokens::<Flex>(2, 16, 1))).1 - router
        };
        assert_eq!(macs(2), macs(8), "{router}");
    }
}

#[test]
fn in_training_a_full_expert_is_skipped_and_its_work_is_accounted_for() {
    let mut mixture = mixture::<A>("experts = 4\nrouter = 'switch'\ncapacity_factor = 1.25");
    mixture.router = rows(&[10.0, -10.0, -10.0, -10.0]);
    let x = positive::<A>(64);
    let ((y, _), skipped) = count_skipped(|| mixture.forward(x.clone(), None));
    assert_eq!(count("expert_rows_dispatched"), 20);
    assert_eq!(count("expert_rows_dropped"), 44);
    let row = 3 * (WIDTH * mixture.experts[0].gate.dims()[0]) as u64;
    let expected = Pass {
        forward: 44 * row,
        backward: 2 * 44 * row,
    };
    assert_eq!(skipped, expected);
    let kept: Vec<bool> = list(y)
        .chunks(WIDTH)
        .map(|r| r.iter().any(|v| *v != 0.0))
        .collect();
    assert_eq!(kept, [[true; 20].as_slice(), &[false; 44]].concat());
    // served, nobody is turned away
    let ((y, _), skipped) = count_skipped(|| mixture.valid().forward(x.inner(), None));
    assert_eq!((skipped, count("expert_rows_dropped")), (Pass::default(), 44));
    assert!(list(y).chunks(WIDTH).all(|r| r.iter().any(|v| *v != 0.0)));
}

#[test]
fn a_weak_second_choice_is_kept_with_twice_its_weight() {
    let mut mixture = mixture::<A>("experts = 2\nrouter = 'gshard'\ncapacity_factor = 2.0");
    // weights 0.9 and 0.1, and room for everyone
    let ones = Tensor::<A, 3>::ones([1, 1000, WIDTH], &Default::default());
    mixture.router = rows(&[9f32.ln() / WIDTH as f32, 0.0]);
    mixture.forward(ones.clone(), None);
    let dropped = count("expert_rows_dropped");
    assert!((760..840).contains(&dropped), "{dropped} of 1000");
    mixture.router = rows(&[0.0, 0.0]);
    mixture.forward(ones, None);
    assert_eq!(
        count("expert_rows_dropped"),
        dropped,
        "half and half: always kept"
    );
}

#[test]
fn noise_is_of_training_and_a_function_of_the_tokens() {
    for router in [
        "router = 'noisy_top_k'\ntop_k = 2",
        "router = 'switch'\nrouter_jitter = 0.1\ncapacity_factor = 2.0",
    ] {
        let mixture = mixture::<A>(&format!("experts = 4\n{router}"));
        let x = positive::<A>(32);
        let once = list(mixture.forward(x.clone(), None).0);
        assert_eq!(list(mixture.forward(x.clone(), None).0), once, "{router}");
        assert_ne!(list(mixture.valid().forward(x.inner(), None).0), once, "{router}");
    }
}

#[test]
fn a_served_sequence_does_not_depend_on_companions_that_compete_in_training() {
    for router in ["router = 'switch'", "router = 'gshard'"] {
        let (_, model) = random_model::<A>(&format!("experts = 4\ncapacity_factor = 1.0\n{router}"));
        model.forward(tokens::<A>(4, 16, 5));
        assert!(count("expert_rows_dropped") > 0, "{router}: the room is short");
        let (model, all) = (model.valid(), tokens::<Flex>(4, 16, 5));
        let alone = list(model.forward(all.clone().slice([3..4, 0..16])).logits);
        let together = list(model.forward(all).logits.slice([3..4, 0..16]));
        assert!(worst(&alone, &together) < 1e-3, "{router}");
    }
}

#[test]
fn permuting_experts_with_their_router_rows_changes_nothing() {
    for router in ROUTERS {
        let (_, mut model) = random_model::<Flex>(&format!("experts = 4\n{router}\nlayers = 1"));
        let before = logits(&model, 3);
        let mixture = mixture_of(&mut model);
        mixture.experts.rotate_left(1);
        let order = Tensor::<Flex, 1, Int>::from_data([1, 2, 3, 0], &Default::default());
        mixture.router = Matrix::dense(mixture.router.as_dense().unwrap().select(0, order));
        assert!(worst(&before, &logits(&model, 3)) < 1e-4, "{router}");
    }
}

#[test]
fn the_router_gets_gradients_through_the_gates() {
    for router in ["router = 'top_k'\ntop_k = 1"].iter().chain(&ROUTERS) {
        let (_, mut model) =
            random_model::<A>(&format!("experts = 4\n{router}\nlayers = 1\nbalance_weight = 0"));
        let out = model.forward(tokens::<A>(2, 16, 1));
        let targets = tokens::<A>(2, 16, 2).reshape([32]);
        let grads = cross_entropy(out.logits.reshape([32, VOCABULARY]), targets).backward();
        let mixture = mixture_of(&mut model);
        for matrix in [Some(&mixture.router), mixture.noise.as_ref()]
            .into_iter()
            .flatten()
        {
            let gradient = matrix.as_dense().unwrap().grad(&grads).unwrap();
            assert!(gradient.abs().sum().into_scalar() > 0.0, "{router}");
        }
    }
}

#[test]
fn every_second_layer_is_a_mixture_where_that_is_asked_for() {
    let networks = |fixed: &str| -> Vec<usize> {
        let layers = plan(fixed).model.layers;
        layers.iter().map(|l| l.feed_forward.networks()).collect()
    };
    assert_eq!(
        networks("experts = 4\nlayers = 5\nmoe_every = 2"),
        [1, 4, 1, 4, 1]
    );
    assert_eq!(networks("experts = 4\nlayers = 3"), [4, 4, 4]);
    assert_eq!(networks("experts = 4\nlayers = 1"), [4]);
}

#[test]
fn only_what_mixtral_does_is_called_mixtral() {
    let name = |fixed: &str| {
        let served = Served {
            model: plan(fixed).served,
            quantization: None,
        };
        served.standard_architecture().map(|(_, model_type)| model_type)
    };
    assert_eq!(name("experts = 4\ntop_k = 2"), Some("mixtral"));
    for other in [
        "experts = 4\ntop_k = 1",
        "experts = 4\ntop_k = 2\nmoe_every = 2",
        "experts = 4\nrouter = 'switch'",
        "experts = 4\nrouter = 'gshard'",
        "experts = 4\nrouter = 'noisy_top_k'\ntop_k = 2",
    ] {
        assert_eq!(name(other), None, "{other}");
    }
}

#[test]
fn mixtures_that_cannot_be_built_or_cannot_learn_are_refused() {
    for (fixed, part) in [
        ("experts = 2\ntop_k = 3", "top_k 3 is above experts 2"),
        (
            "experts = 2\nrouter = 'noisy_top_k'\ntop_k = 1",
            "cannot learn with top_k 1",
        ),
    ] {
        let message = Plan::read(&config(recall(), fixed), VOCABULARY, None).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_mixture_from_before_there_were_routers_is_read_as_it_was() {
    let now = plan("experts = 4\ntop_k = 2").model.layers[0]
        .feed_forward
        .clone();
    let before = r#"{"feed_forward": "moe", "hidden": 96, "experts": 4, "top_k": 2, "balance": 0.01}"#;
    assert_eq!(serde_json::from_str::<FeedForwardPlan>(before).unwrap(), now);
}

//! Known answers of expert choice, on models that read whole texts.

use burn::{
    backend::Flex,
    module::AutodiffModule,
    tensor::{Int, Tensor, TensorData, activation::softmax},
};
use evaluator::{
    counter::{activity, count_macs, count_skipped},
    model::{Initial, Matrix, Model, Pass},
    ops::{Lengths, Ops},
    plan::Plan,
    techniques::feed_forward::{FeedForwardPlan, Gated, Mixture, MixturePlan},
};

use crate::{
    encoder_decoder, kinds,
    mixture::{WIDTH, list, mixture_of, rows, run},
    oracles::worst,
    support::{A, VOCABULARY, config, random_weights, recall},
};

fn read(fixed: &str) -> Plan {
    kinds::read(&format!(
        "kind = 'encoder'\nrouter = 'expert_choice'\nlayers = 1\n{fixed}"
    ))
    .unwrap()
}

fn model<B: Ops>(fixed: &str) -> Model<B> {
    let mut model = Model::<B>::new(&read(fixed).model, 3, &Default::default());
    random_weights(&mut model);
    model
}

fn mixture<B: Ops>(fixed: &str) -> Mixture<B> {
    mixture_of(&mut model(fixed)).clone()
}

fn texts<B: Ops>(b: usize, n: usize, seed: u64) -> Tensor<B, 3> {
    let mut initial = Initial::<B>::new(seed, 1, Default::default());
    initial.normal(b * n, WIDTH, 1.0).reshape([b, n, WIDTH])
}

/// Some tokens of one text, as a text.
fn text<B: Ops>(x: &Tensor<B, 3>, i: usize, n: usize) -> Tensor<B, 3> {
    x.clone().slice([i..i + 1, 0..n, 0..WIDTH])
}

/// 1 where an expert takes a token, `[texts * n, experts]`: fewer than `load` of the text score higher with it.
fn choice(p: &[f32], experts: usize, n: usize, lengths: &[usize], factor: f64) -> Vec<f32> {
    let mut chosen = vec![0.0; p.len()];
    for (text, length) in lengths.iter().enumerate() {
        let load = (*length as f64 * factor / experts as f64).ceil() as usize;
        for expert in 0..experts {
            let place = |token: usize| (text * n + token) * experts + expert;
            for token in 0..*length {
                let higher = (0..*length).filter(|other| p[place(*other)] > p[place(token)]);
                if higher.count() < load {
                    chosen[place(token)] = 1.0;
                }
            }
        }
    }
    chosen
}

/// All tokens through all experts, those that are not chosen times zero.
fn brute_force(
    mixture: &Mixture<A>,
    x: Tensor<A, 3>,
    lengths: &[usize],
    factor: f64,
) -> (Tensor<A, 3>, Vec<f32>) {
    let [b, n, width] = x.dims();
    let experts = mixture.experts.len();
    let x = x.reshape([b * n, width]);
    let p = softmax(mixture.router.apply(x.clone()), 1);
    let chosen = choice(&list(p.clone()), experts, n, lengths, factor);
    let mask = Tensor::<A, 2>::from_data(
        TensorData::new(chosen.clone(), [b * n, experts]),
        &Default::default(),
    );
    let gates = p * mask;
    let outputs = mixture.experts.iter().enumerate();
    let outputs = outputs.map(|(e, expert)| run(expert, x.clone()) * gates.clone().narrow(1, e, 1));
    let y = outputs.reduce(|sum, more| sum + more).unwrap();
    (y.reshape([b, n, width]), chosen)
}

/// Gradients of the input, the router and the experts where the output's is `x`-like and differs everywhere.
fn gradients(mixture: &Mixture<A>, x: &Tensor<A, 3>, y: Tensor<A, 3>) -> Vec<Vec<f32>> {
    let [b, n, _] = y.dims();
    let grads = (y * texts::<A>(b, n, 99)).sum().backward();
    let of = |matrix: &Matrix<A>| list(matrix.as_dense().unwrap().grad(&grads).unwrap());
    let of_expert = |expert: &Gated<A>| [of(&expert.gate), of(&expert.up), of(&expert.down)].concat();
    let mut all = vec![list(x.grad(&grads).unwrap()), of(&mixture.router)];
    all.extend(mixture.experts.iter().map(of_expert));
    all
}

#[test]
fn outputs_gradients_and_counts_are_those_of_all_tokens_through_all_experts() {
    for (experts, factor) in [(2, 1.0), (2, 2.0), (3, 1.25), (4, 1.25), (8, 1.0), (32, 1.5)] {
        let mixture = mixture::<A>(&format!("experts = {experts}\ncapacity_factor = {factor}"));
        for lengths in [[11, 11, 11], [11, 4, 1]] {
            let x = texts::<A>(3, 11, 5).require_grad();
            let before = activity();
            let padding = Lengths::new(lengths.to_vec());
            let (y, auxiliary) = mixture.forward(x.clone(), Some(&padding));
            assert!(auxiliary.is_none(), "even loads need no loss");
            let counted = |name: &str| {
                let [before, after] = [&before, &activity()].map(|a| a.get(name).copied().unwrap_or(0));
                (after - before) as usize
            };
            let (dispatched, by_none) = (
                counted("expert_rows_dispatched"),
                counted("tokens_chosen_by_no_expert"),
            );
            let what = format!("{experts} experts, factor {factor}, {lengths:?}");
            let served = mixture.valid().forward(x.clone().inner(), Some(&padding)).0;
            assert!(worst(&list(served), &list(y.clone())) < 1e-5, "{what}: served");
            // one graph after the other: the pass back through one may take away the leaves of another that waits
            let (y, found) = (list(y.clone()), gradients(&mixture, &x, y));
            let (expected, chosen) = brute_force(&mixture, x.clone(), &lengths, factor);
            let (expected, wanted) = (list(expected.clone()), gradients(&mixture, &x, expected));
            assert!(worst(&y, &expected) < 1e-4, "{what}");
            let load = |length: &usize| (*length as f64 * factor / experts as f64).ceil() as usize;
            let loads: usize = lengths.iter().map(|n| load(n).min(*n)).sum();
            assert_eq!(
                dispatched,
                experts * loads,
                "{what}: every expert has the same load"
            );
            let without = chosen
                .chunks(experts)
                .filter(|row| row.iter().all(|c| *c == 0.0))
                .count();
            assert_eq!(
                by_none,
                without - (33 - lengths.iter().sum::<usize>()),
                "{what}: padding is not counted"
            );
            for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                let size = wanted.iter().fold(1e-3f32, |m, g| m.max(g.abs()));
                assert!(worst(found, wanted) < 1e-4 * size, "{what}: gradient {i}");
            }
            let router = found[1].iter().map(|g| g.abs()).sum::<f32>();
            assert!(router > 0.0, "{what}: the router learns");
        }
    }
}

#[test]
fn one_expert_with_room_for_all_is_the_dense_network() {
    let mut shape = read("experts = 2\ncapacity_factor = 1.0").model;
    let chosen = shape.layers[0].feed_forward.mixture().unwrap().clone();
    assert_eq!(
        (chosen.top_k, chosen.balance),
        (0, 0.0),
        "they have no meaning here"
    );
    shape.layers[0].feed_forward = FeedForwardPlan::Moe(MixturePlan { experts: 1, ..chosen });
    let mut model = Model::<Flex>::new(&shape, 3, &Default::default());
    let mixture = mixture_of(&mut model);
    let x = texts::<Flex>(1, 13, 1);
    let expected = run(&mixture.experts[0], x.clone().squeeze_dim::<2>(0));
    assert_eq!(list(mixture.forward(x, None).0), list(expected));
}

#[test]
fn a_text_depends_neither_on_its_companions_nor_on_what_padding_holds() {
    let lengths = [11, 6, 1, 9];
    let padding = Lengths::new(lengths.to_vec());
    for experts in [2, 4, 8] {
        let mixture = mixture::<Flex>(&format!("experts = {experts}"));
        let x = texts::<Flex>(4, 11, 5);
        let y = mixture.forward(x.clone(), Some(&padding)).0;
        let other = texts::<Flex>(4, 11, 77) * 10.0;
        let other = (0..4).fold(other, |all, i| {
            all.slice_assign([i..i + 1, 0..lengths[i], 0..WIDTH], text(&x, i, lengths[i]))
        });
        let of_other = mixture.forward(other, Some(&padding)).0;
        assert_eq!(
            list(y.clone()),
            list(of_other),
            "padding is nowhere in it, to the bit"
        );
        for (i, n) in lengths.into_iter().enumerate() {
            let alone = mixture.forward(text(&x, i, n), None).0;
            assert!(
                worst(&list(alone), &list(text(&y, i, n))) < 1e-5,
                "{experts}, text {i}"
            );
            let after = y.clone().slice([i..i + 1, n..11, 0..WIDTH]);
            assert!(n == 11 || list(after).iter().all(|v| *v == 0.0));
        }
    }
}

#[test]
fn permuting_experts_with_their_router_rows_changes_nothing() {
    let mut mixture = mixture::<Flex>("experts = 4");
    let x = texts::<Flex>(2, 16, 3);
    let before = list(mixture.forward(x.clone(), None).0);
    mixture.experts.rotate_left(1);
    let order = Tensor::<Flex, 1, Int>::from_data([1, 2, 3, 0], &Default::default());
    mixture.router = Matrix::dense(mixture.router.as_dense().unwrap().select(0, order));
    assert!(worst(&before, &list(mixture.forward(x, None).0)) < 1e-4);
}

/// Why nothing that writes can have this router.
#[test]
fn a_later_token_changes_an_earlier_output() {
    let mixture = mixture::<Flex>("experts = 4");
    let earlier_changes = |seed: u64| {
        let x = texts::<Flex>(1, 16, seed);
        let later = x
            .clone()
            .slice_assign([0..1, 15..16, 0..WIDTH], texts(1, 1, seed + 1000));
        let first = |x| list(text(&mixture.forward(x, None).0, 0, 15));
        worst(&first(x), &first(later)) > 1e-3
    };
    assert!((0..20).any(earlier_changes));
}

#[test]
fn work_and_active_weights_are_the_mean_number_of_experts_times_one() {
    let macs = |experts: usize| {
        let mixture = mixture::<Flex>(&format!("experts = {experts}\ncapacity_factor = 1.5"));
        let router = 2 * 16 * WIDTH * experts;
        count_macs(|| mixture.forward(texts(2, 16, 1), None)).1 as usize - router
    };
    let expert = 3 * WIDTH * 96;
    assert_eq!(
        [macs(2), macs(4), macs(8)],
        [3 * 16 * expert; 3],
        "1.5 for each of 2 × 16 tokens"
    );
    let active = |factor: &str| {
        read(&format!("experts = 4\ncapacity_factor = {factor}"))
            .model
            .active_parameters() as usize
    };
    assert_eq!(active("2.0") - active("1.0"), expert);
    // 4 experts take 5 of 16 tokens each
    assert_eq!(active("1.25") - active("1.0"), expert / 4);
}

#[test]
fn what_padding_saves_is_accounted_for() {
    let mixture = mixture::<A>("experts = 4\ncapacity_factor = 1.25");
    let padding = Lengths::new(vec![16, 7]);
    let (_, skipped) = count_skipped(|| mixture.forward(texts(2, 16, 1), Some(&padding)));
    // of 16 tokens 5 for each expert, of 7 tokens 3
    let rows = 4 * (5 - 3) * (3 * WIDTH * 96) as u64;
    let expected = Pass {
        forward: rows,
        backward: 2 * rows,
    };
    assert_eq!(skipped, expected);
}

#[test]
fn the_z_loss_is_the_only_loss() {
    let mut mixture = mixture::<A>("experts = 4\nrouter_z_loss = 0.01");
    mixture.router = rows(&[0.0; 4]);
    let loss = mixture.forward(texts(1, 8, 1), None).1.unwrap().into_scalar();
    assert!((loss - 0.01 * 4f32.ln().powi(2)).abs() < 1e-6, "{loss}");
    assert!(mixture.valid().forward(texts(1, 8, 1), None).1.is_none());
}

#[test]
fn kinds_that_write_refuse_it_in_one_sentence() {
    let block = "experts = 4\nrouter = 'expert_choice'";
    let decoder = Plan::read(&config(recall(), block), VOCABULARY, None).unwrap_err();
    let halves = encoder_decoder::read(block).unwrap_err();
    for (kind, message) in [("decoder", decoder), ("encoder_decoder", halves)] {
        assert_eq!(
            message,
            format!(
                "router 'expert_choice' has experts choose among all tokens of a text, later ones too, and kind '{kind}' \
                 writes token after token; use router top_k, switch, gshard, noisy_top_k, or kind encoder, dual_encoder"
            )
        );
    }
}

#[test]
fn the_routers_name_and_its_parameters_are_in_the_catalogue() {
    let catalog = evaluator::catalog();
    let routers = catalog.techniques.iter().filter(|t| t.family == "router");
    assert!(
        routers
            .map(|t| t.name.as_str())
            .any(|name| name == "expert_choice")
    );
    let chosen = kinds::read(
        "kind = 'encoder'\nexperts = 4\nrouter = 'expert_choice'\ncapacity_factor = 1.5\nrouter_z_loss = 1e-3",
    );
    assert_eq!(chosen.unwrap().model.layers[0].feed_forward.networks(), 4);
    for parameter in ["balance_weight = 0.01", "top_k = 2", "router_jitter = 0.1"] {
        let text = format!(
            "{}\n[fixed]\nexperts = 4\nrouter = 'expert_choice'\n{parameter}",
            recall()
        );
        let refused = spaces::study::config_from_toml(&text, &catalog);
        assert!(refused.is_err(), "{parameter} has no meaning here");
    }
}

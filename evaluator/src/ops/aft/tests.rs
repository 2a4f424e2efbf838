use std::cell::RefCell;

use burn::{
    backend::Flex,
    tensor::{DType, TensorData, Tolerance},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::*;
use crate::counter::count_macs;

type A = Autodiff<Flex>;

const RANK: usize = 3;
const HEADS: usize = 2;
const DEPTH: usize = 8;
const CONTEXT: usize = 40;

thread_local! {
    /// Each test has a thread of its own, and so the same numbers whatever runs beside it.
    static NUMBERS: RefCell<ChaCha8Rng> = RefCell::new(ChaCha8Rng::seed_from_u64(0));
}

fn random<const D: usize>(shape: [usize; D], deviation: f64) -> Tensor<A, D> {
    let normal = Normal::new(0.0, deviation as f32).expect("a deviation");
    let values = NUMBERS.with_borrow_mut(|rng| {
        let all = normal.sample_iter(rng);
        all.take(shape.iter().product()).collect::<Vec<_>>()
    });
    Tensor::from_data(TensorData::new(values, shape), &Default::default()).require_grad()
}

fn inputs(n: usize, deviation: f64) -> [Tensor<A, 4>; 2] {
    [
        random([2, n, HEADS, DEPTH], deviation),
        random([2, n, HEADS, DEPTH], 1.0),
    ]
}

fn tables(bias: AftBias) -> Vec<Tensor<A, 2>> {
    match bias {
        AftBias::None => vec![],
        AftBias::Full | AftBias::Local(_) => vec![random([CONTEXT, RANK], 1.0), random([CONTEXT, RANK], 1.0)],
        AftBias::Conv(window) => vec![random([HEADS, window], 1.0)],
    }
}

const ALL: [AftBias; 9] = [
    AftBias::None,
    AftBias::Full,
    AftBias::Local(1),
    AftBias::Local(5),
    AftBias::Local(64),
    AftBias::Conv(1),
    AftBias::Conv(5),
    AftBias::Conv(16),
    AftBias::Conv(64),
];

fn plain<const D: usize>(x: &Tensor<A, D>) -> Tensor<Flex, D> {
    x.clone().inner()
}

fn doubles<const D: usize>(x: &Tensor<Flex, D>) -> Vec<f64> {
    x.to_data().iter::<f64>().collect()
}

fn run(k: &Tensor<A, 4>, v: &Tensor<A, 4>, tables: &[Tensor<A, 2>], bias: AftBias) -> Tensor<Flex, 4> {
    let tables: Vec<_> = tables.iter().map(plain).collect();
    aft(plain(k), plain(v), &tables, bias)
}

/// The definition in loops of doubles.
fn definition(k: &Tensor<A, 4>, v: &Tensor<A, 4>, tables: &[Tensor<A, 2>], bias: AftBias) -> Vec<f64> {
    let [b, n, h, d] = k.dims();
    let (k, v) = (doubles(&plain(k)), doubles(&plain(v)));
    let tables: Vec<Vec<f64>> = tables.iter().map(|t| doubles(&plain(t))).collect();
    let w = |t: usize, j: usize, head: usize| match bias {
        _ if t - j >= bias.window() => 0.0,
        AftBias::None => 0.0,
        AftBias::Full | AftBias::Local(_) => (0..RANK)
            .map(|r| tables[0][t * RANK + r] * tables[1][j * RANK + r])
            .sum(),
        AftBias::Conv(window) => tables[0][head * window + t - j],
    };
    let mut out = vec![];
    for (s, t) in (0..b).flat_map(|s| (0..n).map(move |t| (s, t))) {
        for (head, c) in (0..h).flat_map(|head| (0..d).map(move |c| (head, c))) {
            let at = |j: usize| ((s * n + j) * h + head) * d + c;
            let top = (0..=t).map(|j| k[at(j)] + w(t, j, head)).fold(f64::MIN, f64::max);
            let (mut num, mut den) = (0.0, 0.0);
            for j in 0..=t {
                let e = (k[at(j)] + w(t, j, head) - top).exp();
                num += e * v[at(j)];
                den += e;
            }
            out.push(num / den);
        }
    }
    out
}

#[track_caller]
fn near(a: &Tensor<Flex, 4>, b: &[f64], tolerance: f64) {
    let worst = doubles(a)
        .iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(
            0.0,
            |worst: f64, x| if x > worst || x.is_nan() { x } else { worst },
        );
    assert!(worst <= tolerance, "differs by {worst}");
}

fn close(a: TensorData, b: TensorData) {
    a.assert_approx_eq::<f32>(&b, Tolerance::rel_abs(1e-3, 1e-4));
}

#[test]
fn the_kernel_is_the_definition() {
    for bias in ALL {
        for n in [1, 2, 5, 17, 40] {
            let ([k, v], tables) = (inputs(n, 2.0), tables(bias));
            near(
                &run(&k, &v, &tables, bias),
                &definition(&k, &v, &tables, bias),
                1e-5,
            );
        }
    }
}

/// What the kernel computes in single precision, in double: that no digit is lost is the algorithm's doing.
#[test]
fn the_form_in_doubles_is_the_definition_to_the_last_digits() {
    for bias in ALL {
        for n in [1, 17, 40] {
            let ([k, v], tables) = (inputs(n, 2.0), tables(bias));
            let wide: Vec<_> = tables.iter().map(|t| plain(t).cast(DType::F64)).collect();
            let [k2, v2] = [&k, &v].map(|x| plain(x).cast(DType::F64));
            let (means, _) = reference::forward(k2, v2, &wide, bias);
            near(&means, &definition(&k, &v, &tables, bias), 1e-12);
        }
    }
}

#[test]
fn keys_of_any_size_give_the_definition_and_finite_gradients() {
    let device = Default::default();
    for bias in ALL {
        // rising, falling and jumping by more than the kernels let pass without following
        for slope in [4.0, -4.0, 80.0] {
            let keys: Vec<f32> = (0..2 * 40 * HEADS * DEPTH)
                .map(|i| {
                    let t = (i / (HEADS * DEPTH)) % 40;
                    let size = if slope > 50.0 {
                        slope * (1.0 - 2.0 * ((t * 7 + i) % 3 % 2) as f32)
                    } else {
                        slope * (t as f32 - 20.0)
                    };
                    size + ((i * 31) % 17) as f32 * 0.1
                })
                .collect();
            let k = Tensor::<A, 4>::from_data(TensorData::new(keys, [2, 40, HEADS, DEPTH]), &device);
            let k = k.require_grad();
            let ([_, v], tables) = (inputs(40, 1.0), tables(bias));
            near(
                &run(&k, &v, &tables, bias),
                &definition(&k, &v, &tables, bias),
                1e-4,
            );
            let s = aft(k.clone(), v.clone(), &tables, bias);
            let grads = (s.clone() * s.sin()).sum().backward();
            let of_tables = tables.iter().map(|t| t.grad(&grads).unwrap().sum());
            for sum in [k.grad(&grads).unwrap().sum(), v.grad(&grads).unwrap().sum()]
                .into_iter()
                .chain(of_tables)
            {
                assert!(sum.into_scalar().is_finite(), "{bias:?} {slope}");
            }
        }
    }
}

#[test]
fn gradients_are_those_of_the_definition_differentiated_by_the_library() {
    for bias in ALL {
        for (n, deviation) in [(1, 1.0), (19, 1.0), (40, 12.0)] {
            let ([k, v], tables) = (inputs(n, deviation), tables(bias));
            let (s, _) = reference::forward(k.clone(), v.clone(), &tables, bias);
            let expected = (s.clone() * (s * 2.0).sin()).sum().backward();
            let s = aft(k.clone(), v.clone(), &tables, bias);
            let ours = (s.clone() * (s * 2.0).sin()).sum().backward();
            for x in [&k, &v] {
                close(
                    x.grad(&ours).unwrap().into_data(),
                    x.grad(&expected).unwrap().into_data(),
                );
            }
            for x in &tables {
                close(
                    x.grad(&ours).unwrap().into_data(),
                    x.grad(&expected).unwrap().into_data(),
                );
            }
        }
    }
}

#[test]
fn the_reference_body_agrees_with_the_kernel() {
    for bias in ALL {
        let [k, v] = inputs(37, 2.0).map(|x| plain(&x));
        let tables: Vec<_> = tables(bias).iter().map(plain).collect();
        let primitives = || tables.iter().cloned().map(unwrap).collect::<Vec<_>>();
        let (s, log_den) = reference::forward(k.clone(), v.clone(), &tables, bias);
        let ours = Flex::aft_forward(unwrap(k.clone()), unwrap(v.clone()), primitives(), bias);
        close(wrap::<Flex, 4>(ours.0).into_data(), s.to_data());
        close(wrap::<Flex, 4>(ours.1).into_data(), log_den.to_data());
        let gradient = s.clone() + 0.3;
        let (of_inputs, of_tables) = reference::backward(
            [k.clone(), v.clone()],
            &tables,
            bias,
            [s.clone(), log_den.clone()],
            gradient.clone(),
        );
        let mut ours = Flex::aft_backward(
            [unwrap(k), unwrap(v)],
            primitives(),
            bias,
            [unwrap(s), unwrap(log_den)],
            unwrap(gradient),
        );
        let ours_of_tables = ours.split_off(2);
        for (ours, plain) in ours.into_iter().zip(of_inputs) {
            close(wrap::<Flex, 4>(ours).into_data(), plain.into_data());
        }
        assert_eq!(ours_of_tables.len(), of_tables.len());
        for (ours, plain) in ours_of_tables.into_iter().zip(of_tables) {
            close(wrap::<Flex, 2>(ours).into_data(), plain.into_data());
        }
    }
}

#[test]
fn position_by_position_is_the_whole_and_what_is_remembered_stops_growing() {
    for bias in ALL {
        let [k, v] = inputs(37, 2.0).map(|x| plain(&x));
        let tables: Vec<_> = tables(bias).iter().map(plain).collect();
        let whole = aft(k.clone(), v.clone(), &tables, bias);
        let rows = bias.window().min(40);
        let ring = || Tensor::<Flex, 4>::zeros([2, rows, HEADS, DEPTH], &k.device());
        let (mut keys, mut vals) = (ring(), ring());
        let mut sums = aft_no_sums([2, HEADS, DEPTH], &k.device());
        for t in 0..37 {
            let at = |x: &Tensor<Flex, 4>, t: usize| x.clone().narrow(1, t, 1);
            if t >= rows {
                sums = aft_add_to_sums(sums, at(&k, t - rows), at(&v, t - rows));
            }
            let mean = if rows == 0 {
                aft_mean_of_sums(sums.clone())
            } else {
                keys = crate::ops::write_rows(keys, at(&k, t), t % rows);
                vals = crate::ops::write_rows(vals, at(&v, t), t % rows);
                let older = (bias != AftBias::Full).then(|| sums.clone());
                let mean = aft_recall([keys.clone(), vals.clone()], older.clone(), &tables, bias, t);
                let body = reference::recall(keys.clone(), vals.clone(), older, &tables, bias, t);
                close(mean.to_data(), body.into_data());
                mean
            };
            close(mean.into_data(), at(&whole, t).into_data());
        }
    }
}

#[test]
fn without_biases_all_forms_are_one_and_a_wide_window_is_the_full_form() {
    let [k, v] = inputs(33, 2.0);
    let simple = doubles(&run(&k, &v, &[], AftBias::None));
    for bias in ALL {
        let zeros: Vec<_> = tables(bias).iter().map(|t| t.zeros_like()).collect();
        near(&run(&k, &v, &zeros, bias), &simple, 1e-5);
    }
    let tables = tables(AftBias::Full);
    let full = run(&k, &v, &tables, AftBias::Full);
    for window in [33, 64, usize::MAX] {
        let local = run(&k, &v, &tables, AftBias::Local(window));
        assert_eq!(local.into_data(), full.to_data());
    }
    near(&full, &definition(&k, &v, &tables, AftBias::Local(33)), 1e-5);
}

#[test]
fn distant_positions_take_part_in_the_local_form() {
    for bias in [AftBias::Local(5), AftBias::Conv(5)] {
        let ([k, v], tables) = (inputs(30, 1.0), tables(bias));
        let before = run(&k, &v, &tables, bias);
        let changed = v.clone().inner().slice_fill([0..2, 0..1], 9.0);
        let after = run(&k, &Tensor::from_inner(changed), &tables, bias);
        let last = (after - before).narrow(1, 29, 1).abs().min().into_scalar();
        assert!(last > 1e-4, "{bias:?}");
    }
}

#[test]
fn a_constant_added_to_a_channel_of_keys_or_to_a_row_of_biases_changes_nothing() {
    for bias in ALL {
        let ([k, v], tables) = (inputs(30, 1.0), tables(bias));
        let before = doubles(&run(&k, &v, &tables, bias));
        let constant = random([1, 1, HEADS, DEPTH], 5.0);
        near(&run(&(k + constant), &v, &tables, bias), &before, 2e-5);
    }
    // a factor that is 1 for all keys: its value for a query is added to the query's whole row
    let ([k, v], tables) = (inputs(30, 1.0), tables(AftBias::Full));
    let one = Tensor::ones([CONTEXT, 1], &Default::default());
    let with = |row: Tensor<A, 2>| {
        let u = Tensor::cat(vec![tables[0].clone(), row], 1);
        let v = Tensor::cat(vec![tables[1].clone(), one.clone()], 1);
        [u, v]
    };
    let before = doubles(&run(&k, &v, &tables, AftBias::Full));
    let after = run(&k, &v, &with(random([CONTEXT, 1], 5.0)), AftBias::Full);
    near(&after, &before, 2e-5);
}

#[test]
fn later_positions_change_nothing_not_even_by_a_digit() {
    for bias in ALL {
        let ([k, v], tables) = (inputs(30, 1.0), tables(bias));
        let before = run(&k, &v, &tables, bias).narrow(1, 0, 20);
        let late = |x: &Tensor<A, 4>| {
            let x = x.clone().inner().slice_fill([0..2, 20..30], 70.0);
            Tensor::from_inner(x)
        };
        let after = run(&late(&k), &late(&v), &tables, bias).narrow(1, 0, 20);
        assert_eq!(before.into_data(), after.into_data(), "{bias:?}");
    }
}

#[test]
fn work_grows_with_the_window_and_not_with_the_square_of_the_length() {
    let macs = |n: usize, bias: AftBias| {
        let ([k, v], tables) = (inputs(n, 1.0), tables(bias));
        count_macs(|| run(&k, &v, &tables, bias)).1
    };
    assert_eq!(macs(40, AftBias::None), 0);
    let channels = (HEADS * DEPTH) as u64;
    assert_eq!(macs(40, AftBias::Full), 2 * 820 * (2 * channels + RANK as u64));
    assert_eq!(macs(40, AftBias::Conv(5)), 2 * (15 + 35 * 5) * 2 * channels);
}

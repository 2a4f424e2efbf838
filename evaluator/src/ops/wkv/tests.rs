use burn::{
    backend::Flex,
    tensor::{
        DType, Distribution, TensorData, Tolerance,
        activation::{sigmoid, softmax},
    },
};

use super::*;

type A = Autodiff<Flex>;

struct Inputs<B: Backend> {
    rows: [Tensor<B, 3>; 3],
    rates: [Tensor<B, 2>; 2],
}

fn inputs(n: usize, channels: usize) -> Inputs<A> {
    let device = Default::default();
    let rows = |spread| Tensor::<A, 3>::random([2, n, channels], Distribution::Normal(0.0, spread), &device);
    let rates =
        |mean, spread| Tensor::<A, 2>::random([1, channels], Distribution::Normal(mean, spread), &device);
    Inputs {
        rows: [rows(1.0), rows(2.0), rows(1.0)].map(Tensor::require_grad),
        rates: [rates(-1.0, 1.5), rates(-0.5, 1.0)].map(Tensor::require_grad),
    }
}

impl Inputs<A> {
    fn plain(&self) -> Inputs<Flex> {
        Inputs {
            rows: self.rows.clone().map(Tensor::inner),
            rates: self.rates.clone().map(Tensor::inner),
        }
    }

    fn gradients(&self, o: Tensor<A, 3>) -> Vec<TensorData> {
        let grads = (o.clone() * o.sin()).sum().backward();
        let rows = self.rows.iter().map(|x| x.grad(&grads).unwrap().into_data());
        let rates = self.rates.iter().map(|x| x.grad(&grads).unwrap().into_data());
        rows.chain(rates).collect()
    }
}

fn close(a: &TensorData, b: &TensorData) {
    a.assert_approx_eq::<f32>(b, Tolerance::rel_abs(1e-3, 1e-4));
}

fn numbers<const D: usize>(x: &Tensor<Flex, D>) -> Vec<f64> {
    x.to_data().iter::<f64>().collect()
}

/// The definition with its two loops over time, in 64 bits.
fn definition(x: &Inputs<Flex>) -> Vec<f64> {
    let [b, n, channels] = x.rows[0].dims();
    let [r, k, v] = x.rows.each_ref().map(numbers);
    let [decay, u] = x.rates.each_ref().map(numbers);
    let mut out = vec![0.0; r.len()];
    for (s, c) in (0..b).flat_map(|s| (0..channels).map(move |c| (s, c))) {
        let at = |t: usize| (s * n + t) * channels + c;
        let w = decay[c].exp();
        for t in 0..n {
            let own = (u[c] + k[at(t)]).exp();
            let (mut num, mut den) = (own * v[at(t)], own);
            for i in 0..t {
                let weight = (-((t - 1 - i) as f64) * w + k[at(i)]).exp();
                num += weight * v[at(i)];
                den += weight;
            }
            out[at(t)] = num / den / (1.0 + (-r[at(t)]).exp());
        }
    }
    out
}

/// The same in tensor operations: a softmax over the tokens so far, differentiated by burn itself.
fn quadratic(x: &Inputs<A>) -> Tensor<A, 3> {
    let [r, k, v] = x.rows.clone();
    let [decay, bonus] = x.rates.clone();
    let [b, n, c] = k.dims();
    let device = k.device();
    let table = |f: &dyn Fn(usize, usize) -> f32| {
        let values: Vec<f32> = (0..n * n).map(|at| f(at / n, at % n)).collect();
        Tensor::<A, 4>::from_data(TensorData::new(values, [1, n, n, 1]), &device)
    };
    let distance = table(&|t, i| if i < t { (t - 1 - i) as f32 } else { 0.0 });
    let own = table(&|t, i| f32::from(u8::from(t == i)));
    let hidden = table(&|t, i| if i > t { -1e30 } else { 0.0 });
    let along = |x: Tensor<A, 3>| x.unsqueeze_dim::<4>(1).expand([b, n, n, c]);
    let over = |x: Tensor<A, 2>| x.reshape([1, 1, 1, c]);
    let exponents = along(k) - distance * over(decay.exp()) + own * over(bonus) + hidden;
    let sums = softmax(exponents, 2) * along(v);
    sigmoid(r) * sums.sum_dim(2).squeeze_dim::<3>(2)
}

#[test]
fn the_scan_is_the_definition() {
    // fewer channels than a vector has, and more than a task takes
    for (n, channels) in [(1, 4), (7, 4), (40, 70)] {
        let x = inputs(n, channels).plain();
        let o = numbers(&wkv(x.rows.clone(), x.rates.clone()));
        let worst = o
            .iter()
            .zip(definition(&x))
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(worst < 1e-5, "[{n}, {channels}] differs by {worst}");
    }
}

/// What the kernel computes in single precision, in double.
#[test]
fn the_recurrence_in_doubles_is_the_definition_to_the_last_digits() {
    for (n, channels) in [(1, 4), (7, 4), (40, 70)] {
        let x = inputs(n, channels).plain();
        let state = empty_state::<Flex>(2, channels, &Default::default());
        let (o, _) = reference::scan(
            x.rows.clone().map(|x| x.cast(DType::F64)),
            x.rates.clone().map(|x| x.cast(DType::F64)),
            state.map(|x| x.cast(DType::F64)),
        );
        let pairs = numbers(&o).into_iter().zip(definition(&x));
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-10, "[{n}, {channels}] differs by {worst}");
    }
}

#[test]
fn gradients_are_those_of_the_definition() {
    for (n, channels) in [(1, 4), (13, 70), (40, 8)] {
        let x = inputs(n, channels);
        let expected = quadratic(&x);
        let o = wkv(x.rows.clone(), x.rates.clone());
        close(&o.to_data(), &expected.to_data());
        for (ours, expected) in x.gradients(o).iter().zip(x.gradients(expected)) {
            close(ours, &expected);
        }
    }
}

#[test]
fn the_reference_body_agrees_with_the_kernel() {
    let x = inputs(13, 70).plain();
    let empty = || empty_state::<Flex>(2, 70, &Default::default());
    let (o, state) = reference::scan(x.rows.clone(), x.rates.clone(), empty());
    let (o2, state2) = wkv_extend(x.rows.clone(), x.rates.clone(), empty());
    close(&o2.into_data(), &o.to_data());
    for (a, b) in state.into_iter().zip(state2) {
        close(&b.into_data(), &a.into_data());
    }
    let gradient = o + 0.3;
    let (rows, rates) = reference::backward(x.rows.clone(), x.rates.clone(), gradient.clone());
    let [r, k, v] = x.rows.map(unwrap);
    let [decay, bonus] = x.rates.map(unwrap);
    let [r, k, v, decay, bonus] = Flex::wkv_backward([r, k, v, decay, bonus], unwrap(gradient));
    for (ours, plain) in [r, k, v].into_iter().zip(rows) {
        close(&wrap::<Flex, 3>(ours).into_data(), &plain.into_data());
    }
    for (ours, plain) in [decay, bonus].into_iter().zip(rates) {
        close(&wrap::<Flex, 2>(ours).into_data(), &plain.into_data());
    }
}

#[test]
fn steps_and_pieces_are_the_scan_to_the_last_bit() {
    let x = inputs(12, 70).plain();
    let whole = wkv(x.rows.clone(), x.rates.clone());
    for piece in [1, 5] {
        let mut state = empty_state::<Flex>(2, 70, &Default::default());
        for start in (0..12).step_by(piece) {
            let end = (start + piece).min(12);
            let at = |x: &Tensor<Flex, 3>| x.clone().slice([0..2, start..end]);
            let (o, next) = wkv_extend(x.rows.each_ref().map(at), x.rates.clone(), state);
            assert_eq!(o.into_data(), at(&whole).into_data());
            assert!(next.iter().all(|part| part.dims() == [2, 70]));
            state = next;
        }
    }
}

#[test]
fn large_keys_stay_finite_with_their_gradients() {
    for size in [200.0, -200.0] {
        for mixed in [false, true] {
            let mut x = inputs(9, 6);
            let device = Default::default();
            let sign = |i: usize| if mixed && i % 2 == 1 { -size } else { size };
            let keys: Vec<f32> = (0..2 * 9 * 6).map(|i| sign(i / 6)).collect();
            x.rows[1] = Tensor::from_data(TensorData::new(keys, [2, 9, 6]), &device).require_grad();
            let o = wkv(x.rows.clone(), x.rates.clone());
            let gradients = x.gradients(o.clone());
            let all = std::iter::once(o.into_data()).chain(gradients);
            for data in all {
                assert!(data.iter::<f32>().all(f32::is_finite), "{size} {mixed}");
            }
            // the softmax of equal keys does not depend on their size
            let mut small = x.plain();
            if !mixed {
                small.rows[1] = small.rows[1].clone() * 0.0;
                let o = wkv(x.plain().rows, x.plain().rates);
                let expected = numbers(&wkv(small.rows, small.rates));
                let pairs = numbers(&o).into_iter().zip(expected);
                assert!(pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) < 1e-4);
            }
        }
    }
}

#[test]
fn what_is_forgotten_at_once_leaves_the_current_and_the_previous_token() {
    for decay in [10.0, 100.0] {
        let mut x = inputs(8, 5).plain();
        x.rates[0] = x.rates[0].ones_like() * decay;
        let o = wkv(x.rows.clone(), x.rates.clone());
        let mut y = Inputs {
            rows: x.rows.clone(),
            rates: x.rates.clone(),
        };
        for rows in &mut y.rows[1..] {
            *rows = rows
                .clone()
                .slice_assign([0..2, 0..3, 0..5], Tensor::ones([2, 3, 5], &rows.device()));
        }
        let changed = wkv(y.rows, y.rates);
        let at = |o: &Tensor<Flex, 3>, t: usize| o.clone().slice([0..2, t..t + 1]).into_data();
        assert_ne!(at(&o, 3), at(&changed, 3), "the previous token counts");
        for t in 4..8 {
            assert_eq!(at(&o, t), at(&changed, t), "token {t}, decay {decay}");
        }
    }
}

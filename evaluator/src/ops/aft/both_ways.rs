//! The mean of AFT's simple form in both directions: one mean of values for each channel, over all tokens of a sequence.

use burn::tensor::{Tensor, backend::Backend};

use super::{super::Lengths, reference::NEVER};

/// `Σ_j exp(k_j) v_j / Σ_j exp(k_j)` of `k` and `v` `[b, n, h, d]`, padding left out: `[b, 1, h, d]`, the same for every
/// token. No product of matrices is in it.
pub fn aft_both_ways<B: Backend>(
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    lengths: Option<&Lengths>,
) -> Tensor<B, 4> {
    let [b, n, h, d] = k.dims();
    let k = match lengths {
        Some(lengths) => {
            let absent = lengths.absent::<B>(0..n, &k.device());
            k.mask_fill(absent.reshape([b, n, 1, 1]).expand([b, n, h, d]), NEVER)
        }
        None => k,
    };
    // the mean does not change with what all keys are lowered by, so nothing flows back through it
    let e = (k.clone() - k.detach().max_dim(1)).exp();
    (e.clone() * v).sum_dim(1) / e.sum_dim(1)
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::{Autodiff, Flex},
        tensor::{Distribution, Tolerance},
    };

    use super::*;

    type A = Autodiff<Flex>;

    /// The definition in double loops, and its gradients by differences.
    #[test]
    fn the_mean_equals_its_definition_with_gradients() {
        let shape = [2, 5, 1, 3];
        let random = |scale| {
            let t = Tensor::<Flex, 4>::random(shape, Distribution::Normal(0.0, scale), &Default::default());
            t.into_data().iter::<f32>().map(f64::from).collect::<Vec<f64>>()
        };
        let (k, v) = (random(30.0), random(1.0));
        let lengths = [5, 2];
        let mean = |k: &[f64], v: &[f64], b: usize, c: usize| {
            let at = |i: usize| (b * 5 + i) * 3 + c;
            let top = (0..lengths[b]).map(|i| k[at(i)]).fold(f64::MIN, f64::max);
            let e = |i: usize| (k[at(i)] - top).exp();
            let num: f64 = (0..lengths[b]).map(|i| e(i) * v[at(i)]).sum();
            num / (0..lengths[b]).map(e).sum::<f64>()
        };
        let loss = |k: &[f64], v: &[f64]| -> f64 { (0..6).map(|i| mean(k, v, i / 3, i % 3).powi(2)).sum() };
        let tensor = |x: &[f64]| {
            let values: Vec<f32> = x.iter().map(|x| *x as f32).collect();
            let data = burn::tensor::TensorData::new(values, shape);
            Tensor::<A, 4>::from_data(data, &Default::default()).require_grad()
        };
        let (kt, vt) = (tensor(&k), tensor(&v));
        let o = aft_both_ways(kt.clone(), vt.clone(), Some(&Lengths::new(lengths.to_vec())));
        let expected: Vec<f32> = (0..6).map(|i| mean(&k, &v, i / 3, i % 3) as f32).collect();
        let got: Vec<f32> = o.to_data().iter().collect();
        assert!(
            got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5),
            "{got:?} {expected:?}"
        );
        let grads = o.square().sum().backward();
        for (which, t) in [&kt, &vt].into_iter().enumerate() {
            let slope = |i: usize| {
                let moved = |by: f64| {
                    let (mut k, mut v) = (k.clone(), v.clone());
                    [&mut k, &mut v][which][i] += by;
                    loss(&k, &v)
                };
                ((moved(1e-5) - moved(-1e-5)) / 2e-5) as f32
            };
            let expected: Vec<f32> = (0..30).map(slope).collect();
            let expected = burn::tensor::TensorData::new(expected, shape);
            t.grad(&grads)
                .unwrap()
                .into_data()
                .assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-3, 1e-4));
        }
    }
}

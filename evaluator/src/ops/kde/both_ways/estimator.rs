//! What is known of the estimator: it is unbiased, and its error falls with the root of the samples.

use burn::{
    backend::Flex,
    tensor::{Tensor, TensorData},
};

use super::{
    super::tests::{kernel, normal, operator_norm},
    tests::{form, forward, places},
};

/// T and depth of the known numbers.
const T: usize = 256;
const DEPTH: usize = 16;

/// One sequence of `draws` equal heads, each with a draw of its own.
fn equal_heads(seed: u64, draws: usize) -> ([Vec<f32>; 3], [Tensor<Flex, 4>; 3]) {
    let x = [1, 2, 3].map(|part| normal(seed + part));
    let tensors = x.each_ref().map(|x| {
        let data = TensorData::new(x.clone(), [1, T, 1, DEPTH]);
        Tensor::<Flex, 4>::from_data(data, &Default::default()).expand([1, T, draws, DEPTH])
    });
    (x, tensors)
}

/// Σ of `exact [T, T]` and values with a column of ones: `[T, DEPTH + 1]`.
fn sums(exact: &[f32], v: &[f32]) -> Vec<f64> {
    let value = |l: usize, c: usize| v[l * DEPTH..][..DEPTH].get(c).map_or(1.0, |v| f64::from(*v));
    let rows = exact.chunks(T).flat_map(|row| {
        (0..=DEPTH).map(move |c| {
            let terms = row.iter().enumerate().map(|(l, a)| f64::from(*a) * value(l, c));
            terms.sum()
        })
    });
    rows.collect()
}

#[test]
fn numerator_and_denominator_are_unbiased_with_and_without_heavy_blocks() {
    let draws = 400;
    for form in [form(0, 32), form(16, 32), form(50, 8)] {
        let ([q, k, v], x) = equal_heads(0, draws);
        let exact = sums(&kernel(&q, &k), &v);
        let (o, log_sums) = forward(&x, &places(&x, &form), &form);
        // [T, draws, DEPTH + 1]
        let den = log_sums.exp().unsqueeze_dim::<4>(3);
        let all = Tensor::cat(vec![o * den.clone(), den], 3);
        let all: Vec<f32> = all.into_data().iter().collect();
        let (mut outside, mut worst) = (0, 0.0f64);
        for (entry, exact) in exact.iter().enumerate() {
            let (i, c) = (entry / (DEPTH + 1), entry % (DEPTH + 1));
            let of = (0..draws).map(|draw| f64::from(all[(i * draws + draw) * (DEPTH + 1) + c]));
            let mean = of.clone().sum::<f64>() / draws as f64;
            let spread = of.map(|x| (x - mean).powi(2)).sum::<f64>() / draws as f64;
            let off = (mean - exact).abs() / (spread / draws as f64).sqrt();
            outside += usize::from(off > 3.0);
            worst = worst.max(off);
        }
        // of so many entries some lie beyond three standard errors by chance: 0.3 %, in runs because they share draws
        assert!(
            outside * 50 < exact.len() && worst < 6.0,
            "{form:?}: {outside} outside, {worst}"
        );
    }
}

#[test]
fn the_error_falls_with_the_root_of_the_samples_and_heavy_blocks_lower_it() {
    let (draws, counts) = (8, [16, 64, 256, 1024]);
    let mut errors = [[0.0; 4]; 2];
    for seed in [0, 10, 20, 30] {
        let ([q, k, v], x) = equal_heads(seed, draws);
        let mut a = kernel(&q, &k);
        for row in a.chunks_mut(T) {
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|x| *x /= sum);
        }
        let exact = sums(&a, &v);
        let scale = operator_norm(&a, T) * operator_norm(&v, DEPTH);
        for (block, errors) in [0, 32].into_iter().zip(&mut errors) {
            for (m, error) in counts.iter().zip(errors) {
                let form = form(block, *m);
                let (o, _) = forward(&x, &places(&x, &form), &form);
                let o: Vec<f32> = o.into_data().iter().collect();
                for draw in 0..draws {
                    let difference: Vec<f32> = (0..T * DEPTH)
                        .map(|at| {
                            let (i, c) = (at / DEPTH, at % DEPTH);
                            o[(i * draws + draw) * DEPTH + c] - exact[i * (DEPTH + 1) + c] as f32
                        })
                        .collect();
                    *error += operator_norm(&difference, DEPTH) / scale / (4 * draws) as f64;
                }
            }
        }
    }
    let [sampled, with_blocks] = errors;
    // three factors of four between the first and the last
    let slope = (sampled[3] / sampled[0]).ln() / 64f64.ln();
    assert!((-0.6..=-0.4).contains(&slope), "{slope} {errors:?}");
    for (sampled, with_blocks) in sampled.iter().zip(with_blocks) {
        assert!(with_blocks < *sampled, "{errors:?}");
    }
}

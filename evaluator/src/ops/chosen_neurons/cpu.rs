//! Chosen neurons on processors: each row of inputs reads the rows of weights of its own neurons.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{ChosenNeuronsOp, NeuronRows, largest};
use crate::{
    counter,
    ops::{contiguous, cpu_tensor, simd, values},
};

/// Weights that one core reads before another one is worth waking. Sums are cut in the same places however many cores and
/// rows there are, so that a token has the same numbers alone and among others.
const SHARE: usize = 1 << 15;

impl ChosenNeuronsOp for Flex {
    fn chosen_neurons_forward(
        x: FlexTensor,
        scores: FlexTensor,
        weights: NeuronRows<FlexTensor>,
        kept: usize,
    ) -> FlexTensor {
        let NeuronRows { gate, up, down } = weights;
        let [x, scores, gate, up, down] = [x, scores, gate, up, down].map(contiguous);
        let (n, width, hidden) = (x.shape()[0], x.shape()[1], gate.shape()[0]);
        let kept = kept.min(hidden);
        counter::add_macs(3 * n * width * kept);
        let weights = NeuronRows {
            gate: values(&gate),
            up: values(&up),
            down: values(&down),
        };
        let mut y = vec![0.0f32; n * width];
        y.par_chunks_exact_mut(width)
            .zip(values(&x).par_chunks_exact(width))
            .zip(values(&scores).par_chunks_exact(hidden))
            .for_each(|((y, x), scores)| one_row(x, &largest(scores, kept), &weights, y));
        cpu_tensor(y, &[n, width])
    }
}

fn one_row(x: &[f32], neurons: &[u32], weights: &NeuronRows<&[f32]>, y: &mut [f32]) {
    let share = SHARE.div_ceil(3 * x.len());
    if neurons.len() <= share {
        return add(x, neurons, weights.gate, weights.up, weights.down, y);
    }
    let parts: Vec<Vec<f32>> = neurons
        .par_chunks(share)
        .map(|neurons| {
            let mut part = vec![0.0f32; x.len()];
            add(x, neurons, weights.gate, weights.up, weights.down, &mut part);
            part
        })
        .collect();
    for part in parts {
        for (y, more) in y.iter_mut().zip(part) {
            *y += more;
        }
    }
}

/// Adds what some neurons make of `x` to `y`.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn add(x: &[f32], neurons: &[u32], gate: &[f32], up: &[f32], down: &[f32], y: &mut [f32]) {
    let width = x.len();
    for neuron in neurons {
        let at = *neuron as usize * width..(*neuron as usize + 1) * width;
        let (a, b) = (simd::dot(&gate[at.clone()], x), simd::dot(&up[at.clone()], x));
        let h = a * b / (1.0 + simd::exp(-a));
        for (y, down) in y.iter_mut().zip(&down[at]) {
            *y += h * down;
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tensor, Tolerance};

    use super::{super::reference, *};
    use crate::ops::{chosen_neurons, linear, matmul, swiglu, unwrap, wrap};

    fn random(shape: [usize; 2]) -> Tensor<Flex, 2> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Default::default())
    }

    fn network(hidden: usize, width: usize) -> NeuronRows<Tensor<Flex, 2>> {
        let [gate, up, down] = [(); 3].map(|()| random([hidden, width]));
        NeuronRows { gate, up, down }
    }

    fn hidden_of(x: &Tensor<Flex, 2>, w: &NeuronRows<Tensor<Flex, 2>>) -> Tensor<Flex, 2> {
        swiglu(linear(x.clone(), w.gate.clone()), linear(x.clone(), w.up.clone()))
    }

    fn near(a: Tensor<Flex, 2>, b: Tensor<Flex, 2>) {
        a.into_data()
            .assert_approx_eq::<f32>(&b.into_data(), Tolerance::rel_abs(1e-3, 1e-3));
    }

    /// All neurons computed, and those that are not chosen masked.
    fn masked(
        x: Tensor<Flex, 2>,
        scores: Tensor<Flex, 2>,
        w: NeuronRows<Tensor<Flex, 2>>,
        kept: usize,
    ) -> Tensor<Flex, 2> {
        let [x, scores, gate, up, down] = [x, scores, w.gate, w.up, w.down].map(unwrap);
        let weights = NeuronRows { gate, up, down };
        wrap(reference::<Flex>(x, scores, weights, kept))
    }

    #[test]
    fn what_is_chosen_equals_the_masked_dense_form_and_costs_its_share() {
        for (n, width, hidden, kept) in [(1, 33, 40, 7), (5, 64, 24, 24), (3, 130, 800, 200), (1, 8, 8, 1)] {
            let (x, scores, w) = (random([n, width]), random([n, hidden]), network(hidden, width));
            let (y, macs) =
                counter::count_macs(|| chosen_neurons(x.clone(), scores.clone(), w.clone(), kept));
            assert_eq!(macs, (3 * n * width * kept) as u64);
            near(y, masked(x, scores, w, kept));
        }
    }

    #[test]
    fn all_neurons_are_the_dense_network() {
        let (x, scores, w) = (random([4, 48]), random([4, 96]), network(96, 48));
        let dense = matmul(hidden_of(&x, &w), w.down.clone());
        near(chosen_neurons(x, scores, w, 96), dense);
    }

    /// Neurons that are not active add nothing, so whoever foretells exactly which are loses nothing.
    #[test]
    fn an_oracle_of_the_active_neurons_gives_the_dense_network() {
        let (x, mut w) = (random([1, 32]), network(64, 32));
        // what every fourth neuron lets through lies across the input: three of four stay
        let along = x.clone() * (w.up.clone() * x.clone()).sum_dim(1) / (x.clone() * x.clone()).sum_dim(1);
        let silent: Vec<f32> = (0..64).map(|j| f32::from(j % 4 == 0)).collect();
        let silent = wrap::<Flex, 2>(cpu_tensor(silent, &[64, 1]));
        w.up = w.up.clone() - along * silent.clone();
        let scores = hidden_of(&x, &w).abs() * (silent.swap_dims(0, 1) * -1.0 + 1.0);
        let dense = matmul(hidden_of(&x, &w), w.down.clone());
        let (y, macs) = counter::count_macs(|| chosen_neurons(x.clone(), scores.clone(), w.clone(), 48));
        assert_eq!(macs, 3 * 32 * 48);
        near(y, dense.clone());
        // a choice that misses active ones does not
        let apart = (chosen_neurons(x, scores, w, 24) - dense)
            .abs()
            .max()
            .into_scalar();
        assert!(apart > 1e-2, "{apart}");
    }

    #[test]
    fn a_row_has_the_same_numbers_alone_and_among_others() {
        let (x, scores, w) = (random([6, 130]), random([6, 700]), network(700, 130));
        let all = chosen_neurons(x.clone(), scores.clone(), w.clone(), 300);
        for row in 0..6 {
            let of = |t: &Tensor<Flex, 2>| t.clone().narrow(0, row, 1);
            let alone = chosen_neurons(of(&x), of(&scores), w.clone(), 300);
            assert_eq!(alone.into_data(), of(&all).into_data());
        }
    }

    #[test]
    fn the_largest_come_in_their_order_and_of_equal_ones_the_first() {
        assert_eq!(largest(&[1.0, 3.0, 2.0, 3.0], 2), [1, 3]);
        assert_eq!(largest(&[2.0, 2.0, 2.0], 2), [0, 1]);
        assert_eq!(largest(&[2.0, -1.0], 5), [0, 1]);
    }
}

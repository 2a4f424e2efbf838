//! A gated network of which each row of inputs goes through some neurons only: rows of weights that no neuron of a row's
//! choice needs are neither read nor multiplied (2310.17157).

mod cpu;

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy},
    tensor::{
        Tensor, TensorData,
        activation::sigmoid,
        backend::{AutodiffBackend, Backend},
        ops::FloatTensor,
    },
};

use super::{unwrap, wrap};
use crate::counter;

/// The weights of neurons, one row of `[hidden, width]` for each.
#[derive(Clone, Debug)]
pub struct NeuronRows<F> {
    /// What a neuron's gate reads.
    pub gate: F,
    /// What it lets through.
    pub up: F,
    /// What it adds to the output: a column of the matrix that leads out of the network.
    pub down: F,
}

/// Networks of chosen neurons.
pub trait ChosenNeuronsOp: Backend {
    /// `Σ_j silu(gate_j · x) (up_j · x) down_j` over the `kept` neurons `j` with the largest of `scores [n, hidden]`, for
    /// `x [n, width]`. This body computes all of them, counts that, and leaves the others out of the sum.
    fn chosen_neurons_forward(
        x: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        weights: NeuronRows<FloatTensor<Self>>,
        kept: usize,
    ) -> FloatTensor<Self> {
        reference::<Self>(x, scores, weights, kept)
    }
}

fn reference<B: Backend>(
    x: FloatTensor<B>,
    scores: FloatTensor<B>,
    weights: NeuronRows<FloatTensor<B>>,
    kept: usize,
) -> FloatTensor<B> {
    let (x, scores) = (wrap::<B, 2>(x), wrap::<B, 2>(scores));
    let NeuronRows { gate, up, down } = weights;
    let [gate, up, down] = [gate, up, down].map(wrap::<B, 2>);
    let ([n, width], [hidden, _]) = (x.dims(), gate.dims());
    counter::add_macs(3 * n * width * hidden);
    let values: Vec<f32> = scores.into_data().iter().collect();
    let mut mask = vec![0.0f32; n * hidden];
    for (mask, scores) in mask.chunks_exact_mut(hidden).zip(values.chunks_exact(hidden)) {
        for neuron in largest(scores, kept) {
            mask[neuron as usize] = 1.0;
        }
    }
    let mask = Tensor::from_data(TensorData::new(mask, [n, hidden]), &x.device());
    let gate = x.clone().matmul(gate.transpose());
    let h = gate.clone() * sigmoid(gate) * x.matmul(up.transpose()) * mask;
    unwrap(h.matmul(down))
}

/// What the `kept` neurons of the largest `scores [n, hidden]` make of each row of `x [n, width]`.
pub fn chosen_neurons<B: ChosenNeuronsOp>(
    x: Tensor<B, 2>,
    scores: Tensor<B, 2>,
    weights: NeuronRows<Tensor<B, 2>>,
    kept: usize,
) -> Tensor<B, 2> {
    let NeuronRows { gate, up, down } = weights;
    let [gate, up, down] = [gate, up, down].map(unwrap);
    let weights = NeuronRows { gate, up, down };
    wrap(B::chosen_neurons_forward(
        unwrap(x),
        unwrap(scores),
        weights,
        kept,
    ))
}

/// Where the `kept` largest stand, in their order; of equal ones the earlier.
pub(crate) fn largest(scores: &[f32], kept: usize) -> Vec<u32> {
    let mut places: Vec<u32> = (0..scores.len() as u32).collect();
    if kept < places.len() {
        let order = |a: &u32, b: &u32| {
            let [x, y] = [a, b].map(|place| scores[*place as usize]);
            y.total_cmp(&x).then(a.cmp(b))
        };
        places.select_nth_unstable_by(kept, order);
        places.truncate(kept);
        places.sort_unstable();
    }
    places
}

#[cfg(feature = "cuda")]
impl ChosenNeuronsOp for burn::backend::Cuda {}

/// Neurons are chosen in serving: there is no gradient through a choice, and none is needed.
impl<B: ChosenNeuronsOp, C: CheckpointStrategy> ChosenNeuronsOp for Autodiff<B, C> {
    fn chosen_neurons_forward(
        x: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        weights: NeuronRows<FloatTensor<Self>>,
        kept: usize,
    ) -> FloatTensor<Self> {
        assert!(
            !x.is_tracked(),
            "chosen neurons serve; they are not trained through"
        );
        let NeuronRows { gate, up, down } = weights;
        let [gate, up, down] = [gate, up, down].map(|weight| weight.primitive);
        let weights = NeuronRows { gate, up, down };
        let y = B::chosen_neurons_forward(x.primitive, scores.primitive, weights, kept);
        <Self as AutodiffBackend>::from_inner(y)
    }
}

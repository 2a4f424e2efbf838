//! A gated network of which each token goes through a few neurons, those that a small predictor takes for the most active
//! ones (contextual sparsity, 2310.17157).
//!
//! The predictor is `W_2 max(W_1 x, 0) + b` on the normalised stream that the network itself reads. Neurons lie row after
//! row, those of the matrix that leads out turned, so that one neuron's weights are read in one piece. A network is trained
//! dense; see `techniques/dynamic/context_keep.rs`.

use std::sync::{Arc, Mutex, PoisonError};

use burn::{
    module::{Module, Param},
    tensor::{Tensor, activation::relu, backend::Backend},
};
use serde::{Deserialize, Serialize};

use super::{Gated, dense};
use crate::{
    counter,
    model::{Initial, Matrix, Part, Parts, Pass, Trainable, join},
    ops::{NeuronRows, Ops, chosen_neurons, linear, matmul, swiglu},
};

/// The counter of neurons that tokens did not go through.
pub(crate) const ACTIVITY: &str = "context_neurons_left_out";

/// The shape of such a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextualPlan {
    /// All neurons.
    pub hidden: usize,
    /// Neurons that a token goes through.
    pub kept: usize,
    /// Hidden units of the predictor.
    pub rank: usize,
}

impl ContextualPlan {
    /// Weights of the predictor.
    fn predictor_parameters(self, width: u64) -> u64 {
        self.predictor_macs(width) + self.hidden as u64
    }

    /// Multiply-adds of the predictor for one token.
    fn predictor_macs(self, width: u64) -> u64 {
        self.rank as u64 * (width + self.hidden as u64)
    }

    /// All weights.
    pub(super) fn parameters(self, width: u64) -> u64 {
        dense::parameters(width, self.hidden as u64) + self.predictor_parameters(width)
    }

    /// Weights that a token goes through.
    pub(super) fn active_parameters(self, width: u64) -> u64 {
        dense::parameters(width, self.kept as u64) + self.predictor_parameters(width)
    }

    /// Multiply-adds of so many tokens in serving.
    pub(super) fn serving_macs(self, width: u64, tokens: u64) -> u64 {
        tokens * (3 * width * self.kept as u64 + self.predictor_macs(width))
    }

    /// Multiply-adds of a training, in which all neurons take part.
    pub(super) fn training_pass(self, width: u64, tokens: u64, trainable: Trainable) -> Pass {
        dense::training_pass(width, self.hidden as u64, tokens, trainable)
    }

    /// Multiply-adds to teach the predictor one token: there, and back for three of the four gradients, because nobody wants
    /// that of the stream.
    pub(crate) fn learning_macs(self, width: u64) -> u64 {
        self.rank as u64 * (2 * width + 3 * self.hidden as u64)
    }
}

/// Foretells how active neurons are.
#[derive(Module, Debug)]
pub struct Predictor<B: Backend> {
    /// `[rank, width]`
    pub first: Matrix<B>,
    /// `[hidden, rank]`
    pub second: Matrix<B>,
    /// `[hidden]`
    pub bias: Param<Tensor<B, 1>>,
}

/// What a network was given and how active its neurons were, row after row: `[rows, width]` and `[rows, hidden]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) inputs: Vec<f32>,
    pub(crate) activations: Vec<f32>,
}

/// A gated network of chosen neurons.
#[derive(Module, Debug)]
pub struct Contextual<B: Backend> {
    /// `[hidden, width]`
    pub gate: Matrix<B>,
    /// `[hidden, width]`
    pub up: Matrix<B>,
    /// `[hidden, width]`: what each neuron adds
    pub down: Matrix<B>,
    /// Foretells which neurons are worth it.
    pub predictor: Predictor<B>,
    kept: usize,
    /// While a predictor learns, all neurons are computed and what it learns from is kept here.
    #[module(skip)]
    seen: Option<Arc<Mutex<Seen>>>,
}

impl<B: Ops> Contextual<B> {
    pub(super) fn new(plan: ContextualPlan, width: usize, initial: &mut Initial<B>) -> Self {
        let hidden = plan.hidden;
        Contextual {
            gate: initial.matrix(hidden, width),
            up: initial.matrix(hidden, width),
            down: initial.residual_matrix(hidden, width),
            predictor: Predictor::new(plan, width, initial),
            kept: plan.kept,
            seen: None,
        }
    }

    /// A trained network with a predictor.
    pub(crate) fn of(network: &Gated<B>, predictor: Predictor<B>, kept: usize) -> Self {
        let down = rows_of(&network.down);
        let device = down.device();
        // laid out anew, so that no token has to
        let down = Tensor::from_data(down.transpose().into_data(), &device);
        Contextual {
            gate: network.gate.clone(),
            up: network.up.clone(),
            down: Matrix::dense(down),
            predictor,
            kept,
            seen: None,
        }
    }

    /// Has it compute all neurons from now on and keep what a predictor learns from, or choose again.
    pub(crate) fn watch(&mut self, is_watched: bool) {
        self.seen = is_watched.then(Arc::default);
    }

    /// What was kept since the last time; nothing where it is not watched.
    pub(crate) fn take_seen(&self) -> Seen {
        let seen = self.seen.as_ref();
        let taken =
            seen.map(|seen| std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner)));
        taken.unwrap_or_default()
    }

    pub(super) fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let shape = x.dims();
        let width = shape[D - 1];
        let rows = shape[..D - 1].iter().product::<usize>();
        let x = x.reshape([rows, width]);
        let [gate, up, down] = [&self.gate, &self.up, &self.down].map(rows_of);
        let y = match &self.seen {
            None => {
                let scores = self.predictor.scores(x.clone());
                counter::add_activity(ACTIVITY, rows * (gate.dims()[0] - self.kept));
                chosen_neurons(x, scores, NeuronRows { gate, up, down }, self.kept)
            }
            Some(seen) => {
                let h = swiglu(linear(x.clone(), gate), linear(x.clone(), up));
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.inputs.extend(x.into_data().iter::<f32>());
                seen.activations.extend(h.clone().into_data().iter::<f32>());
                matmul(h, down)
            }
        };
        y.reshape(shape)
    }
}

impl<B: Ops> Predictor<B> {
    /// One that chooses by chance.
    pub(crate) fn new(plan: ContextualPlan, width: usize, initial: &mut Initial<B>) -> Self {
        Predictor {
            first: initial.matrix(plan.rank, width),
            second: initial.matrix(plan.hidden, plan.rank),
            bias: Param::from_tensor(Tensor::zeros([plan.hidden], initial.device())),
        }
    }

    /// How active it takes the neurons to be, `[rows, hidden]`, for `x [rows, width]`.
    fn scores(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let hidden = relu(self.first.apply(x));
        self.second.apply(hidden) + self.bias.val().unsqueeze::<2>()
    }
}

fn rows_of<B: Backend>(matrix: &Matrix<B>) -> Tensor<B, 2> {
    matrix
        .as_dense()
        .expect("neurons are chosen among 32-bit weights alone")
}

impl<B: Backend> Parts<B> for Contextual<B> {
    fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, B>)) {
        let path = join(path, "mlp");
        visitor(&join(&path, "gate_proj"), Part::Matrix(&mut self.gate));
        visitor(&join(&path, "up_proj"), Part::Matrix(&mut self.up));
        visitor(&join(&path, "down_rows"), Part::Matrix(&mut self.down));
        let predictor = &mut self.predictor;
        visitor(&join(&path, "predictor_in"), Part::Small(&mut predictor.first));
        visitor(&join(&path, "predictor_out"), Part::Small(&mut predictor.second));
        visitor(&join(&path, "predictor_bias"), Part::Vector(&mut predictor.bias));
    }
}

#[cfg(test)]
mod tests {
    use burn::{backend::Flex, tensor::Tolerance};

    use super::*;

    #[test]
    fn all_neurons_together_are_the_network_that_was_trained() {
        let mut initial = Initial::<Flex>::new(1, 1, Default::default());
        let network = Gated::new(24, 40, &mut initial);
        let plan = ContextualPlan {
            hidden: 40,
            kept: 40,
            rank: 3,
        };
        let predictor = Predictor::new(plan, 24, &mut initial);
        let mut contextual = Contextual::of(&network, predictor, plan.kept);
        let x = initial.normal(7, 24, 1.0).reshape([1, 7, 24]);
        let near = |y: Tensor<Flex, 3>| {
            let dense = network.forward(x.clone()).into_data();
            y.into_data()
                .assert_approx_eq::<f32>(&dense, Tolerance::rel_abs(1e-4, 1e-5));
        };
        near(contextual.forward(x.clone()));
        contextual.watch(true);
        near(contextual.forward(x.clone()));
        let seen = contextual.take_seen();
        assert_eq!([seen.inputs.len(), seen.activations.len()], [7 * 24, 7 * 40]);
        assert!(contextual.take_seen().inputs.is_empty());
    }

    #[test]
    fn what_is_executed_is_the_formula() {
        let mut initial = Initial::<Flex>::new(1, 1, Default::default());
        let plan = ContextualPlan {
            hidden: 40,
            kept: 9,
            rank: 3,
        };
        let contextual = Contextual::<Flex>::new(plan, 24, &mut initial);
        for n in [1, 6] {
            let x = initial.normal(n, 24, 1.0);
            let (_, macs) = counter::count_macs(|| contextual.forward(x));
            assert_eq!(macs, plan.serving_macs(24, n as u64));
            assert_eq!(macs, n as u64 * (3 * 24 * 9 + 3 * (24 + 40)));
        }
    }
}

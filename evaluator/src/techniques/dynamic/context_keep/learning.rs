//! Predictors learn which neurons are most active: binary cross-entropy on those that the dense network has, by Adam.
//!
//! The model reads batches of training data with all neurons; what each network is given and what its neurons make of it is
//! the lesson. A predictor is small and its gradient short, so it is written out here: `p = σ(W_2 h + b)`, `h = max(W_1 x, 0)`.

use burn::{
    module::Param,
    tensor::{
        Tensor, TensorData,
        activation::{relu, sigmoid},
    },
};

use super::ACTIVITY;
use crate::{
    counter,
    model::{Initial, Matrix, Model, ModelPlan},
    ops::{AdamWStep, Ops, adamw, largest, linear, matmul},
    techniques::feed_forward::{Contextual, ContextualPlan, FeedForward, Predictor, Seen},
    training::{Batches, Beside, to_device},
};

/// Tokens of one step.
const ROWS: usize = 128;
const LEARNING_RATE: f32 = 1e-2;
/// Of all lessons, those at the end in which what is foretold is compared with what then comes.
const COMPARED: f64 = 0.125;
const SEED: u64 = 0;

/// Gives each layer of a trained model a predictor that has learnt from batches, and has it choose from then on, as `plan`
/// says.
pub(crate) fn learn<B: Ops>(model: &mut Model<B>, plan: &ModelPlan, lessons: u64, batches: &Batches) {
    let device = model.device();
    let mut initial = Initial::new(SEED, 1, device.clone());
    let mut students = vec![];
    for (block, layer) in model.blocks.iter_mut().zip(&plan.layers) {
        let (FeedForward::Dense(network), Some(plan)) =
            (&block.feed_forward, layer.feed_forward.contextual())
        else {
            continue;
        };
        let student = Student::new(plan, network.gate.dims()[1], &mut initial);
        let mut contextual = Contextual::of(network, student.predictor(), plan.kept);
        contextual.watch(true);
        block.feed_forward = FeedForward::Contextual(contextual);
        students.push(student);
    }
    let compared_from = lessons - ((COMPARED * lessons as f64).ceil() as u64).min(lessons);
    for (lesson, batch) in batches.beside(Beside::Choice, lessons).enumerate() {
        drop(model.forward(to_device::<B>(batch, &device).0));
        for (network, student) in contextual_of(model).zip(&mut students) {
            student.learn(&network.take_seen(), lesson as u64 >= compared_from, &device);
        }
    }
    for (network, student) in contextual_of(model).zip(students) {
        network.predictor = student.predictor();
        network.watch(false);
    }
}

fn contextual_of<B: Ops>(model: &mut Model<B>) -> impl Iterator<Item = &mut Contextual<B>> {
    model
        .blocks
        .iter_mut()
        .filter_map(|block| match &mut block.feed_forward {
            FeedForward::Contextual(network) => Some(network),
            _ => None,
        })
}

/// A weight with Adam's two means.
type Learnt<B> = [Tensor<B, 1>; 3];

/// A predictor that learns.
struct Student<B: Ops> {
    plan: ContextualPlan,
    width: usize,
    /// `W_1`, `W_2` and `b`, flat.
    weights: [Learnt<B>; 3],
    steps: u32,
}

impl<B: Ops> Student<B> {
    /// One that foretells nothing yet: `W_2` and `b` are zero.
    fn new(plan: ContextualPlan, width: usize, initial: &mut Initial<B>) -> Self {
        let ContextualPlan { hidden, rank, .. } = plan;
        let zeros = |n: usize| Tensor::<B, 1>::zeros([n], initial.device());
        let rest = [rank * hidden, hidden].map(|n| [zeros(n), zeros(n), zeros(n)]);
        let means = [zeros(rank * width), zeros(rank * width)];
        let first = initial.normal(rank, width, 1.0 / (width as f32).sqrt());
        let ([m, v], [second, bias]) = (means, rest);
        Student {
            plan,
            width,
            weights: [[first.reshape([rank * width]), m, v], second, bias],
            steps: 0,
        }
    }

    fn matrices(&self) -> [Tensor<B, 2>; 3] {
        let ContextualPlan { hidden, rank, .. } = self.plan;
        let [first, second, bias] = self.weights.each_ref().map(|[weight, ..]| weight.clone());
        [
            first.reshape([rank, self.width]),
            second.reshape([hidden, rank]),
            bias.reshape([1, hidden]),
        ]
    }

    fn predictor(&self) -> Predictor<B> {
        let [first, second, bias] = self.matrices();
        Predictor {
            first: Matrix::dense(first),
            second: Matrix::dense(second),
            bias: Param::from_tensor(bias.squeeze_dim::<1>(0)),
        }
    }

    /// Learns from what was seen, some rows at a time; what it foretold is compared first where that `is_compared`.
    fn learn(&mut self, seen: &Seen, is_compared: bool, device: &B::Device) {
        let (width, hidden) = (self.width, self.plan.hidden);
        let inputs = seen.inputs.chunks(ROWS * width);
        for (x, activations) in inputs.zip(seen.activations.chunks(ROWS * hidden)) {
            let n = x.len() / width;
            let mut labels = vec![0.0f32; n * hidden];
            let mut active = vec![];
            for (labels, activations) in labels
                .chunks_exact_mut(hidden)
                .zip(activations.chunks_exact(hidden))
            {
                let sizes: Vec<f32> = activations.iter().map(|a| a.abs()).collect();
                active.push(largest(&sizes, self.plan.kept));
                for neuron in active.last().into_iter().flatten() {
                    labels[*neuron as usize] = 1.0;
                }
            }
            let x = Tensor::from_data(TensorData::new(x.to_vec(), [n, width]), device);
            let labels = Tensor::from_data(TensorData::new(labels, [n, hidden]), device);
            let scores = self.step(x, labels);
            if is_compared {
                let scores: Vec<f32> = scores.into_data().iter().collect();
                self.compare(&scores, &active);
            }
        }
    }

    /// One step on `x [n, width]` with `labels [n, hidden]`; gives the scores from before it.
    fn step(&mut self, x: Tensor<B, 2>, labels: Tensor<B, 2>) -> Tensor<B, 2> {
        let [first, second, bias] = self.matrices();
        let n = x.dims()[0];
        let h = relu(linear(x.clone(), first));
        let scores = linear(h.clone(), second.clone()) + bias;
        // the mean over tokens of the sum over neurons
        let g = (sigmoid(scores.clone()) - labels) / n as f64;
        let of_second = matmul(g.clone().transpose(), h.clone());
        let of_bias = g.clone().sum_dim(0);
        let back = matmul(g, second) * h.greater_elem(0.0).float();
        let of_first = matmul(back.transpose(), x);
        self.steps += 1;
        let step = AdamWStep {
            learning_rate: LEARNING_RATE,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            gradient_scale: 1.0,
            step: self.steps,
        };
        let flat = |g: Tensor<B, 2>| {
            let n = g.shape().num_elements();
            g.reshape([n])
        };
        let gradients = [of_first, of_second, of_bias].map(flat);
        let tensors = self.weights.iter().cloned().zip(gradients);
        let stepped = adamw(
            tensors
                .map(|(weight, gradient)| (weight, gradient, 0.0))
                .collect(),
            step,
        );
        for (weight, new) in self.weights.iter_mut().zip(stepped) {
            *weight = new;
        }
        scores
    }

    /// Notes how many of the active neurons were foretold.
    fn compare(&self, scores: &[f32], active: &[Vec<u32>]) {
        let [_, sought, found] = ACTIVITY;
        for (scores, active) in scores.chunks_exact(self.plan.hidden).zip(active) {
            let foretold = largest(scores, self.plan.kept);
            let hits = active
                .iter()
                .filter(|neuron| foretold.binary_search(neuron).is_ok());
            counter::add_activity(sought, active.len());
            counter::add_activity(found, hits.count());
        }
    }
}

//! Initial weights, drawn on the host so that one seed gives one model on every device.

use burn::{
    module::Param,
    tensor::{Tensor, TensorData, backend::Backend},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::Matrix;

/// Standard deviation of initial weights (GPT-2).
const DEVIATION: f32 = 0.02;

/// Draws initial weights in the order in which a model is built.
pub struct Initial<B: Backend> {
    rng: Option<ChaCha8Rng>,
    device: B::Device,
    residual_scale: f32,
}

impl<B: Backend> Initial<B> {
    /// `layers` scales down what is added to the residual stream, by `1 / √(2 layers)`.
    pub fn new(seed: u64, layers: usize, device: B::Device) -> Self {
        let residual_scale = 1.0 / (2.0 * layers as f32).sqrt();
        Initial {
            rng: Some(ChaCha8Rng::seed_from_u64(seed)),
            device,
            residual_scale,
        }
    }

    /// Zeros that take no memory, for a model whose weights are read from a file next.
    pub fn blank(device: B::Device) -> Self {
        Initial {
            rng: None,
            device,
            residual_scale: 1.0,
        }
    }

    /// Where the weights are made.
    pub fn device(&self) -> &B::Device {
        &self.device
    }

    /// A matrix `[out, in]`.
    pub fn matrix(&mut self, out: usize, input: usize) -> Matrix<B> {
        self.scaled_matrix(out, input, 1.0)
    }

    /// A matrix `[out, in]` with `scale` times the usual deviation.
    pub fn scaled_matrix(&mut self, out: usize, input: usize, scale: f32) -> Matrix<B> {
        Matrix::dense(self.normal(out, input, DEVIATION * scale))
    }

    /// A matrix `[out, in]` whose output is added to the residual stream.
    pub fn residual_matrix(&mut self, out: usize, input: usize) -> Matrix<B> {
        Matrix::dense(self.normal(out, input, DEVIATION * self.residual_scale))
    }

    /// The scale of a norm.
    pub fn ones(&self, width: usize) -> Param<Tensor<B, 1>> {
        Param::from_tensor(Tensor::ones([width], &self.device))
    }

    /// A matrix of the given values, row after row.
    pub fn given(&self, values: Vec<f32>, shape: [usize; 2]) -> Tensor<B, 2> {
        match self.rng {
            Some(_) => Tensor::from_data(TensorData::new(values, shape), &self.device),
            None => Tensor::<B, 2>::zeros([1, 1], &self.device).expand(shape),
        }
    }

    /// Normal values `[out, in]` of the given deviation.
    pub fn normal(&mut self, out: usize, input: usize, deviation: f32) -> Tensor<B, 2> {
        let Some(rng) = &mut self.rng else {
            return Tensor::<B, 2>::zeros([1, 1], &self.device).expand([out, input]);
        };
        let normal = Normal::new(0.0, deviation).expect("a deviation is finite");
        let values: Vec<f32> = normal.sample_iter(rng).take(out * input).collect();
        Tensor::from_data(TensorData::new(values, [out, input]), &self.device)
    }
}

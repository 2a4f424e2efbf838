//! Noise of routers in training, drawn on the host.

use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::Distribution;

/// A generator seeded by the bits of the tokens `[rows, width]` that a router sees.
///
/// A training that goes on from a checkpoint must draw what it would have drawn without the stop. A generator with a
/// state of its own, the backend's or one in each layer, would have to be saved with every checkpoint; this one has
/// none. The tokens of a layer are functions of weights and batch, which the checkpoint restores to the bit, and they
/// differ from step to step and from layer to layer.
pub(super) fn seeded_by<B: Backend>(x: &Tensor<B, 2>) -> ChaCha8Rng {
    let sums = x.clone().detach().sum_dim(1).into_data();
    // FNV-1a, on words
    let seed = sums.iter::<f32>().fold(0xcbf2_9ce4_8422_2325_u64, |hash, sum| {
        (hash ^ u64::from(sum.to_bits())).wrapping_mul(0x0100_0000_01b3)
    });
    ChaCha8Rng::seed_from_u64(seed)
}

/// Draws `[rows, columns]`.
pub(super) fn draw<B: Backend>(
    distribution: impl Distribution<f32>,
    rng: ChaCha8Rng,
    shape: [usize; 2],
    device: &B::Device,
) -> Tensor<B, 2> {
    let values: Vec<f32> = distribution.sample_iter(rng).take(shape[0] * shape[1]).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

//! The norm of many tensors together, as clipping wants it.

use burn::{
    backend::{Autodiff, Flex, autodiff::checkpoint::strategy::CheckpointStrategy, flex::FlexTensor},
    tensor::{Tensor, backend::Backend, ops::FloatTensor},
};
use rayon::prelude::*;

use super::{contiguous, simd, unwrap, values, wrap};

/// Elements of one partial sum; fixed, so that sums are formed in one order whatever the number of threads.
const CHUNK: usize = 16 * 1024;

/// Sums of squares. Not differentiable.
pub trait NormOp: Backend {
    /// The sum of the squares of all elements of flat tensors; waits for the device.
    fn sum_of_squares(tensors: Vec<FloatTensor<Self>>) -> f64 {
        let squares = tensors.into_iter().map(|x| wrap::<Self, 1>(x).square().sum());
        let squares: Vec<_> = squares.collect();
        Tensor::cat(squares, 0).into_data().iter::<f64>().sum()
    }
}

/// The Euclidean norm of all elements of some flat tensors together; 0 of none.
pub fn total_norm<'a, B: NormOp>(tensors: impl Iterator<Item = &'a Tensor<B, 1>>) -> f64 {
    let tensors: Vec<_> = tensors.map(|x| unwrap(x.clone())).collect();
    if tensors.is_empty() {
        return 0.0;
    }
    B::sum_of_squares(tensors).sqrt()
}

impl<B: Backend, C: CheckpointStrategy> NormOp for Autodiff<B, C> {}

impl NormOp for Flex {
    fn sum_of_squares(tensors: Vec<FlexTensor>) -> f64 {
        let of = |x: FlexTensor| {
            let x = contiguous(x);
            let parts: Vec<f32> = values(&x).par_chunks(CHUNK).map(|x| simd::dot(x, x)).collect();
            parts.into_iter().map(f64::from).sum::<f64>()
        };
        tensors.into_iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_all_elements() {
        let device = Default::default();
        let long = Tensor::<Flex, 1>::full([CHUNK + 9], 0.5, &device);
        let short = Tensor::<Flex, 1>::from_data([3.0, -4.0], &device);
        let expected = (0.25 * (CHUNK + 9) as f64 + 25.0).sqrt();
        let norm = total_norm([&long, &short].into_iter());
        assert!((norm - expected).abs() < 1e-4 * expected);
        assert_eq!(total_norm::<Flex>([].into_iter()), 0.0);
    }
}

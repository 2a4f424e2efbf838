//! Writing rows of a preallocated cache in place.

use burn::{
    backend::{Autodiff, Flex, autodiff::checkpoint::strategy::CheckpointStrategy, flex::FlexTensor},
    tensor::{Slice, Tensor, TensorMetadata, backend::Backend, ops::FloatTensor},
};

use super::{contiguous, unwrap, values, wrap};

/// In-place writes into `[b, rows, width]`.
pub trait CacheOp: Backend {
    /// Writes `x [b, n, width]` over rows `at..at + n` of each sequence.
    fn cache_write(cache: FloatTensor<Self>, x: FloatTensor<Self>, at: usize) -> FloatTensor<Self> {
        let shape = x.shape();
        let range = |from: usize, n: usize| Slice::new(from as isize, Some((from + n) as isize), 1);
        let slices = [range(0, shape[0]), range(at, shape[1]), range(0, shape[2])];
        Self::float_slice_assign(cache, &slices, x)
    }
}

/// Writes `x [b, n, h, d]` over rows `at..at + n` of `cache [b, rows, h, d]`.
pub fn write_rows<B: CacheOp>(cache: Tensor<B, 4>, x: Tensor<B, 4>, at: usize) -> Tensor<B, 4> {
    let [b, rows, h, d] = cache.dims();
    let n = x.dims()[1];
    let cache = unwrap(cache.reshape([b, rows, h * d]));
    wrap::<B, 3>(B::cache_write(cache, unwrap(x.reshape([b, n, h * d])), at)).reshape([b, rows, h, d])
}

#[cfg(feature = "cuda")]
impl CacheOp for burn::backend::Cuda {}

impl<B: Backend, C: CheckpointStrategy> CacheOp for Autodiff<B, C> {}

impl CacheOp for Flex {
    fn cache_write(mut cache: FlexTensor, x: FlexTensor, at: usize) -> FlexTensor {
        let x = contiguous(x);
        let [b, rows, width] = [cache.shape()[0], cache.shape()[1], cache.shape()[2]];
        let n = x.shape()[1];
        assert!(
            at + n <= rows,
            "rows {at}..{} do not fit a cache of {rows}",
            at + n
        );
        assert!(cache.is_contiguous(), "a cache is never a view");
        let target = cache.storage_mut::<f32>();
        for (s, source) in values(&x).chunks_exact(n * width).enumerate().take(b) {
            target[(s * rows + at) * width..][..n * width].copy_from_slice(source);
        }
        cache
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    #[test]
    fn rows_are_written_and_nothing_else_is_touched() {
        let device = Default::default();
        let cache = Tensor::<Flex, 4>::random([2, 5, 3, 4], Distribution::Default, &device);
        let x = Tensor::<Flex, 4>::random([2, 2, 3, 4], Distribution::Default, &device);
        let plain = cache.clone().slice_assign([0..2, 3..5, 0..3, 0..4], x.clone());
        assert_eq!(write_rows(cache, x, 3).into_data(), plain.into_data());
    }
}

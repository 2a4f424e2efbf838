//! A product of two matrices into memory that nothing else fills: burn's own product zeroes its result first, and copies those
//! zeros to memory that is aligned otherwise, which for the widths of small models takes a tenth of the time.

use burn::{
    backend::flex::FlexTensor,
    tensor::{DType, TensorMetadata},
};
use gemm::Parallelism;

use crate::ops::cpu_tensor;

/// Multiply-adds from which on a product is worth all cores, as burn has it.
const SHARED: usize = 192 * 192 * 192;

/// `a b` for `a [n, k]` and `b [k, m]` in whatever order they lie; none where they are anything but matrices of 32-bit floats.
#[expect(unsafe_code, reason = "the library takes pointers")]
pub(in crate::ops) fn product(a: &FlexTensor, b: &FlexTensor) -> Option<FlexTensor> {
    let is_matrix = |x: &FlexTensor| x.shape().num_dims() == 2 && x.dtype() == DType::F32;
    if !is_matrix(a) || !is_matrix(b) {
        return None;
    }
    let ([n, k], [inner, m]) = (a.shape().dims(), b.shape().dims());
    assert_eq!(
        k, inner,
        "the width of the left matrix is the height of the right one"
    );
    let parallelism = if n * k * m < SHARED {
        Parallelism::None
    } else {
        Parallelism::Rayon(0)
    };
    let ((a, [a_row, a_column]), (b, [b_row, b_column])) = (lies(a), lies(b));
    let mut y = Vec::<f32>::with_capacity(n * m);
    // SAFETY: `lies` keeps every element that shape and strides reach inside its slice; without `read_dst` the product writes all
    // n × m elements of the result and reads none (the test below starts from memory full of NaN).
    unsafe {
        gemm::gemm(
            n,
            m,
            k,
            y.as_mut_ptr(),
            1,
            m as isize,
            false,
            a.as_ptr(),
            a_column,
            a_row,
            b.as_ptr(),
            b_column,
            b_row,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
        y.set_len(n * m);
    }
    Some(cpu_tensor(y, &[n, m]))
}

/// The elements of a matrix from its first one on, and how far apart its rows and its columns are.
fn lies(x: &FlexTensor) -> (&[f32], [isize; 2]) {
    let layout = x.layout();
    let strides = [layout.strides()[0], layout.strides()[1]];
    let elements = &x.storage::<f32>()[layout.start_offset()..];
    let last = |(&count, stride): (&usize, isize)| {
        assert!(stride >= 0, "a matrix whose rows or columns run backwards");
        count.saturating_sub(1) * stride as usize
    };
    let reach: usize = x.shape().iter().zip(strides).map(last).sum();
    assert!(x.shape().num_elements() == 0 || reach < elements.len());
    (elements, strides)
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::Flex,
        tensor::{Distribution, Tensor, Tolerance, ops::FloatTensorOps},
    };

    use super::*;
    use crate::ops::{unwrap, wrap};

    /// Leaves memory of the size of results full of NaN behind, which the next ones are likely to be given.
    fn spoil(elements: usize) {
        drop([(); 4].map(|()| std::hint::black_box(vec![f32::NAN; elements])));
    }

    #[test]
    fn every_order_of_elements_gives_what_burns_product_gives() {
        let device = Default::default();
        let random = |n, m| Tensor::<Flex, 2>::random([n, m], Distribution::Default, &device);
        for (n, k, m) in [
            (1, 1, 1),
            (5, 3, 7),
            (33, 64, 1),
            (1, 40, 33),
            (17, 600, 130),
            (300, 200, 240),
        ] {
            let straight = [random(n, k), random(k, m)];
            let turned = [random(k, n).transpose(), random(m, k).transpose()];
            let parts = [
                random(n + 2, k + 3).slice([1..n + 1, 2..k + 2]),
                random(k + 1, m + 4).slice([1..k + 1, 3..m + 3]),
            ];
            let spread = [random(1, k).expand([n, k]), random(k, 1).expand([k, m])];
            let all = [straight, turned, parts, spread];
            for a in all.iter().map(|pair| pair[0].clone()) {
                for b in all.iter().map(|pair| pair[1].clone()) {
                    let expected = Flex::float_matmul(unwrap(a.clone()), unwrap(b.clone()));
                    spoil(n * m);
                    let found = product(&unwrap(a.clone()), &unwrap(b)).unwrap();
                    let [expected, found] = [expected, found].map(|x| wrap::<Flex, 2>(x).into_data());
                    found.assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-5, 1e-5));
                }
            }
        }
    }

    #[test]
    fn a_product_over_nothing_is_zero() {
        let device = Default::default();
        let [a, b] = [[4, 0], [0, 9]].map(|shape| unwrap(Tensor::<Flex, 2>::zeros(shape, &device)));
        spoil(36);
        let found = product(&a, &b).unwrap();
        assert_eq!(found.as_slice::<f32>().unwrap(), [0.0; 36]);
    }

    #[test]
    fn batches_and_other_types_are_not_its_own() {
        let device = Default::default();
        let batch = unwrap(Tensor::<Flex, 3>::zeros([2, 3, 3], &device));
        let matrix = unwrap(Tensor::<Flex, 2>::zeros([3, 3], &device));
        let half = Flex::float_cast(matrix.clone(), burn::tensor::FloatDType::F16);
        assert!(product(&batch, &batch).is_none() && product(&half, &half).is_none());
        assert!(product(&matrix, &matrix).is_some());
    }
}

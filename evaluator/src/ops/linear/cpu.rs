//! Products for processors. One row, as in decoding, is a pass over the weights: it is shared out among the cores, which a
//! library of matrix products does only for large ones.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::{TensorMetadata, ops::FloatTensorOps},
};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{LinearOp, product::product};
use crate::ops::{contiguous, cpu_tensor, tile::dots, values};

/// Weights that one core reads before another one is worth waking.
const SHARE: usize = 1 << 15;
/// Rows of weights that are read side by side.
const ROWS: usize = 8;

impl LinearOp for Flex {
    fn is_turned(x: &FlexTensor) -> bool {
        let last = x.shape().num_dims() - 1;
        last == 1 && x.transpose(0, 1).is_contiguous() && !x.is_contiguous()
    }

    fn counted_matmul(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        super::count(&a.shape(), &b.shape());
        match turned_back(&a, &b) {
            Some(w) => one_row(contiguous(a), w),
            None => product(&a, &b).unwrap_or_else(|| Self::float_matmul(a, b)),
        }
    }
}

/// The contiguous `w [m, k]` of `b = wᵀ`, where `a` is one row.
fn turned_back(a: &FlexTensor, b: &FlexTensor) -> Option<FlexTensor> {
    (a.shape().num_dims() == 2 && a.shape()[0] == 1)
        .then(|| b.transpose(0, 1))
        .filter(FlexTensor::is_contiguous)
}

fn one_row(x: FlexTensor, w: FlexTensor) -> FlexTensor {
    let [m, k] = [w.shape()[0], w.shape()[1]];
    let mut y = vec![0.0f32; m];
    let share = SHARE.div_ceil(k.max(1)).next_multiple_of(ROWS);
    let (x, w, arch) = (values(&x), values(&w), Arch::new());
    if m < 2 * share {
        arch.dispatch(Rows { x, w, y: &mut y });
    } else {
        let share = share.max(m.div_ceil(rayon::current_num_threads()).next_multiple_of(ROWS));
        y.par_chunks_mut(share)
            .zip(w.par_chunks(share * k))
            .for_each(|(y, w)| arch.dispatch(Rows { x, w, y }));
    }
    cpu_tensor(y, &[1, m])
}

/// `y = w x` for `w [y, x]`.
struct Rows<'a> {
    x: &'a [f32],
    w: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Rows { x, w, y } = self;
        let k = x.len();
        let (groups, rest) = y.as_chunks_mut::<ROWS>();
        for (i, y) in groups.iter_mut().enumerate() {
            *y = dots(simd, x, &w[i * ROWS * k..], k);
        }
        let done = groups.len() * ROWS;
        for (i, y) in rest.iter_mut().enumerate() {
            [*y] = dots(simd, x, &w[(done + i) * k..], k);
        }
    }
}

//! Operations on elements; see `elements.cu`.

use burn::{
    backend::Cuda,
    tensor::{DType, TensorMetadata},
};
use burn_cubecl::tensor::CubeTensor;

use super::launch::{GpuTensor, Kernel, Sizes, Source, floats, fresh, fresh_floats};
use crate::ops::{RopeOp, SwigluOp};

static SOURCE: Source = Source::new(include_str!("elements.cu"));

const THREADS: usize = 256;

/// What `struct Sizes` holds beside the number of elements.
#[derive(Default)]
struct Elements {
    positions: usize,
    heads: usize,
    half: usize,
    sign: f32,
}

/// Launches over `n` elements, `each` of them for a thread.
fn launch(name: &'static str, n: usize, each: usize, tensors: &[&GpuTensor], more: &Elements) {
    let sizes = Sizes::of(&[n, more.positions, more.heads, more.half]);
    let blocks = n.div_ceil(each).div_ceil(THREADS);
    Kernel::new(&SOURCE, name, THREADS).launch([blocks, 1, 1], tensors, sizes.floats(more.sign, 0.0));
}

/// A matrix rounded to 16-bit floats. One that is the transposed view of a matrix stays that.
pub(super) fn to_16_bits(x: GpuTensor) -> GpuTensor {
    if x.dtype == DType::BF16 {
        return x;
    }
    let (shape, strides) = (x.shape(), x.meta.strides());
    let is_turned = shape.num_dims() == 2 && strides[0] == 1 && strides[1] == shape[0];
    let x = if is_turned { x } else { floats(x) };
    let y = fresh(&x, &[x.meta.num_elements()], DType::BF16);
    launch(
        "to_16_bits",
        x.meta.num_elements(),
        4,
        &[&x, &y],
        &Elements::default(),
    );
    CubeTensor {
        meta: x.meta.clone(),
        ..y
    }
}

impl SwigluOp for Cuda {
    fn swiglu_forward(a: GpuTensor, b: GpuTensor) -> GpuTensor {
        let (a, b) = (floats(a), floats(b));
        let y = fresh_floats(&a, &a.shape());
        launch(
            "swiglu_forward",
            a.meta.num_elements(),
            1,
            &[&a, &b, &y],
            &Elements::default(),
        );
        y
    }

    fn swiglu_backward(a: GpuTensor, b: GpuTensor, g: GpuTensor) -> [GpuTensor; 2] {
        let (a, b, g) = (floats(a), floats(b), floats(g));
        let [da, db] = [0, 1].map(|_| fresh_floats(&a, &a.shape()));
        let tensors = [&a, &b, &g, &da, &db];
        launch(
            "swiglu_backward",
            a.meta.num_elements(),
            1,
            &tensors,
            &Elements::default(),
        );
        [da, db]
    }
}

impl RopeOp for Cuda {
    fn rope_turn(x: GpuTensor, cos: GpuTensor, sin: GpuTensor, inverse: bool) -> GpuTensor {
        let (x, cos, sin) = (floats(x), floats(cos), floats(sin));
        let (y, shape) = (fresh_floats(&x, &x.shape()), x.shape());
        let more = Elements {
            positions: shape[1],
            heads: shape[2],
            half: shape[3] / 2,
            sign: if inverse { -1.0 } else { 1.0 },
        };
        launch(
            "rope_turn",
            x.meta.num_elements() / 2,
            1,
            &[&x, &cos, &sin, &y],
            &more,
        );
        y
    }
}

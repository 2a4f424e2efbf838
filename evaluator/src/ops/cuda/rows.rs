//! Operations on rows; see `rows.cu`.

use burn::{backend::Cuda, tensor::TensorMetadata};
use burn_cubecl::kernel::into_contiguous;

use super::launch::{GpuTensor, Kernel, Sizes, Source, floats, fresh_floats};
use crate::ops::{CrossEntropyOp, EmbeddingOp, RmsNormOp};

static SOURCE: Source = Source::new(include_str!("rows.cu"));

/// Rows of a block, a warp for each.
const ROWS: usize = 4;
/// Rows that one thread adds up for the gradient of a norm's weights; the same number stands in the source.
const CHUNK: usize = 128;
/// Threads of the kernels of one block.
const ALL: usize = 1024;

fn kernel(name: &'static str, threads: usize) -> Kernel {
    Kernel::new(&SOURCE, name, threads)
}

fn sizes(rows: usize, width: usize, chunks: usize, epsilon: f32) -> Sizes {
    Sizes::of(&[rows, width, chunks]).floats(epsilon, 0.0)
}

/// The sum of `x [chunks, width]` over chunks, `[width]` elements in the given shape.
pub(super) fn sum_of_chunks(x: &GpuTensor, chunks: usize, shape: &[usize]) -> GpuTensor {
    let (y, width) = (fresh_floats(x, shape), shape.iter().product::<usize>());
    kernel("sum_of_chunks", 256).launch(
        [width.div_ceil(256), 1, 1],
        &[x, &y],
        sizes(0, width, chunks, 0.0),
    );
    y
}

impl RmsNormOp for Cuda {
    fn rms_norm_forward(x: GpuTensor, w: GpuTensor, epsilon: f32) -> (GpuTensor, GpuTensor) {
        let (x, w) = (floats(x), floats(w));
        let [rows, width] = [x.shape()[0], x.shape()[1]];
        let (y, inverse) = (fresh_floats(&x, &[rows, width]), fresh_floats(&x, &[rows]));
        let blocks = [rows.div_ceil(ROWS), 1, 1];
        let sizes = sizes(rows, width, 0, epsilon);
        kernel("rms_norm_forward", ROWS * 32).launch(blocks, &[&x, &w, &y, &inverse], sizes);
        (y, inverse)
    }

    fn rms_norm_backward(
        x: GpuTensor,
        w: GpuTensor,
        inverse: GpuTensor,
        gradient: GpuTensor,
    ) -> [GpuTensor; 2] {
        let (x, w, inverse, g) = (floats(x), floats(w), floats(inverse), floats(gradient));
        let [rows, width] = [x.shape()[0], x.shape()[1]];
        let sizes = || sizes(rows, width, 0, 0.0);
        let dx = fresh_floats(&x, &[rows, width]);
        let blocks = [rows.div_ceil(ROWS), 1, 1];
        kernel("rms_norm_backward", ROWS * 32).launch(blocks, &[&x, &w, &inverse, &g, &dx], sizes());
        let chunks = rows.div_ceil(CHUNK);
        let sums = fresh_floats(&x, &[chunks, width]);
        let blocks = [width.div_ceil(128), chunks, 1];
        kernel("rms_norm_weights", 128).launch(blocks, &[&x, &inverse, &g, &sums], sizes());
        [dx, sum_of_chunks(&sums, chunks, &[width])]
    }
}

impl CrossEntropyOp for Cuda {
    fn cross_entropy_forward(logits: GpuTensor, targets: GpuTensor) -> (GpuTensor, GpuTensor) {
        let (logits, targets) = (floats(logits), into_contiguous(targets));
        let [rows, width] = [logits.shape()[0], logits.shape()[1]];
        let sizes = || sizes(rows, width, 0, 0.0);
        let [weight, loss] = [0, 1].map(|_| fresh_floats(&logits, &[1]));
        kernel("cross_entropy_weight", ALL).launch([1, 1, 1], &[&targets, &weight], sizes());
        let (losses, gradient) = (
            fresh_floats(&logits, &[rows]),
            fresh_floats(&logits, &[rows, width]),
        );
        let tensors = [&logits, &targets, &weight, &losses, &gradient];
        kernel("cross_entropy_rows", ROWS * 32).launch([rows.div_ceil(ROWS), 1, 1], &tensors, sizes());
        kernel("sum_of_all", ALL).launch([1, 1, 1], &[&losses, &loss], sizes());
        (loss, gradient)
    }
}

impl EmbeddingOp for Cuda {
    fn table_gradient(rows: usize, numbers: GpuTensor, gradient: GpuTensor) -> GpuTensor {
        let (numbers, g) = (into_contiguous(numbers), floats(gradient));
        let [n, width] = [g.shape()[0], g.shape()[1]];
        let y = fresh_floats(&g, &[rows, width]);
        let blocks = [rows, width.div_ceil(256), 1];
        kernel("embedding_backward", 256).launch(blocks, &[&numbers, &g, &y], sizes(n, width, 0, 0.0));
        y
    }
}

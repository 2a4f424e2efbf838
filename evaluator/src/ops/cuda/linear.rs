//! Products of matrices of 16-bit floats; see `product.cu` and `product_hopper.cu`.

use burn::{
    backend::Cuda,
    tensor::{DType, TensorMetadata, ops::FloatTensorOps},
};

use burn_cubecl::kernel::into_contiguous;

use super::{
    elements::to_16_bits,
    launch::{GpuTensor, Kernel, Sizes, Source, fresh_floats},
    rows::sum_of_chunks,
};
use crate::{
    cuda::has_wide_products,
    ops::{LinearOp, precision::is_bf16},
};

static PRODUCT: Source = Source::new(concat!(include_str!("product.cuh"), include_str!("product.cu")));
static PRODUCT_HOPPER: Source = Source::new(concat!(
    include_str!("product.cuh"),
    include_str!("product_hopper.cu")
));

const THREADS: usize = 256;
const STAGES: usize = 4;
/// Rows of the left operand from which rounding both operands is worth its pass over them.
const FEWEST_ROWS: usize = 64;
/// Blocks that keep a large GPU busy: the depth of a product with fewer is cut into parts.
const BLOCKS: usize = 132;

impl LinearOp for Cuda {
    fn is_turned(x: &GpuTensor) -> bool {
        x.shape().num_dims() == 2 && x.meta.strides()[..] == [1, x.shape()[0]]
    }

    fn kept(x: GpuTensor) -> GpuTensor {
        if is_bf16() && x.shape().num_dims() == 2 {
            to_16_bits(x)
        } else {
            x
        }
    }

    fn counted_matmul(a: GpuTensor, b: GpuTensor) -> GpuTensor {
        crate::ops::linear::count(&a.shape(), &b.shape());
        let is_kept = [&a, &b].iter().any(|x| x.dtype == DType::BF16);
        let is_large = a.shape().num_dims() == 2 && a.shape()[0] >= FEWEST_ROWS;
        if is_kept || is_large && is_bf16() {
            product(Operand::new(a), Operand::new(b))
        } else {
            Self::float_matmul(a, b)
        }
    }
}

/// A matrix of 16-bit floats that lies row after row, perhaps turned.
struct Operand {
    x: GpuTensor,
    is_turned: bool,
    /// Elements of a stored row.
    pitch: usize,
}

impl Operand {
    fn new(x: GpuTensor) -> Self {
        let x = to_16_bits(x);
        let (strides, [rows, columns]) = (x.meta.strides(), [x.shape()[0], x.shape()[1]]);
        if strides[..] == [1, rows] && columns > 1 {
            return Operand {
                x,
                is_turned: true,
                pitch: rows,
            };
        }
        Operand {
            x: into_contiguous(x),
            is_turned: false,
            pitch: columns,
        }
    }

    /// Whether stored rows are multiples of 16 bytes from a multiple of 16 bytes on.
    fn is_aligned(&self) -> bool {
        self.pitch.is_multiple_of(8) && self.x.handle.offset_start.unwrap_or(0).is_multiple_of(16)
    }
}

/// `a b` in 32-bit floats, summed in one order.
fn product(a: Operand, b: Operand) -> GpuTensor {
    let [m, k, n] = [a.x.shape()[0], a.x.shape()[1], b.x.shape()[1]];
    let (left, right) = (usize::from(a.is_turned), usize::from(b.is_turned));
    let is_wide = has_wide_products(a.x.device.index) && a.is_aligned() && b.is_aligned();
    let columns = if is_wide && n > 128 { 256 } else { 128 };
    let blocks = [m.div_ceil(128), n.div_ceil(columns)];
    let parts = (BLOCKS / (blocks[0] * blocks[1])).clamp(1, k.div_ceil(512));
    let settings = [("LEFT_TRANSPOSED", left), ("RIGHT_TRANSPOSED", right)];
    let kernel = if is_wide {
        // tiles of 64 in depth lie at multiples of 1024 bytes
        let bytes = STAGES * (128 + columns) * 64 * 2 + 1024;
        let settings = [("COLUMNS", columns), ("STAGES", STAGES), settings[0], settings[1]];
        Kernel::new(&PRODUCT_HOPPER, "product", THREADS)
            .with(&settings)
            .shared_bytes(bytes)
    } else {
        // tiles of 32 in depth, each row with a pad
        let bytes = STAGES * 2 * 128 * 40 * 2;
        let aligned = [
            ("LEFT_ALIGNED", usize::from(a.is_aligned())),
            ("RIGHT_ALIGNED", usize::from(b.is_aligned())),
        ];
        Kernel::new(&PRODUCT, "product", THREADS)
            .with(&settings)
            .with(&aligned)
            .shared_bytes(bytes)
    };
    let c = fresh_floats(&a.x, &if parts == 1 { vec![m, n] } else { vec![parts, m, n] });
    let sizes = Sizes::of(&[m, n, k, a.pitch, b.pitch, parts]);
    kernel.launch([blocks[0], blocks[1], parts], &[&a.x, &b.x, &c], sizes);
    if parts == 1 {
        c
    } else {
        sum_of_chunks(&c, parts, &[m, n])
    }
}

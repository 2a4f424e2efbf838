//! What matrices are multiplied in on a GPU.
//!
//! Like the counters it holds for the process: one trial is one process.

use std::sync::atomic::{AtomicBool, Ordering};

static BF16: AtomicBool = AtomicBool::new(false);

/// What the operands of products are rounded to. Sums, weights, their gradients and everything between products stay 32-bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats; a GPU may multiply them with 10 bits of fraction (TF32).
    #[default]
    F32,
    /// 16-bit floats with 7 bits of fraction and the range of 32-bit ones (1710.03740's scheme without its loss scale).
    Bf16,
}

/// Sets what this process multiplies in from now on.
pub fn set_precision(precision: Precision) {
    BF16.store(precision == Precision::Bf16, Ordering::Relaxed);
}

/// Whether products are of 16-bit floats.
#[cfg(feature = "cuda")]
pub(super) fn is_bf16() -> bool {
    BF16.load(Ordering::Relaxed)
}

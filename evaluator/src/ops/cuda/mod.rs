//! Kernels for NVIDIA GPUs, in CUDA C++ beside the file that launches them.
//!
//! What has none here runs as the plain tensor operations of its trait. Kernels with products of matrices are used where
//! [`super::Precision`] is `Bf16`; the tests in `tests/it/cuda.rs` hold all of them against the processor.

#![expect(unsafe_code, reason = "kernels are trusted to stay within their buffers")]

mod attention;
mod elements;
mod launch;
mod linear;
mod optimizer;
mod rows;

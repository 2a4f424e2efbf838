//! The evaluator from outside: contracts over every technique, oracles of each, whole evaluations.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aft;
mod contract;
#[cfg(feature = "cuda")]
mod cuda;
mod evaluation;
mod kde;
mod kinds;
mod kinds_evaluation;
mod kinds_oracles;
mod mixture;
mod oracles;
mod parts;
mod resume;
mod rwkv;
mod support;

//! The evaluator from outside: contracts over every technique, oracles of each, whole evaluations.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aft;
mod badam;
mod balance;
mod cache;
mod context_keep;
mod contract;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod cuda_evaluation;
mod delta;
mod distillation;
mod draft;
mod early_exit;
mod early_exit_decoder;
mod emulated;
mod encoder_decoder;
mod encoder_decoder_evaluation;
mod encoder_decoder_oracles;
mod evaluation;
mod expert_choice;
mod fine_tuning;
mod fine_tuning_evaluation;
mod fine_tuning_low_rank;
mod fine_tuning_memory;
mod fine_tuning_training;
mod growth;
mod integer_only;
mod kde;
mod kinds;
mod kinds_evaluation;
mod kinds_oracles;
mod latency;
mod linear;
mod listops;
mod lp_first;
mod mixture;
mod oracles;
mod packing;
mod parts;
mod pruning;
mod qat;
mod resume;
mod reversible;
mod rwkv;
mod sensitivity;
mod slicing;
mod sparse_packed;
mod speculation;
mod stages;
mod support;
mod teacher;
mod thinning;
mod token_keep;

//! The evaluator from outside: contracts over every technique, oracles of each, whole evaluations.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contract;
mod evaluation;
mod kde;
mod oracles;
mod parts;
mod resume;
mod support;

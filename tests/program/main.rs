//! The built program, end to end: real trainings, real Postgres, real processes that die, a real browser.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod bench;
mod compression;
mod delta;
mod journey;
mod optimize;
mod partial;
mod resolve;
mod search;
mod stages;
mod teach;

use parsimony_tests::program::Program;

/// The program that this package builds.
fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_parsimony"))
}

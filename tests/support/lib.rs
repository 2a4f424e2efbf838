//! What tests across crates share.

pub mod browser;
pub mod program;

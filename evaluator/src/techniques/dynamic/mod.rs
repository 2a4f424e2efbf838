//! Dynamic acceleration: how much is computed depends on the input.

pub mod context_keep;
pub mod draft;
pub mod early_exit;
pub mod token_keep;

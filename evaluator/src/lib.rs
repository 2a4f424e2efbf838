//! What a configuration costs and how good it is: builds, trains, compresses and measures language models.

pub mod counter;
pub mod ops;

//! What a configuration costs and how good it is: builds, trains, compresses and measures language models.
//!
//! The only crate that names burn. [`evaluate`] does one configuration from data to exported, measured model;
//! [`Facts::known`] tells what follows from a configuration alone; [`catalog`] tells what configurations can name.

mod backend;
pub mod bundle;
mod bundle_use;
mod catalog;
mod compress;
pub mod counter;
#[cfg(feature = "cuda")]
mod cuda;
pub mod data;
pub mod decoding;
pub mod device;
pub mod energy;
mod error;
mod evaluate;
mod events;
mod fill;
mod further;
pub mod memory;
mod meters;
pub mod model;
mod named;
pub mod ops;
mod parameter;
pub mod plan;
mod pool;
mod scaling;
pub mod sensitivity;
mod sized;
mod sparse_speed;
mod speed;
mod stages;
mod stopwatch;
mod taught;
pub mod techniques;
mod trainer;
pub mod training;

pub use self::{
    backend::{
        attention_cost, evaluate, gemm_flops_per_s, generate, measure_sensitivity, remeasure, sparse_product,
        speculate, time,
    },
    bundle_use::Sampling,
    catalog::catalog,
    error::EvaluationError,
    evaluate::Job,
    events::{Events, Silent},
    named::{Facts, Folders, Named, inspect, load_data},
    scaling::AttentionCost,
    sparse_speed::SparseProduct,
    speed::{Rounds, Speed, Work},
    stages::Shelf,
};

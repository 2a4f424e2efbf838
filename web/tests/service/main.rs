//! Every route against a real database, one for each test.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auth;
mod events;
mod files;
mod health;
mod memory;
mod openapi;
mod optimize;
mod results;
mod roles;
mod studies;
mod support;
mod trials;
mod worker;

//! The worker protocol of [`spaces::protocol`].
//!
//! A worker leases a trial, sends heartbeats and reports while it works, uploads files, then finishes or releases it.
//! Each message proves its claim with the lease's token; one that no longer holds is answered with 409 and the type
//! `urn:parsimony:problem:lease-lost`, upon which a worker drops the trial and leases the next one.

mod artifacts;
mod lease;
mod reaper;
mod report;

use spaces::protocol::TrialState;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

pub use self::artifacts::object_path;
pub(crate) use self::reaper::reap;
use crate::{AppState, Problem};

pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(lease::lease))
        .routes(routes!(report::heartbeat))
        .routes(routes!(report::report))
        .routes(routes!(report::finish))
        .routes(routes!(report::release))
        .merge(artifacts::router())
}

/// The state that a message left its trial in.
#[derive(Debug, serde::Serialize, ToSchema)]
pub(crate) struct TrialStateView {
    /// The state.
    state: TrialState,
}

/// Reads a lease's token. A text that is none was never valid, which is all the same to a worker.
fn token(trial: i64, lease: &str) -> Result<Uuid, Problem> {
    Uuid::try_parse(lease).map_err(|_| store::StoreError::LeaseLost { trial }.into())
}

//! Who has been seen working.

use axum::{Json, extract::State};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{AppState, Problem, auth::Viewer};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Workers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerList {
    /// Those heard of in the last week, the last heard of first.
    workers: Vec<WorkerView>,
}

/// A worker.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerView {
    /// Its name.
    name: String,
    /// What it computes on.
    device: String,
    /// When it first asked for a trial.
    #[serde(with = "time::serde::rfc3339")]
    first_seen: OffsetDateTime,
    /// When it was last heard of.
    #[serde(with = "time::serde::rfc3339")]
    last_seen: OffsetDateTime,
    /// Seconds since then.
    silent_s: f64,
    /// The id of the trial it works on.
    trial: Option<i64>,
    /// That trial's number.
    trial_number: Option<i32>,
    /// That trial's study.
    study: Option<String>,
}

/// List workers
#[utoipa::path(get, path = "/workers", tag = "server", security(("token" = ["view"])),
    responses((status = 200, body = WorkerList)))]
async fn list(_: Viewer, State(state): State<AppState>) -> Result<Json<WorkerList>, Problem> {
    let now = OffsetDateTime::now_utc();
    let view = |w: store::Worker| WorkerView {
        silent_s: (now - w.last_seen).as_seconds_f64().max(0.0),
        name: w.name,
        device: w.device,
        first_seen: w.first_seen,
        last_seen: w.last_seen,
        trial: w.trial,
        trial_number: w.trial_number,
        study: w.study,
    };
    let workers = state.store.workers().await?;
    Ok(Json(WorkerList {
        workers: workers.into_iter().map(view).collect(),
    }))
}

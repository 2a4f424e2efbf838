//! What a worker says about its trial.

use axum::{Json, extract::State};
use spaces::{
    Measurement,
    protocol::{Finish, Heartbeat, HeartbeatAnswer, Outcome, Release, Report},
};

use super::{TrialStateView, token};
use crate::{
    AppState, Problem,
    auth::Worker,
    extract::{self, Path},
};

/// Keep a trial
///
/// Before the lease runs out, again and again. Tells whether the trial shall be stopped.
#[utoipa::path(post, path = "/worker/trials/{id}/heartbeat", tag = "worker", security(("token" = ["worker"])),
    params(("id" = i64, Path, description = "the trial's id")), request_body = Heartbeat,
    responses((status = 200, body = HeartbeatAnswer)))]
pub(super) async fn heartbeat(
    _: Worker,
    State(state): State<AppState>,
    Path(id): Path<i64>,
    extract::Json(message): extract::Json<Heartbeat>,
) -> Result<Json<HeartbeatAnswer>, Problem> {
    let lease = token(id, &message.lease)?;
    let progress = message.progress.as_ref();
    let cancel = state
        .store
        .heartbeat(id, lease, state.settings.lease, progress)
        .await?;
    Ok(answer(&state, cancel))
}

/// Report values along the way
///
/// Counts as a heartbeat. Sending the same rows twice is harmless.
#[utoipa::path(post, path = "/worker/trials/{id}/report", tag = "worker", security(("token" = ["worker"])),
    params(("id" = i64, Path, description = "the trial's id")), request_body = Report,
    responses((status = 200, body = HeartbeatAnswer)))]
pub(super) async fn report(
    _: Worker,
    State(state): State<AppState>,
    Path(id): Path<i64>,
    extract::Json(message): extract::Json<Report>,
) -> Result<Json<HeartbeatAnswer>, Problem> {
    let lease = token(id, &message.lease)?;
    check(&message.measurements)?;
    let (duration, progress) = (state.settings.lease, message.progress.as_ref());
    let cancel = state
        .store
        .report(id, lease, duration, &message.measurements, progress)
        .await?;
    Ok(answer(&state, cancel))
}

/// Finish a trial
///
/// The same finish again is harmless. A failure that another attempt may mend puts the trial back into the queue.
#[utoipa::path(post, path = "/worker/trials/{id}/finish", tag = "worker", security(("token" = ["worker"])),
    params(("id" = i64, Path, description = "the trial's id")), request_body = Finish,
    responses((status = 200, body = TrialStateView)))]
pub(super) async fn finish(
    _: Worker,
    State(state): State<AppState>,
    Path(id): Path<i64>,
    extract::Json(message): extract::Json<Finish>,
) -> Result<Json<TrialStateView>, Problem> {
    let lease = token(id, &message.lease)?;
    if let Outcome::Done(evaluation) = &message.outcome {
        check(&evaluation.measurements)?;
    }
    let ended = state.store.finish(id, lease, &message.outcome).await?;
    tracing::info!(
        trial = id,
        state = ended.label(),
        "trial {id} is {}",
        ended.label()
    );
    Ok(Json(TrialStateView { state: ended }))
}

/// Give a trial back
///
/// At no cost of an attempt.
#[utoipa::path(post, path = "/worker/trials/{id}/release", tag = "worker", security(("token" = ["worker"])),
    params(("id" = i64, Path, description = "the trial's id")), request_body = Release,
    responses((status = 200, body = TrialStateView)))]
pub(super) async fn release(
    _: Worker,
    State(state): State<AppState>,
    Path(id): Path<i64>,
    extract::Json(message): extract::Json<Release>,
) -> Result<Json<TrialStateView>, Problem> {
    let lease = token(id, &message.lease)?;
    let left = state.store.release(id, lease).await?;
    Ok(Json(TrialStateView { state: left }))
}

fn answer(state: &AppState, cancel: bool) -> Json<HeartbeatAnswer> {
    Json(HeartbeatAnswer {
        lease_s: state.settings.lease.as_secs_f64(),
        cancel,
    })
}

/// Refuses names that could not be a column, a file's part or a query's key.
fn check(measurements: &[Measurement]) -> Result<(), Problem> {
    let is_name = |text: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        (1..=64).contains(&text.len()) && text.chars().all(plain)
    };
    match measurements.iter().find(|m| !is_name(&m.metric)) {
        None => Ok(()),
        Some(m) => Err(Problem::unprocessable(format!(
            "'{}' is not the name of a metric; use up to 64 lower-case letters, digits and '_'",
            m.metric.escape_debug()
        ))),
    }
}

//! Trials: list, show, curves, retry, cancel.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use spaces::protocol::TrialState;
use store::TrialFilter;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState, Problem,
    auth::{Submitter, Viewer},
    extract::{Path, Query},
    views::{self, Resolved, TrialCurves, TrialList, TrialView},
};

/// Trials of a page where nothing is said, and the most that can be asked for.
const PAGE: u32 = 200;
const LARGEST_PAGE: u32 = 2000;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(table))
        .routes(routes!(show))
        .routes(routes!(curve))
        .routes(routes!(retry))
        .routes(routes!(cancel))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only trials in one of these states; may be given several times.
    #[serde(default)]
    state: Vec<TrialState>,
    /// Only trials with a higher number: `next` of the page before.
    after: Option<u32>,
    /// At most so many, 200 where nothing is said, 2000 at most.
    limit: Option<u32>,
}

/// List trials of a study
#[utoipa::path(get, path = "/studies/{study}/trials", tag = "trials", security(("token" = ["view"])),
    params(("study" = String, Path, description = "name or id"), ListQuery),
    responses((status = 200, body = TrialList)))]
async fn list(
    _: Viewer,
    State(state): State<AppState>,
    Path(study): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<TrialList>, Problem> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(Problem::bad_request(format!(
            "limit: {limit} is not between 1 and {LARGEST_PAGE}; ask for several pages with 'after'"
        )));
    }
    let study = Resolved::new(state.store.find_study(&study).await?, &state.catalog);
    let filter = TrialFilter {
        states: query.state,
        after: query.after,
        limit: Some(limit),
    };
    let trials = state.store.trials(study.row.id, &filter).await?;
    let is_full = trials.len() == limit as usize;
    let row = |t: &store::Trial| views::trial_row(t, &study, &state.catalog);
    Ok(Json(TrialList {
        next: trials.last().filter(|_| is_full).map(|t| t.number),
        trials: trials.iter().map(row).collect(),
    }))
}

/// Trials of a study as a table
///
/// A column for each parameter and each metric.
#[utoipa::path(get, path = "/studies/{study}/trials.csv", tag = "trials", security(("token" = ["view"])),
    params(("study" = String, Path, description = "name or id")),
    responses((status = 200, content_type = "text/csv", body = String)))]
async fn table(
    _: Viewer,
    State(state): State<AppState>,
    Path(study): Path<String>,
) -> Result<Response, Problem> {
    let found = state.store.find_study(&study).await?;
    let board = state.boards.read(found.id).await?;
    let rows: Vec<_> = board
        .trials()
        .map(|t| views::trial_row(t, &board.study, &state.catalog))
        .collect();
    Ok(csv_file(
        &format!("{}-trials.csv", found.name),
        views::trials_csv(&rows),
    ))
}

/// A table to be saved under that name.
pub(super) fn csv_file(name: &str, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        // names of studies are plain ASCII without quotes
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    (headers, text).into_response()
}

/// Show a trial
#[utoipa::path(get, path = "/trials/{id}", tag = "trials", security(("token" = ["view"])),
    params(("id" = i64, Path, description = "the trial's id")), responses((status = 200, body = TrialView)))]
async fn show(
    _: Viewer,
    State(state): State<AppState>,
    Path(id): Path<i64>,
) -> Result<Json<TrialView>, Problem> {
    view(&state, id).await.map(Json)
}

/// A trial with all that is kept of it.
pub(crate) async fn view(state: &AppState, id: i64) -> Result<TrialView, Problem> {
    let detail = state.store.trial(id).await?;
    let study = Resolved::new(state.store.study(detail.trial.study).await?, &state.catalog);
    Ok(views::trial_view(&detail, &study, &state.catalog))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CurveQuery {
    /// Only these metrics; may be given several times.
    #[serde(default)]
    metric: Vec<String>,
}

/// Show what a trial reported along the way
#[utoipa::path(get, path = "/trials/{id}/curve", tag = "trials", security(("token" = ["view"])),
    params(("id" = i64, Path, description = "the trial's id"), CurveQuery),
    responses((status = 200, body = TrialCurves)))]
async fn curve(
    _: Viewer,
    State(state): State<AppState>,
    Path(id): Path<i64>,
    Query(query): Query<CurveQuery>,
) -> Result<Json<TrialCurves>, Problem> {
    state.store.trial(id).await?;
    let metrics: Vec<&str> = query.metric.iter().map(String::as_str).collect();
    let points = state.store.curve(id, &metrics).await?;
    Ok(Json(views::curves(id, &points)))
}

/// Retry a failed trial
#[utoipa::path(post, path = "/trials/{id}/retry", tag = "trials", security(("token" = ["submit"])),
    params(("id" = i64, Path, description = "the trial's id")), responses((status = 200, body = TrialView)))]
async fn retry(
    _: Submitter,
    State(state): State<AppState>,
    Path(id): Path<i64>,
) -> Result<Json<TrialView>, Problem> {
    state.store.retry_trial(id).await?;
    view(&state, id).await.map(Json)
}

/// Cancel a trial
///
/// At once if it waits; one that runs is asked to stop.
#[utoipa::path(post, path = "/trials/{id}/cancel", tag = "trials", security(("token" = ["submit"])),
    params(("id" = i64, Path, description = "the trial's id")), responses((status = 200, body = TrialView)))]
async fn cancel(
    _: Submitter,
    State(state): State<AppState>,
    Path(id): Path<i64>,
) -> Result<Json<TrialView>, Problem> {
    state.store.cancel_trial(id).await?;
    view(&state, id).await.map(Json)
}

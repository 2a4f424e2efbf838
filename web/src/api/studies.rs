//! Studies: list, show, delete.

use axum::{Json, extract::State, http::StatusCode};
use object_store::ObjectStoreExt;
use serde::Serialize;
use store::StudyState;
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{steer, submit};
use crate::{
    AppState, Problem,
    auth::{Submitter, Viewer},
    extract::Path,
    views::{self, Resolved, StudyRow, StudyView},
    worker::object_path,
};

/// Every study.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StudyList {
    /// The last active first.
    pub studies: Vec<StudyRow>,
}

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, submit::create))
        .routes(routes!(submit::check))
        .routes(routes!(show_one, delete))
        .routes(routes!(steer::pause))
        .routes(routes!(steer::resume))
        .routes(routes!(steer::cancel))
        .routes(routes!(steer::retry_failed))
        .routes(routes!(steer::clone))
}

/// List studies
#[utoipa::path(get, path = "/studies", tag = "studies", security(("token" = ["view"])),
    responses((status = 200, body = StudyList)))]
async fn list(_: Viewer, State(state): State<AppState>) -> Result<Json<StudyList>, Problem> {
    list_studies(&state).await.map(Json)
}

/// Every study's row.
pub(crate) async fn list_studies(state: &AppState) -> Result<StudyList, Problem> {
    let mut studies = vec![];
    for summary in state.store.studies().await? {
        studies.push(row(state, summary).await?);
    }
    Ok(StudyList { studies })
}

/// The row of a study: of one that runs with the time it will take, which needs its trials.
async fn row(state: &AppState, summary: store::StudySummary) -> Result<StudyRow, Problem> {
    let now = OffsetDateTime::now_utc();
    if summary.study.state == StudyState::Running {
        match state.boards.read(summary.study.id).await {
            Ok(board) => return Ok(board.row(now)),
            // deleted in between: shown as it was
            Err(store::StoreError::NotFound { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let study = Resolved::new(summary.study, &state.catalog);
    let counts = views::Counts::from(summary.counts);
    let progress = views::Progress::of_counts(&study, &counts);
    Ok(views::study_row(&study, counts, progress))
}

/// Show a study
///
/// `study` is its name or id.
#[utoipa::path(get, path = "/studies/{study}", tag = "studies", security(("token" = ["view"])),
    params(("study" = String, Path, description = "name or id")), responses((status = 200, body = StudyView)))]
async fn show_one(
    _: Viewer,
    State(state): State<AppState>,
    Path(study): Path<String>,
) -> Result<Json<StudyView>, Problem> {
    let found = state.store.find_study(&study).await?;
    show(&state, found.id).await.map(Json)
}

/// A study with all there is to say about it.
pub(crate) async fn show(state: &AppState, id: i64) -> Result<StudyView, Problem> {
    let board = state.boards.read(id).await?;
    let row = board.row(OffsetDateTime::now_utc());
    let best = views::best(&board.study, board.trials());
    Ok(views::study_view(
        &board.study,
        row,
        best,
        &board.curve,
        &state.catalog,
    ))
}

/// Delete a study
///
/// With its trials, their measurements and files. Running workers find their lease lost.
#[utoipa::path(delete, path = "/studies/{study}", tag = "studies", security(("token" = ["submit"])),
    params(("study" = String, Path, description = "name or id")), responses((status = 204, description = "deleted")))]
async fn delete(
    _: Submitter,
    State(state): State<AppState>,
    Path(study): Path<String>,
) -> Result<StatusCode, Problem> {
    let found = state.store.find_study(&study).await?;
    let _alone = state.files.write().await;
    let orphans = state.store.delete_study(found.id).await?;
    tracing::info!(
        study = found.id,
        name = found.name,
        "study '{}' was deleted",
        found.name
    );
    for sha256 in orphans {
        // the study is gone whatever happens here; a file left behind costs only space
        if let Err(e) = state.objects.delete(&object_path(&sha256)).await {
            tracing::warn!(sha256, "a file of a deleted study stays behind: {e}");
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

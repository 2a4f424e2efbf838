//! What people do to a study under way: pause, resume, cancel, retry, clone.

use std::collections::BTreeSet;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use spaces::{StudySpec, study::study_to_toml};
use store::TrialFilter;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::{
    AppState, Problem,
    auth::{Submitter, Viewer},
    extract::{Path, Query},
    views::{FrontRequest, Resolved, StudyRow, front, starts},
};

/// Longest name of a study.
const NAME_LENGTH: usize = 80;

/// How many trials were put back into the queue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Retried {
    /// The number.
    retried: usize,
}

/// What a clone takes along.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloneQuery {
    /// Whether it begins with the configurations of the study's front.
    #[serde(default)]
    front: bool,
}

/// A study to start from.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClonedStudy {
    /// The same study under a name that is free.
    spec: StudySpec,
    /// The same as a study file.
    toml: String,
}

/// Pause a study
///
/// No further trial is leased until it is resumed; those that run go on.
#[utoipa::path(post, path = "/studies/{study}/pause", tag = "studies", security(("token" = ["submit"])),
    params(("study" = String, Path, description = "name or id")), responses((status = 200, body = StudyRow)))]
pub(super) async fn pause(
    _: Submitter,
    State(state): State<AppState>,
    Path(study): Path<String>,
) -> Result<Json<StudyRow>, Problem> {
    let found = state.store.find_study(&study).await?;
    state.store.pause(found.id).await?;
    after(&state, found.id).await
}

/// Resume a paused or failed study
#[utoipa::path(post, path = "/studies/{study}/resume", tag = "studies", security(("token" = ["submit"])),
    params(("study" = String, Path, description = "name or id")), responses((status = 200, body = StudyRow)))]
pub(super) async fn resume(
    _: Submitter,
    State(state): State<AppState>,
    Path(study): Path<String>,
) -> Result<Json<StudyRow>, Problem> {
    let found = state.store.find_study(&study).await?;
    state.store.resume(found.id).await?;
    after(&state, found.id).await
}

/// Cancel a study
///
/// Waiting trials are cancelled, running ones asked to stop.
#[utoipa::path(post, path = "/studies/{study}/cancel", tag = "studies", security(("token" = ["submit"])),
    params(("study" = String, Path, description = "name or id")), responses((status = 200, body = StudyRow)))]
pub(super) async fn cancel(
    _: Submitter,
    State(state): State<AppState>,
    Path(study): Path<String>,
) -> Result<Json<StudyRow>, Problem> {
    let found = state.store.find_study(&study).await?;
    state.store.cancel_study(found.id).await?;
    after(&state, found.id).await
}

async fn after(state: &AppState, study: i64) -> Result<Json<StudyRow>, Problem> {
    let board = state.boards.read(study).await?;
    Ok(Json(board.row(OffsetDateTime::now_utc())))
}

/// Retry every failed trial of a study
#[utoipa::path(post, path = "/studies/{study}/retry-failed", tag = "studies", security(("token" = ["submit"])),
    params(("study" = String, Path, description = "name or id")), responses((status = 200, body = Retried)))]
pub(super) async fn retry_failed(
    _: Submitter,
    State(state): State<AppState>,
    Path(study): Path<String>,
) -> Result<Json<Retried>, Problem> {
    let found = state.store.find_study(&study).await?;
    let retried = state.store.retry_failed(found.id).await?;
    Ok(Json(Retried { retried }))
}

/// Clone a study
///
/// Creates nothing: the answer is the study under a free name, to be changed and submitted.
#[utoipa::path(post, path = "/studies/{study}/clone", tag = "studies", security(("token" = ["view"])),
    params(("study" = String, Path, description = "name or id"), CloneQuery),
    responses((status = 200, body = ClonedStudy)))]
pub(super) async fn clone(
    _: Viewer,
    State(state): State<AppState>,
    Path(study): Path<String>,
    Query(query): Query<CloneQuery>,
) -> Result<Json<ClonedStudy>, Problem> {
    let mut found = state.store.find_study(&study).await?;
    if query.front {
        let trials = state.store.trials(found.id, &TrialFilter::default()).await?;
        let earlier = Resolved::new(found.clone(), &state.catalog);
        if let Some(study) = earlier.study() {
            let best = front(&earlier, &trials, &FrontRequest::default(), &state.catalog);
            found
                .spec
                .search
                .start
                .extend(starts(&best, study, &state.catalog));
        }
    }
    let studies = state.store.studies().await?;
    let taken: BTreeSet<&str> = studies.iter().map(|s| s.study.name.as_str()).collect();
    let spec = StudySpec {
        name: free_name(&found.name, |name| !taken.contains(name)),
        ..found.spec
    };
    Ok(Json(ClonedStudy {
        toml: study_to_toml(&spec),
        spec,
    }))
}

/// The next free of `name-2`, `name-3` ...; counts on where the name ends so already.
fn free_name(name: &str, is_free: impl Fn(&str) -> bool) -> String {
    let (stem, last) = match name.rsplit_once('-') {
        Some((stem, digits)) if !stem.is_empty() => match digits.parse::<u32>() {
            Ok(n) if n.to_string() == digits => (stem, n),
            _ => (name, 1),
        },
        _ => (name, 1),
    };
    let numbered = |n: u32| {
        let end = format!("-{n}");
        // names are ASCII, so any place is a boundary of characters
        format!("{}{end}", &stem[..stem.len().min(NAME_LENGTH - end.len())])
    };
    (last.max(1)..u32::MAX)
        .map(|n| numbered(n + 1))
        .find(|name| is_free(name))
        .unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::free_name;

    #[test]
    fn names_count_on() {
        let taken = ["a", "a-2", "b-9", "c-d"];
        let free = |name: &str| free_name(name, |n| !taken.contains(&n));
        assert_eq!(free("a"), "a-3");
        assert_eq!(free("a-2"), "a-3");
        assert_eq!(free("b-9"), "b-10");
        assert_eq!(free("c-d"), "c-d-2");
        assert_eq!(free("x-007"), "x-007-2");
        let long = "n".repeat(80);
        assert_eq!(free(&long), format!("{}-2", "n".repeat(78)));
    }
}

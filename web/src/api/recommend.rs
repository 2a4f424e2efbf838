//! One configuration to use, with the reason.

use axum::{Json, extract::State};
use search::{NoRecommendation, Rule};
use serde::Deserialize;
use spaces::Limit;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::limits::limits;
use crate::{
    AppState, Problem,
    auth::Viewer,
    extract::{Path, Query},
    views::{self, Recommendation},
};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RecommendQuery {
    /// `knee`, `trial:ID`, `min:METRIC` or `max:METRIC`; the knee where nothing is said.
    rule: Option<String>,
    /// A limit beside those of the study, such as `model_bytes<=4 MiB`; may be given several times.
    #[serde(default, rename = "where")]
    limit: Vec<String>,
}

/// Recommend one configuration
///
/// Of the trials that keep the limits, one by a rule. Where none does, the one that comes closest, with what to relax.
#[utoipa::path(get, path = "/studies/{study}/recommend", tag = "results", security(("token" = ["view"])),
    params(("study" = String, Path, description = "name or id"), RecommendQuery),
    responses((status = 200, body = Recommendation)))]
async fn show(
    _: Viewer,
    State(state): State<AppState>,
    Path(study): Path<String>,
    Query(query): Query<RecommendQuery>,
) -> Result<Json<Recommendation>, Problem> {
    let rule = rule(query.rule.as_deref())?;
    recommend(&state, &study, &rule, &limits(&query.limit)?)
        .await
        .map(Json)
}

/// Reads a rule; the knee where nothing is said.
pub(super) fn rule(text: Option<&str>) -> Result<Rule, Problem> {
    text.map_or(Ok(Rule::Knee), Rule::parse)
        .map_err(|e| Problem::bad_request(format!("rule: {e}")))
}

/// The recommendation for a study.
pub(super) async fn recommend(
    state: &AppState,
    study: &str,
    rule: &Rule,
    limits: &[Limit],
) -> Result<Recommendation, Problem> {
    let found = state.store.find_study(study).await?;
    let board = state.boards.read(found.id).await?;
    let trials: Vec<_> = board.trials().collect();
    views::recommendation(&board.study, &trials, rule, limits, &state.catalog).map_err(|e| match e {
        NoRecommendation::NoResults(_) => {
            Problem::new(axum::http::StatusCode::CONFLICT, "no-results", e.to_string())
        }
        NoRecommendation::UnknownTrial(_) => Problem::not_found(e.to_string()),
        NoRecommendation::Unmeasured { .. } => Problem::unprocessable(e.to_string()),
    })
}

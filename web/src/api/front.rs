//! The Pareto front, as JSON, table or picture.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    limits::{limits, objectives},
    trials::csv_file,
};
use crate::{
    AppState, Problem,
    auth::Viewer,
    extract::{Path, Query},
    plots::{self, FrontPlot, HypervolumePlot},
    views::{self, Front, FrontRequest},
};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(hypervolume))
}

/// How an answer is wanted.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Json,
    Csv,
    Svg,
    Png,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct FrontQuery {
    /// The objectives, instead of the study's; may be given several times. A picture shows the first two.
    #[serde(default)]
    metric: Vec<String>,
    /// A limit beside those of the study, such as `model_bytes<=4 MiB`; may be given several times.
    #[serde(default, rename = "where")]
    limit: Vec<String>,
    /// `json`, `csv`, `svg` or `png`.
    #[serde(default)]
    format: Format,
}

/// Show the Pareto front
///
/// Derived from the finished trials. Where energy is measured in some trials and estimated in others, the front holds
/// the measured ones and `split` the others.
#[utoipa::path(get, path = "/studies/{study}/front", tag = "results", security(("token" = ["view"])),
    params(("study" = String, Path, description = "name or id"), FrontQuery),
    responses((status = 200, content(
        (Front = "application/json"), (String = "text/csv"), (String = "image/svg+xml"), (Vec<u8> = "image/png")))))]
async fn show(
    _: Viewer,
    State(state): State<AppState>,
    Path(study): Path<String>,
    Query(query): Query<FrontQuery>,
) -> Result<Response, Problem> {
    let request = FrontRequest {
        objectives: objectives(&query.metric)?,
        limits: limits(&query.limit)?,
    };
    let found = state.store.find_study(&study).await?;
    let board = state.boards.read(found.id).await?;
    let catalog = std::sync::Arc::clone(&state.catalog);
    // many objectives and trials take a while, as does drawing
    let work = move || {
        let front = views::front(&board.study, board.trials(), &request, &catalog);
        let plot = || FrontPlot::new(&front, &board.study, board.trials(), &request);
        Ok(match query.format {
            Format::Json => Json(front).into_response(),
            Format::Csv => csv_file(
                &format!("{}-front.csv", found.name),
                views::front_csv(&front.trials),
            ),
            Format::Svg => picture("image/svg+xml", plot()?.svg()?),
            Format::Png => picture("image/png", plot()?.png()?),
        })
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Problem::internal)?
}

/// Draw the hypervolume by trial
#[utoipa::path(get, path = "/studies/{study}/hypervolume", tag = "results", security(("token" = ["view"])),
    params(("study" = String, Path, description = "name or id"), HypervolumeQuery),
    responses((status = 200, content((String = "image/svg+xml"), (Vec<u8> = "image/png")))))]
async fn hypervolume(
    _: Viewer,
    State(state): State<AppState>,
    Path(study): Path<String>,
    Query(query): Query<HypervolumeQuery>,
) -> Result<Response, Problem> {
    let found = state.store.find_study(&study).await?;
    let board = state.boards.read(found.id).await?;
    let work = move || {
        let plot = HypervolumePlot::new(&board.study, &board.curve);
        Ok(match query.format {
            Picture::Svg => picture("image/svg+xml", plot.svg()?),
            Picture::Png => picture("image/png", plot.png()?),
        })
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Problem::internal)?
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HypervolumeQuery {
    /// `svg` or `png`.
    #[serde(default)]
    format: Picture,
}

/// How a picture is wanted.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Picture {
    #[default]
    Svg,
    Png,
}

fn picture(content_type: &'static str, bytes: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, content_type)], bytes).into_response()
}

impl From<plots::PlotError> for Problem {
    fn from(e: plots::PlotError) -> Problem {
        match e {
            plots::PlotError::OneAxis => Problem::unprocessable(e.to_string()),
            plots::PlotError::Drawing(_) => Problem::internal(e),
        }
    }
}

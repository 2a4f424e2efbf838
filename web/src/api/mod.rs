//! The JSON API under `/api/v1`, one resource a file, described by the document at `/api/openapi.json`.

mod catalog;
mod document;
mod events;
mod export;
mod front;
mod limits;
mod optimize;
mod recommend;
mod steer;
mod studies;
mod submit;
mod tokens;
mod trials;
mod workers;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;

use crate::{AppState, Problem, worker};

/// Every route of the API.
pub(crate) fn router() -> Router<AppState> {
    let (api, paths) = OpenApiRouter::new()
        .nest("/api/v1", v1().fallback(no_such_route))
        .split_for_parts();
    api.merge(document::router(paths))
}

fn v1() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(studies::router())
        .merge(trials::router())
        .merge(front::router())
        .merge(recommend::router())
        .merge(export::router())
        .merge(events::router())
        .merge(optimize::router())
        .merge(catalog::router())
        .merge(workers::router())
        .merge(tokens::router())
        .merge(worker::router())
}

async fn no_such_route(uri: axum::http::Uri) -> Problem {
    Problem::not_found(format!(
        "there is no '{}'; /api/openapi.json lists what there is",
        uri.path()
    ))
}

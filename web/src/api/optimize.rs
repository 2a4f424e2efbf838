//! The search for trials that run elsewhere: ask and tell.

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
};
use search::ask_tell::{Answer, Request};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{AppState, Problem, auth::Submitter};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(converse))
}

/// Ask for configurations and tell their results
///
/// One message of the ask/tell protocol, the same objects that `parsimony optimize` reads and writes. A study belongs
/// to the token that opened it, is kept in memory, and is forgotten after an hour without a message. The answer to
/// `ask` may be `cheap`: post `cheap_values` to get the next one. What is wrong with a message is answered with status
/// 200 and an object of the type `error`, as on the command line; only what happens before the message is read, such as
/// a missing token, is a problem.
#[utoipa::path(post, path = "/optimize", tag = "optimize", security(("token" = ["submit"])),
    request_body = Request, responses((status = 200, body = Answer)))]
async fn converse(
    Submitter(caller): Submitter,
    State(state): State<AppState>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Answer>, Problem> {
    let body = body.map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "the message is larger than this route takes; send fewer results at a time",
        ),
        _ => Problem::bad_request("the body cannot be read; send one JSON object"),
    })?;
    Ok(Json(match Request::read(&body) {
        Ok(request) => state.conversations.answer(caller.access.token, request).await,
        Err(refusal) => refusal.into(),
    }))
}

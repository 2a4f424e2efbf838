//! What is shown: the HTTP API, the worker protocol, live events, pages and plots.
//!
//! [`router`] serves everything from an [`AppState`]; [`serve`] runs it with its background work until told to stop.
//! [`views`] turns what is stored into the JSON types, and [`plots`] into pictures, for the command line too.
//! This crate never sees the evaluator: what it needs of it comes through [`Admission`].

mod api;
mod assets;
mod auth;
mod board;
mod conversations;
mod error;
mod extract;
mod headers;
mod health;
mod meters;
mod pages;
pub mod plots;
mod serve;
mod state;
pub mod views;
mod worker;

use axum::{Router, extract::DefaultBodyLimit, middleware};
use tower_http::compression::{
    CompressionLayer, Predicate,
    predicate::{DefaultPredicate, NotForContentType},
};

pub use self::{
    error::{Problem, ProblemBody},
    serve::serve,
    state::{Admission, AppState, Settings},
    worker::object_path,
};

/// Most bytes of a body but for an upload: the report of a long training, a study with its space.
const BODY_LIMIT: usize = 8 << 20;

/// Everything the server answers.
pub fn router(state: AppState) -> Router {
    // events must flow as they come; archives and weights hardly shrink
    let compressible = DefaultPredicate::new()
        .and(NotForContentType::const_new("application/zip"))
        .and(NotForContentType::const_new("application/octet-stream"));
    Router::new()
        .merge(api::router())
        .merge(auth::router())
        .merge(health::router())
        .merge(pages::router())
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(CompressionLayer::new().compress_when(compressible))
        .layer(middleware::from_fn_with_state(state.clone(), meters::observe))
        .layer(middleware::from_fn(headers::add))
        .with_state(state)
}

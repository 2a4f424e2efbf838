//! What a browser sees where there is nothing, or something went wrong.

use axum::{
    extract::OriginalUri,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use maud::html;

use super::layout::{Page, Theme};
use crate::{auth::Caller, error::Problem};

/// Every address that is no page: HTML for a browser, a problem for a program.
pub(super) async fn show(OriginalUri(uri): OriginalUri, headers: HeaderMap) -> Response {
    let problem = Problem::not_found(format!("there is nothing at '{}'; start from /", uri.path()));
    let accepts = headers
        .get("accept")
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    if accepts.contains("text/html") {
        because(&problem, Theme::of(&headers), None)
    } else {
        problem.into_response()
    }
}

/// The page of a problem.
pub(super) fn because(problem: &Problem, theme: Theme, caller: Option<&Caller>) -> Response {
    let status = problem.status();
    let title = status.canonical_reason().unwrap_or("Error");
    let content = html! {
        div.prose {
            h1 { (title) }
            p.sentence { (problem.detail()) }
            p { a.button href="/" { "All studies" } }
        }
    };
    let page = Page {
        title,
        script: "plain.js",
        narrow: true,
        theme,
        caller,
        ..Page::default()
    };
    (status, page.render(&content)).into_response()
}

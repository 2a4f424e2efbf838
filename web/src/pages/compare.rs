//! Two to four trials side by side.

use axum::{
    extract::Query,
    response::{IntoResponse, Response},
};
use maud::html;
use serde::Deserialize;

use super::{
    layout::{Page, Theme},
    not_found, trial,
};
use crate::{auth::PageViewer, error::Problem};

/// Trials that fit side by side.
const MOST: usize = 4;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// Ids, joined by commas.
    #[serde(default)]
    trials: String,
}

/// `GET /compare?trials=1,2`
pub(super) async fn show(
    PageViewer(caller): PageViewer,
    theme: Theme,
    Query(wanted): Query<Wanted>,
) -> Response {
    let ids: Result<Vec<i64>, _> = wanted.trials.split(',').map(str::parse).collect();
    let ids = match ids {
        Ok(ids) if (2..=MOST).contains(&ids.len()) => ids,
        _ => {
            let problem = Problem::bad_request(format!(
                "'{}' does not name two to four trials; pin them on their study's page and choose compare",
                wanted.trials
            ));
            return not_found::because(&problem, theme, Some(&caller));
        }
    };
    let list: Vec<String> = ids.iter().map(i64::to_string).collect();
    let table = |id: &str, title: &str| {
        html! {
            section.panel aria-labelledby=(format!("{id}-title")) {
                header { h2 #(format!("{id}-title")) { (title) } @if id == "config" { span #config-note .small .muted {} } }
                div.scroll tabindex="0" role="group" aria-labelledby=(format!("{id}-title")) {
                    table.compare { thead #(format!("{id}-head")) {} tbody #(id) {} }
                }
            }
        }
    };
    let content = html! {
        div.head { h1 { "Comparison" } span.muted.small { "against the first" } }
        div.stack {
            // two fit beside each other with room to spare
            div class=(if ids.len() == 2 { "two" } else { "stack" }) { (table("metrics", "Measurements")) (table("config", "Configuration")) }
            (trial::curve())
        }
    };
    Page {
        title: "Comparison",
        script: "compare.js",
        style: Some("trial.css"),
        theme,
        caller: Some(&caller),
        trials: Some(&list.join(",")),
        ..Page::default()
    }
    .render(&content)
    .into_response()
}

//! The list of studies, and who works.

use axum::response::IntoResponse;
use maud::{Markup, html};
use store::Role;

use super::layout::{Page, Theme};
use crate::auth::PageViewer;

/// `GET /`
pub(super) async fn show(PageViewer(caller): PageViewer, theme: Theme) -> impl IntoResponse {
    let content = html! {
        div.head {
            h1 { "Studies" }
            @if caller.may(Role::Submit) { div.actions { a.button.primary href="/new" { "New study" } } }
        }
        section.workers aria-label="Workers" { h2 { "Workers" } ul #workers { li.muted { "…" } } }
        ul #studies .stack aria-label="Studies" hidden {}
        (empty(caller.may(Role::Submit)))
    };
    Page {
        title: "Studies",
        script: "home.js",
        style: Some("home.css"),
        here: "/",
        theme,
        caller: Some(&caller),
        ..Page::default()
    }
    .render(&content)
}

fn empty(may_submit: bool) -> Markup {
    html! {
        section #empty .panel .empty hidden {
            strong { "No study yet" }
            p { "A study searches model configurations for the best trade-offs between quality and cost." }
            @if may_submit {
                p.actions {
                    a.button.primary href="/new" { "Set up a study" }
                    a.button href="/new?demo" { "Fill in the demo" }
                }
            }
            p.small { "From a shell: " code { "parsimony search STUDY.toml" } " or " code { "parsimony up --demo" } }
        }
    }
}

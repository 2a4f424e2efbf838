//! The form of a new study, made by its module from the catalogue.

use axum::response::IntoResponse;
use maud::{Markup, html};
use store::Role;

use super::{
    layout::{Page, Theme},
    not_found,
};
use crate::{auth::PageViewer, error::Problem};

/// Id, title and a sentence of each section of the form.
const SECTIONS: [(&str, &str, &str); 5] = [
    ("basics", "Name and data", ""),
    (
        "objectives",
        "Objectives",
        "What is traded off, two to four as a rule. The order decides what the charts show first.",
    ),
    (
        "budgets",
        "Hard limits",
        "A configuration that breaks a limit known before training is never trained.",
    ),
    (
        "parameters",
        "Parameters",
        "What is not searched or fixed here keeps the preset's value or its default.",
    ),
    ("search", "Search", ""),
];

/// `GET /new`
pub(super) async fn show(PageViewer(caller): PageViewer, theme: Theme) -> impl IntoResponse {
    if !caller.may(Role::Submit) {
        let problem =
            Problem::forbidden("your token may look but not submit; log in with one of the role 'submit'");
        return not_found::because(&problem, theme, Some(&caller));
    }
    let content = html! {
        div.head {
            h1 { "New study" }
            span.small.muted #draft-note role="status" {}
            div.actions {
                button #demo type="button" { "Fill in the demo" }
                button #reset type="button" { "Start over" }
            }
        }
        div #errors .alert role="alert" tabindex="-1" hidden {}
        div.segments role="tablist" aria-label="Ways to write the study" {
            button #tab-form role="tab" type="button" aria-selected="true" aria-controls="panel-form" { "Form" }
            button #tab-toml role="tab" type="button" aria-selected="false" aria-controls="panel-toml" tabindex="-1" { "TOML" }
        }
        form #form novalidate {
            div #panel-form role="tabpanel" aria-labelledby="tab-form" .stack { (sections()) }
            div #panel-toml role="tabpanel" aria-labelledby="tab-toml" .panel hidden {
                label for="toml" { "Study file" }
                textarea #toml rows="32" spellcheck="false" autocomplete="off" {}
            }
            div.submit {
                nav #sections aria-label="Sections" { ul { @for (id, title, _) in SECTIONS { li { a href=(format!("#section-{id}")) { (title) } } } } }
                div.actions {
                    button #submit .primary type="submit" { "Start the search" }
                    button #check type="button" { "Check" }
                }
                p #verdict .small role="status" {}
            }
        }
    };
    Page {
        title: "New study",
        script: "new.js",
        style: Some("form.css"),
        here: "/new",
        theme,
        caller: Some(&caller),
        ..Page::default()
    }
    .render(&content)
    .into_response()
}

fn sections() -> Markup {
    let section = |id: &str, title: &str, doc: &str| {
        html! {
            fieldset.panel #(format!("section-{id}")) tabindex="-1" {
                legend { (title) }
                @if !doc.is_empty() { p.small.muted { (doc) } }
                div #(id) .fields {}
            }
        }
    };
    html! {
        @for (id, title, doc) in SECTIONS { (section(id, title, doc)) }
    }
}

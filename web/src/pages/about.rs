//! What runs here, and what the labels on its numbers mean.

use axum::{extract::State, response::IntoResponse};
use maud::html;
use spaces::Evidence;

use super::layout::{Page, Theme};
use crate::{auth::PageViewer, state::AppState};

/// Every label with its meaning.
const LABELS: [(Evidence, &str); 5] = [
    (
        Evidence::Measured,
        "read from a counter, a clock, a byte count or a file's size",
    ),
    (
        Evidence::Analytic,
        "computed by a formula that is exact for what is executed",
    ),
    (
        Evidence::Estimated,
        "from a model with assumptions, such as power from load; never mixed silently with measured values",
    ),
    (Evidence::Extrapolated, "read off a fitted curve"),
    (Evidence::Imported, "given by the user"),
];

/// `GET /about`
pub(super) async fn show(
    PageViewer(caller): PageViewer,
    theme: Theme,
    State(state): State<AppState>,
) -> impl IntoResponse {
    let database = state.store.ping().await.is_ok();
    let workers = state.store.workers().await.unwrap_or_default();
    let content = html! {
        h1 { "About" }
        div.stack {
            section.panel aria-labelledby="build" {
                header { h2 #build { "This server" } }
                dl.pairs {
                    dt { "Version" } dd.mono { (env!("CARGO_PKG_VERSION")) }
                    dt { "Database" } dd { @if database { "answers" } @else { "does not answer; see " code { "parsimony doctor" } } }
                    dt { "Workers" } dd { (workers.len()) " in the last week" }
                    dt { "Offers" } dd {
                        (state.catalog.techniques.len()) " techniques, " (state.catalog.parameters.len()) " parameters, "
                        (state.catalog.metrics.len()) " metrics, " (state.catalog.methods.len()) " search methods"
                    }
                    dt { "Interface" } dd { a href="/api/openapi.json" { "OpenAPI" } }
                }
            }
            section #evidence .panel aria-labelledby="evidence-title" {
                header { h2 #evidence-title { "Evidence" } }
                dl.pairs {
                    @for (label, meaning) in LABELS { dt { span.tag.(label.label()) { (label.label()) } } dd { (meaning) } }
                }
            }
            section.panel aria-labelledby="techniques-title" {
                header { h2 #techniques-title { "Techniques" } }
                div.scroll tabindex="0" role="group" aria-labelledby="techniques-title" {
                    table {
                        thead { tr { th scope="col" { "Family" } th scope="col" { "Name" } th scope="col" { "What it does" } th scope="col" { "Paper" } } }
                        tbody { @for t in &state.catalog.techniques {
                            tr { td { (words(&t.family)) } th scope="row" { (words(&t.name)) } td.wrap { (t.doc) } td { (paper(&t.paper)) } }
                        } }
                    }
                }
            }
            section.panel aria-labelledby="licences" {
                header { h2 #licences { "Made with" } }
                p { "Charts: Apache ECharts (Apache License 2.0), which includes zrender (BSD 3-Clause)." }
            }
        }
    };
    Page {
        title: "About",
        script: "plain.js",
        here: "/about",
        theme,
        caller: Some(&caller),
        ..Page::default()
    }
    .render(&content)
}

/// A name as people read it.
fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// The papers, with a link from each arXiv number.
fn paper(papers: &str) -> maud::Markup {
    html! {
        @for (i, paper) in papers.split(", ").enumerate() {
            @if i > 0 { ", " }
            @let (number, rest) = paper.split_once(' ').unwrap_or((paper, ""));
            @let number = number.strip_prefix("arXiv:").unwrap_or(number);
            @if number.len() >= 9 && number.chars().all(|c| c.is_ascii_digit() || c == '.') {
                a href=(format!("https://arxiv.org/abs/{number}")) rel="noreferrer" { "arXiv " (number) } " " (rest)
            } @else { (paper) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arxiv_number_is_a_link() {
        let text = paper("1905.10650, 1611.06440 (first order), a book").into_string();
        assert_eq!(text.matches("<a ").count(), 2);
        assert!(
            text.contains("https://arxiv.org/abs/1611.06440") && text.ends_with("(first order), a book"),
            "{text}"
        );
    }
}

//! One trial in full.

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use maud::{Markup, html};
use store::Role;

use super::{
    layout::{Page, Theme},
    not_found,
};
use crate::{auth::PageViewer, state::AppState};

/// `GET /trials/{id}`
pub(super) async fn show(
    PageViewer(caller): PageViewer,
    theme: Theme,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Response {
    let found = async {
        let id = id.parse().map_err(|_| {
            crate::error::Problem::not_found(format!(
                "'{id}' is not the id of a trial; open one from its study"
            ))
        })?;
        let detail = state.store.trial(id).await?;
        Ok((state.store.study(detail.trial.study).await?, detail.trial))
    };
    let (study, trial) = match found.await {
        Ok(found) => found,
        Err(e) => return not_found::because(&e, theme, Some(&caller)),
    };
    let title = format!("Trial {} of {}", trial.number, study.name);
    let content = html! {
        p.crumbs { a href="/" { "Studies" } " / " a href=(format!("/studies/{}", study.name)) { (study.name) } }
        div.head {
            h1 { "Trial " (trial.number) }
            span #state .pill .(trial.state.label()) { (trial.state.label()) }
            div.actions {
                a #compare .button hidden { "Compare with the recommended one" }
                @if caller.may(Role::Submit) {
                    button #retry type="button" hidden { "Retry" }
                    button #cancel type="button" hidden { "Cancel" }
                }
                a #export .button .primary href=(format!("/api/v1/trials/{}/export", trial.id)) download hidden { "Export model" }
            }
        }
        // numbers begin anew in each study; commands name trials across all of them
        p #named .small .muted { "On the command line: " code { "--pick trial:" (trial.id) } }
        p #failure .alert hidden {}
        div.trial {
            div.stack { (metrics()) (curve()) }
            div.stack {
                section.panel aria-labelledby="facts-title" { header { h2 #facts-title { "Run" } } dl #facts .pairs {} }
                section.panel aria-labelledby="config-title" {
                    header { h2 #config-title { "Configuration" } span #config-note .small .muted {} }
                    div #config {}
                }
                section #activity-panel .panel aria-labelledby="activity-title" hidden { header { h2 #activity-title { "What each technique did" } } dl #activity .pairs {} }
                section #provenance-panel .panel aria-labelledby="provenance-title" hidden { header { h2 #provenance-title { "Provenance" } } dl #provenance .pairs {} }
            }
        }
    };
    Page {
        title: &title,
        script: "trial.js",
        style: Some("trial.css"),
        theme,
        caller: Some(&caller),
        study: Some(&study.name),
        trial: Some(trial.id),
        ..Page::default()
    }
    .render(&content)
    .into_response()
}

fn metrics() -> Markup {
    html! {
        section.panel aria-labelledby="metrics-title" {
            header { h2 #metrics-title { "Measurements" } span.small.muted { "objectives first" } a.small href="/about#evidence" { "what the labels mean" } }
            p #no-metrics .muted hidden { "No final values: they come when the trial is done." }
            div.scroll tabindex="0" role="group" aria-labelledby="metrics-title" {
                table {
                    thead { tr {
                        th scope="col" { "Metric" } th.num scope="col" { "Value" } th.num scope="col" { "Against recommended" } th scope="col" { "Evidence and source" }
                    } }
                    tbody #metrics {}
                }
            }
        }
    }
}

/// A learning curve with a choice of its metric.
pub(super) fn curve() -> Markup {
    html! {
        section #curve-panel .panel aria-labelledby="curve-title" hidden {
            header { h2 #curve-title { "Learning curve" } select #curve-metric aria-label="Metric of the curve" {} }
            div #curve .chart .tall role="img" aria-label="no values yet" {}
            details { summary { "As a table" } div.scroll tabindex="0" role="group" aria-label="Learning curve" { table #curve-table {} } }
        }
    }
}

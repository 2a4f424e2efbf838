//! One study: the front, the budgets, the recommendation, the trials.

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

/// `GET /studies/{name}`
pub(super) async fn show(
    PageViewer(caller): PageViewer,
    theme: Theme,
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Response {
    let study = match state.store.find_study(&name).await {
        Ok(study) => study,
        Err(e) => return not_found::because(&e.into(), theme, Some(&caller)),
    };
    let content = html! {
        p.crumbs { a href="/" { "Studies" } }
        div.head {
            h1 { (study.name) }
            span #state .pill .(study.state.label()) { (study.state.label()) }
            span.small.muted { span #progress-text {} " · " span #updated {} }
            (actions(&study.name, caller.may(Role::Submit)))
        }
        span #progress .bar role="progressbar" aria-label="Progress" aria-valuemin="0" { span {} }
        p #study-error .alert hidden {}
        div.bench {
            (budgets())
            (chart())
            div.cards { (recommended()) (inspector()) }
            div.below { (hypervolume()) div.stack { (counts()) (failures(caller.may(Role::Submit))) } }
        }
        (trials())
    };
    Page {
        title: &study.name,
        script: "study.js",
        style: Some("study.css"),
        theme,
        caller: Some(&caller),
        study: Some(&study.name),
        revision: Some(study.revision),
        ..Page::default()
    }
    .render(&content)
    .into_response()
}

fn actions(name: &str, may_steer: bool) -> Markup {
    html! {
        div.actions {
            @if may_steer {
                @for (action, label) in [("pause", "Pause"), ("resume", "Resume"), ("cancel", "Cancel"), ("delete", "Delete")] {
                    button type="button" data-steer=(action) hidden { (label) }
                }
                a #clone .button href="/new" { "Clone" }
                a #clone-front .button href="/new" title="a clone that begins with the configurations on this study's front" { "Clone with front" }
            }
            details.menu {
                summary { "Download" }
                div {
                    a href=(format!("/api/v1/studies/{name}/trials.csv")) download { "All trials (CSV)" }
                    a href=(format!("/api/v1/studies/{name}/front?format=csv")) download { "Front (CSV)" }
                    a href=(format!("/api/v1/studies/{name}/front")) download { "Front (JSON)" }
                    a href=(format!("/api/v1/studies/{name}/front?format=svg")) download { "Plot (SVG)" }
                    a href=(format!("/api/v1/studies/{name}/front?format=png")) download { "Plot (PNG)" }
                }
            }
        }
    }
}

fn budgets() -> Markup {
    html! {
        section.panel.budgets aria-labelledby="budgets-title" {
            header { h2 #budgets-title { "Budgets" } button #budget-clear .plain type="button" hidden { "Clear" } }
            ul #budget-list {}
            select #budget-add aria-label="Add a budget for another metric" hidden {}
            p #budget-count .small .muted {}
        }
    }
}

fn chart() -> Markup {
    html! {
        section.panel.front aria-labelledby="front-title" {
            header {
                h2 #front-title .hush { "Trade-offs" }
                div.axes {
                    label { span { "Y" } select #axis-y {} }
                    button #log-y type="button" aria-pressed="false" aria-label="log Y axis" { "log" }
                    button #swap .plain type="button" aria-label="swap the axes" title="swap the axes" { "⇄" }
                    label { span { "X" } select #axis-x {} }
                    button #log-x type="button" aria-pressed="false" aria-label="log X axis" { "log" }
                    button #fit type="button" aria-pressed="false" { "fit front" }
                }
            }
            p #summary .small {}
            a.skip href="#trials" { "Skip the chart, go to the table" }
            div #scatter .scatter tabindex="0" role="application" aria-roledescription="chart" aria-describedby="keys" {
                div #scatter-canvas aria-hidden="true" {}
                div #tip .tip hidden aria-hidden="true" {}
                p #chart-empty .empty hidden { "The first finished trial appears here by itself." }
            }
            ul.legend aria-label="Legend" {
                li { span.mark.m-front {} "front" }
                li { span.mark.m-recommended {} "recommended" }
                li { span.mark.m-dominated {} "dominated" }
                li { span.mark.m-over aria-hidden="true" { "✕" } "over budget" }
                li { span.mark.m-line {} "best for these two axes" }
            }
            p #evidence-note .note .warn hidden {}
            div #pinned .pinned hidden {
                ul #pins aria-label="Pinned trials" {}
                button #compare type="button" {}
                button #unpin-all .plain type="button" { "Unpin all" }
            }
            p #keys .small .muted {
                kbd { "←" } " " kbd { "→" } " walk the front, " kbd { "Enter" } " pins, then opens, "
                kbd { "C" } " compares, " kbd { "Esc" } " clears"
            }
        }
    }
}

fn recommended() -> Markup {
    html! {
        section.panel.recommended aria-labelledby="recommended-title" {
            header {
                h2 #recommended-title { "Recommended" }
                select #rule aria-label="Rule of the recommendation" {}
            }
            div #recommended-body .stack {}
        }
    }
}

fn inspector() -> Markup {
    html! {
        section.panel.inspector aria-labelledby="inspector-title" {
            header { h2 #inspector-title { "In view" } }
            div #inspector-body .stack {}
        }
    }
}

fn hypervolume() -> Markup {
    html! {
        section.panel aria-labelledby="hypervolume-title" {
            header { h2 #hypervolume-title { "Hypervolume" } span #hypervolume-now .small .muted {} }
            div #hypervolume .chart role="img" aria-label="no values yet" {}
            details #hypervolume-twin { summary { "As a table" } div.scroll tabindex="0" role="group" aria-label="Hypervolume by trial" { table #hypervolume-table {} } }
        }
    }
}

fn counts() -> Markup {
    html! {
        section.panel aria-labelledby="counts-title" {
            header { h2 #counts-title { "Trials by state" } }
            ul #counts .counts {}
        }
    }
}

fn failures(may_steer: bool) -> Markup {
    html! {
        section #failures .panel aria-labelledby="failures-title" hidden {
            header {
                h2 #failures-title { "Failed " span #failures-count .muted {} }
                @if may_steer { button #retry-failed type="button" { "Retry failed" } }
            }
            ul #failures-list .failures {}
        }
    }
}

fn trials() -> Markup {
    html! {
        section #trials .panel aria-labelledby="trials-title" tabindex="-1" {
            header {
                h2 #trials-title { "Trials" }
                label.small { "Show " select #trials-filter {
                    @for (value, text) in [
                        ("all", "all"), ("front", "the front"), ("budget", "within budgets"), ("done", "done"), ("running", "running"),
                        ("queued", "queued"), ("failed", "failed"), ("paused", "paused"), ("infeasible", "infeasible"), ("pruned", "pruned"), ("cancelled", "cancelled"),
                    ] { option value=(value) { (text) } }
                } }
                span #trials-count .small .muted role="status" {}
                details.menu { summary { "Columns" } div #columns {} }
            }
            div.scroll tabindex="0" role="group" aria-labelledby="trials-title" {
                table { caption.hush { "Every trial with its values; the buttons in the head sort" } thead #trials-head {} tbody #trials-body {} }
            }
            p #trials-pages .actions hidden {
                button #trials-back type="button" { "Previous" }
                button #trials-next type="button" { "Next" }
            }
        }
    }
}

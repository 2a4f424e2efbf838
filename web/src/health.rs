//! Whether the server lives, can work, and what it counts.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Gauge, GaugeVec, Opts, Registry, TextEncoder};
use spaces::protocol::TrialState;
use store::StudyState;
use time::OffsetDateTime;

use crate::{AppState, Problem, auth::Viewer};

/// `/healthz`, `/readyz`, `/metrics`.
pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

async fn ready(State(state): State<AppState>) -> Result<&'static str, Problem> {
    match state.store.ping().await {
        Ok(()) => Ok("ready"),
        Err(e) => {
            tracing::warn!("not ready: {e}");
            Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "not-ready",
                "the database does not answer; try again shortly",
            ))
        }
    }
}

/// Prometheus text: what this process counted, and what the database holds.
async fn metrics(_: Viewer, State(state): State<AppState>) -> Result<Response, Problem> {
    let mut families = state.meters.registry.gather();
    families.extend(stored(&state).await?.gather());
    let text = TextEncoder::new()
        .encode_to_string(&families)
        .map_err(Problem::internal)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

async fn stored(state: &AppState) -> Result<Registry, Problem> {
    let registry = Registry::new();
    let by_state = |name: &str, help: &str| {
        let gauge = GaugeVec::new(Opts::new(name, help), &["state"]).map_err(Problem::internal)?;
        registry
            .register(Box::new(gauge.clone()))
            .map_err(Problem::internal)?;
        Ok::<_, Problem>(gauge)
    };
    let single = |name: &str, help: &str, value: f64| {
        let gauge = Gauge::new(name, help).map_err(Problem::internal)?;
        gauge.set(value);
        registry.register(Box::new(gauge)).map_err(Problem::internal)
    };
    let studies = by_state("parsimony_studies", "Studies by state")?;
    let trials = by_state("parsimony_trials", "Trials by state")?;
    for label in StudyState::ALL.map(StudyState::label) {
        studies.with_label_values(&[label]).set(0.0);
    }
    let mut waiting = 0;
    for summary in state.store.studies().await? {
        studies.with_label_values(&[summary.study.state.label()]).inc();
        let c = summary.counts;
        let counts = [
            c.queued,
            c.running,
            c.paused,
            c.done,
            c.pruned,
            c.infeasible,
            c.failed,
            c.cancelled,
        ];
        for (state, count) in TrialState::ALL.into_iter().zip(counts) {
            trials.with_label_values(&[state.label()]).add(count as f64);
        }
        if summary.study.state == StudyState::Running {
            waiting += c.queued;
        }
    }
    single(
        "parsimony_queue_length",
        "Trials that wait for a worker in studies that run",
        waiting as f64,
    )?;
    let now = OffsetDateTime::now_utc();
    let workers = state.store.workers().await?;
    let busy = workers.iter().filter(|w| w.trial.is_some());
    let ages = busy.map(|w| (now - w.last_seen).as_seconds_f64().max(0.0));
    single(
        "parsimony_lease_age_seconds",
        "Longest time since a working worker was heard of",
        ages.fold(0.0, f64::max),
    )?;
    Ok(registry)
}

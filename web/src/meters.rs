//! What the server counts about itself, and the log line of each request.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use prometheus::{HistogramOpts, HistogramVec, Registry};

use crate::state::AppState;

const KNOWN: [Method; 5] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
];

/// Meters of the whole server.
#[derive(Debug)]
pub(crate) struct Meters {
    pub(crate) registry: Registry,
    requests: HistogramVec,
}

impl Default for Meters {
    fn default() -> Self {
        let options = HistogramOpts::new(
            "parsimony_http_request_duration_seconds",
            "Time until an answer began, by method, route and status",
        )
        .buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]);
        let requests = HistogramVec::new(options, &["method", "route", "status"])
            .expect("the names are literals of the right form");
        let registry = Registry::new();
        registry
            .register(Box::new(requests.clone()))
            .expect("nothing else is registered yet");
        Meters { registry, requests }
    }
}

/// Counts and logs a request. The query stays out of the log: a login link has its secret there.
pub(crate) async fn observe(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none".to_owned(), |matched| matched.as_str().to_owned());
    let start = Instant::now();
    let response = next.run(request).await;
    let (elapsed, status) = (start.elapsed(), response.status());
    // anyone can invent methods, and each would be kept for ever
    let counted = if KNOWN.contains(&method) {
        method.as_str()
    } else {
        "other"
    };
    state
        .meters
        .requests
        .with_label_values(&[counted, &route, status.as_str()])
        .observe(elapsed.as_secs_f64());
    tracing::info!(
        %method,
        path,
        route,
        status = status.as_u16(),
        duration_ms = elapsed.as_secs_f64() * 1e3,
        "{method} {path} answered {}",
        status.as_u16()
    );
    response
}

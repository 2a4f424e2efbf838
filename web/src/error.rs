//! The one error of every handler, sent as `application/problem+json` (RFC 9457).
//!
//! What the caller can mend carries a sentence that says how. Everything else is logged with its cause and sent as a
//! plain 500, because its text is for the operator.

use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use spaces::SpecError;
use store::StoreError;
use utoipa::ToSchema;

/// A request that could not be served, and why.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    errors: Vec<SpecError>,
    retry_after_s: Option<u64>,
}

/// What is wrong with a request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// A name that programs can rely on, such as `urn:parsimony:problem:lease-lost`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The meaning of the status code.
    pub title: String,
    /// The status code.
    pub status: u16,
    /// One sentence with the offending value and the remedy.
    pub detail: String,
    /// What is wrong with a study, each with its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<SpecError>,
}

impl Problem {
    /// A problem of a kind that has a name of its own.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem {
            status,
            kind,
            detail: detail.into(),
            errors: vec![],
            retry_after_s: None,
        }
    }

    /// A request that cannot be read.
    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// A request that can be read but not be done.
    pub fn unprocessable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    }

    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// The caller is not known.
    pub fn unauthorized(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// The caller is known and may not do this.
    pub fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// Too many attempts; the next one may come after so many seconds.
    pub fn too_many(detail: impl Into<String>, retry_after_s: u64) -> Problem {
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail);
        Problem {
            retry_after_s: Some(retry_after_s),
            ..problem
        }
    }

    /// A study with mistakes, each at its place.
    pub fn bad_study(errors: Vec<SpecError>) -> Problem {
        let detail = match errors.as_slice() {
            [only] => only.to_string(),
            [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
            [] => "the study cannot be run".to_owned(),
        };
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-study", detail);
        Problem { errors, ..problem }
    }

    /// Something that only the operator can mend: logged here, its text not sent.
    pub fn internal(cause: impl std::fmt::Display) -> Problem {
        tracing::error!("a request failed: {cause}");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the server failed to do this; the reason is in its log",
        )
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<StoreError> for Problem {
    fn from(e: StoreError) -> Problem {
        let (status, kind) = match &e {
            StoreError::LeaseLost { .. } => (StatusCode::CONFLICT, "lease-lost"),
            StoreError::NotFound { .. } => (StatusCode::NOT_FOUND, "not-found"),
            StoreError::NameTaken(_) => (StatusCode::CONFLICT, "name-taken"),
            StoreError::WrongState { .. } => (StatusCode::CONFLICT, "wrong-state"),
            StoreError::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            _ => return Problem::internal(e),
        };
        Problem::new(status, kind, e.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: format!("urn:parsimony:problem:{}", self.kind),
            title: self.status.canonical_reason().unwrap_or("Problem").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            errors: self.errors,
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// The answer to a method that a route does not have.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        format!(
            "'{}' has no {method}; /api/openapi.json lists what it has",
            uri.path()
        ),
    )
}

//! Whether a change that a browser asks for comes from our own page.
//!
//! Two proofs are needed: the session's token, which only our pages know, and the browser's own word on which page asks.

use axum::http::{HeaderMap, header};
use store::Session;

use crate::error::Problem;

/// The header that carries the session's token.
const HEADER: &str = "x-csrf-token";

/// Refuses a change without both proofs.
pub(super) fn check(headers: &HeaderMap, session: &Session, public_url: &str) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    if !same_origin(
        text("sec-fetch-site"),
        text(header::ORIGIN.as_str()),
        text(header::HOST.as_str()),
        public_url,
    ) {
        return Err(Problem::forbidden(
            "the request does not come from a page of this server; use its pages, or a bearer token",
        ));
    }
    match text(HEADER) {
        Some(given) if session.csrf_matches(given) => Ok(()),
        _ => Err(Problem::forbidden(
            "the header x-csrf-token is missing or of another session; reload the page",
        )),
    }
}

/// Whether the browser says that the request comes from another site's page.
pub(super) fn is_foreign(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_some_and(|site| site == "cross-site")
}

/// Whether the browser says that the request comes from this server.
fn same_origin(site: Option<&str>, origin: Option<&str>, host: Option<&str>, public_url: &str) -> bool {
    match (site, origin) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => {
            let of_host = || origin.split_once("://").map(|(_, rest)| rest) == host;
            origin == public_url || host.is_some() && of_host()
        }
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::same_origin;

    #[test]
    fn the_browser_must_vouch_for_the_page() {
        let public = "https://search.example.org";
        let host = Some("127.0.0.1:8080");
        for (site, origin, expected) in [
            (Some("same-origin"), None, true),
            (Some("same-site"), Some(public), false),
            (Some("cross-site"), Some(public), false),
            (Some("none"), None, false),
            (None, Some(public), true),
            (None, Some("http://127.0.0.1:8080"), true),
            (None, Some("http://127.0.0.1:8081"), false),
            (None, Some("https://evil.example.org"), false),
            (None, Some("null"), false),
            (None, None, false),
        ] {
            assert_eq!(
                same_origin(site, origin, host, public),
                expected,
                "{site:?} {origin:?}"
            );
        }
        assert!(!same_origin(None, Some("nonsense"), None, public));
    }
}

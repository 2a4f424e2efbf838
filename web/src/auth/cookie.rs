//! The cookie that carries a session.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};

const NAME: &str = "parsimony_session";

/// The session's secret, if the browser sent one.
pub(super) fn read(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == NAME)
        .map(|(_, value)| value)
}

/// The header that gives the browser a session.
pub(super) fn set(secret: &str, lasts: Duration, public_url: &str) -> HeaderValue {
    write(secret, lasts.as_secs(), public_url)
}

/// The header that takes the session away again.
pub(super) fn clear(public_url: &str) -> HeaderValue {
    write("", 0, public_url)
}

fn write(secret: &str, max_age_s: u64, public_url: &str) -> HeaderValue {
    let secure = if public_url.starts_with("https:") {
        "; Secure"
    } else {
        ""
    };
    let text = format!("{NAME}={secret}; HttpOnly; SameSite=Strict; Path=/; Max-Age={max_age_s}{secure}");
    HeaderValue::try_from(text).expect("secrets are base64 and therefore header text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others_and_guarded() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("theme=dark; x=1"));
        assert_eq!(read(&headers), None);
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("a=b;parsimony_session=psy_s=; c=d"),
        );
        assert_eq!(read(&headers), Some("psy_s="));
        let plain = set("psy_s", Duration::from_secs(60), "http://localhost:1");
        assert_eq!(
            plain,
            "parsimony_session=psy_s; HttpOnly; SameSite=Strict; Path=/; Max-Age=60"
        );
        assert!(
            clear("https://x")
                .to_str()
                .unwrap()
                .ends_with("Max-Age=0; Secure")
        );
    }
}

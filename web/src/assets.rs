//! The page's own files and the chart library, embedded, compressed and named by their content.

use axum::{
    Router,
    body::Body,
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// A file that pages load.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    plain: &'static [u8],
    brotli: &'static [u8],
    gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The address of a file. Any change of any file changes every address, so that modules may name each other plainly.
pub(crate) fn url(name: &str) -> String {
    format!("/assets/{VERSION}/{name}")
}

/// Serves the files.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/assets/{version}/{*name}", get(show))
}

async fn show(Path((version, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    // a page of an older server must not keep a newer file under the old name for ever
    let Some(asset) = found.filter(|_| version == VERSION) else {
        return (StatusCode::NOT_FOUND, "there is no such file; reload the page").into_response();
    };
    let accepted = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let (bytes, encoding) = choose(asset, accepted);
    let mut response = Response::new(Body::from(bytes));
    let mut set = |name, value| {
        response
            .headers_mut()
            .insert(name, header::HeaderValue::from_static(value))
    };
    set(header::CONTENT_TYPE, asset.content_type);
    set(header::CACHE_CONTROL, "public, max-age=31536000, immutable");
    set(header::VARY, "accept-encoding");
    if let Some(encoding) = encoding {
        set(header::CONTENT_ENCODING, encoding);
    }
    response
}

fn choose(asset: &Asset, accepted: &str) -> (&'static [u8], Option<&'static str>) {
    let takes = |name: &str| {
        accepted.split(',').any(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            parts.next() == Some(name) && !parts.any(|weight| weight == "q=0")
        })
    };
    if takes("br") {
        (asset.brotli, Some("br"))
    } else if takes("gzip") {
        (asset.gzip, Some("gzip"))
    } else {
        (asset.plain, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_accepted_form_is_sent() {
        let asset = Asset {
            name: "a.js",
            content_type: "text/javascript",
            plain: b"plain",
            brotli: b"br",
            gzip: b"gz",
        };
        assert_eq!(choose(&asset, "gzip, deflate, br"), (&b"br"[..], Some("br")));
        assert_eq!(choose(&asset, "gzip, br;q=0"), (&b"gz"[..], Some("gzip")));
        assert_eq!(choose(&asset, "identity"), (&b"plain"[..], None));
    }

    #[test]
    fn the_chart_library_is_there() {
        let library = ASSETS.iter().find(|a| a.name == "js/vendor/echarts.js").unwrap();
        assert!(library.brotli.len() < library.plain.len() / 3);
    }
}

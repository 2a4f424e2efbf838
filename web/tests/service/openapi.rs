use axum::{body::Body, http::Request};

use super::support::Server;

/// A change of the API is seen here first.
#[tokio::test]
async fn the_document_is_as_agreed() {
    let server = Server::new().await;
    let request = Request::get("/api/openapi.json").body(Body::empty()).unwrap();
    let mut document = server.send(request).await.ok();
    assert_eq!(document["openapi"], "3.1.0");
    document["info"]["version"] = "[version]".into();
    insta::assert_json_snapshot!(document);
}

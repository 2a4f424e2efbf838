use axum::{body::Body, http::Request};

use super::support::Server;

/// A change of the API is seen here first.
#[tokio::test]
async fn the_document_is_as_agreed() {
    let server = Server::new().await;
    let request = Request::get("/api/openapi.json").body(Body::empty()).unwrap();
    let mut document = server.send(request).await.ok();
    assert_eq!(document["openapi"], "3.1.0");
    let items = document["paths"].as_object().unwrap().values();
    let operations = items.flat_map(|item| item.as_object().unwrap().values());
    let mut names: Vec<&str> = operations.map(|o| o["operationId"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert!(
        names.is_sorted_by(|a, b| a < b),
        "generated clients need distinct names: {names:?}"
    );
    document["info"]["version"] = "[version]".into();
    insta::assert_json_snapshot!(document);
}

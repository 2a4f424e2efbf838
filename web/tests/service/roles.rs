//! Who may call what: each role at each operation of the document, so that a new one is covered by being described.

use axum::{body::Body, http::Request};
use serde_json::json;

use super::support::Server;

/// The roles that include the needed one.
fn allowed(needed: &str) -> &'static [&'static str] {
    match needed {
        "admin" => &["admin"],
        "submit" => &["admin", "submit"],
        "view" => &["admin", "submit", "view"],
        "worker" => &["admin", "worker"],
        other => panic!("'{other}' is no role"),
    }
}

#[tokio::test]
async fn each_operation_admits_its_roles_and_no_others() {
    let server = Server::new().await;
    let request = Request::get("/api/openapi.json").body(Body::empty()).unwrap();
    let document = server.send(request).await.ok();
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let concrete = path
            .replace("{study}", "none")
            .replace("{id}", "999")
            .replace("{name}", "file.bin");
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            let place = format!("{method} {path}");
            let needed = operation["security"][0]["token"][0].as_str();
            let needed = needed.unwrap_or_else(|| panic!("{place} names no role"));
            let send = async |authorization: Option<String>| {
                let mut request = Request::builder()
                    .method(method.to_uppercase().as_str())
                    .uri(&concrete);
                if let Some(value) = authorization {
                    request = request.header("authorization", value);
                }
                let request = request
                    .header("content-type", "application/json")
                    .body(Body::from("null"))
                    .unwrap();
                // streams never end: only their heads are read
                let response = tower::ServiceExt::oneshot(server.app.clone(), request)
                    .await
                    .unwrap();
                response.status().as_u16()
            };
            assert_eq!(send(None).await, 401, "{place} without a token");
            assert_eq!(
                send(Some("Bearer psy_wrong".into())).await,
                401,
                "{place} with a wrong token"
            );
            assert_eq!(
                send(Some("Basic YTpi".into())).await,
                401,
                "{place} with a password"
            );
            for role in ["admin", "submit", "view", "worker"] {
                let status = send(Some(format!("Bearer {}", server.token(role)))).await;
                if allowed(needed).contains(&role) {
                    assert!(![401, 403].contains(&status), "{place} refuses {role}: {status}");
                    assert!(status < 500, "{place} fails for {role}: {status}");
                } else {
                    assert_eq!(status, 403, "{place} for {role}");
                }
            }
        }
    }
    assert!(operations > 30, "only {operations} operations are described");
}

#[tokio::test]
async fn the_sentence_names_the_role_and_the_remedy() {
    let server = Server::new().await;
    let refused = server.call("view", "POST", "/studies", Some(json!({}))).await;
    assert_eq!(
        refused.problem(403),
        "this needs the role 'submit', but the token has the role 'view'; use a token of that role"
    );
    let request = Request::get("/api/v1/studies").body(Body::empty()).unwrap();
    let unknown = server.send(request).await;
    assert!(
        unknown
            .problem(401)
            .contains("send the header 'authorization: Bearer TOKEN'")
    );
    assert_eq!(unknown.header("www-authenticate"), "Bearer");
}

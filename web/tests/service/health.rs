use axum::{body::Body, http::Request};

use super::support::{Server, spec};

#[tokio::test]
async fn the_server_tells_how_it_is() {
    let server = Server::new().await;
    let plain = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(server.send(plain("/healthz")).await.text(), "ok");
    assert_eq!(server.send(plain("/readyz")).await.text(), "ready");
    server.send(plain("/metrics")).await.problem(401);
    let study = server.submit(spec("counted")).await;
    server.propose(study, 0..3).await;
    server.lease().await;
    let request = Request::get("/metrics")
        .header("authorization", format!("Bearer {}", server.token("view")))
        .body(Body::empty())
        .unwrap();
    let text = server.send(request).await.text();
    for line in [
        "parsimony_studies{state=\"running\"} 1",
        "parsimony_studies{state=\"paused\"} 0",
        "parsimony_trials{state=\"queued\"} 2",
        "parsimony_trials{state=\"running\"} 1",
        "parsimony_queue_length 2",
        "parsimony_http_request_duration_seconds_count{method=\"POST\",route=\"/api/v1/studies\",status=\"201\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(text.contains("parsimony_lease_age_seconds 0"));
    server.db.store.close().await;
    assert!(
        server
            .send(plain("/readyz"))
            .await
            .problem(503)
            .contains("does not answer")
    );
    assert_eq!(
        server.send(plain("/healthz")).await.status,
        200,
        "alive all the same"
    );
}

#[tokio::test]
async fn every_answer_carries_the_strict_headers() {
    let server = Server::new().await;
    for path in [
        "/healthz",
        "/login",
        "/api/v1/studies",
        "/api/v1/nothing",
        "/nothing",
    ] {
        let answer = server.send(Request::get(path).body(Body::empty()).unwrap()).await;
        let policy = answer.header("content-security-policy");
        for part in [
            "default-src 'self'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "form-action 'self'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "same-origin");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
    let answer = server.call("view", "PATCH", "/studies", None).await;
    assert!(answer.problem(405).contains("'/api/v1/studies' has no PATCH"));
    assert!(
        server
            .get("/nothing")
            .await
            .problem(404)
            .contains("/api/openapi.json lists")
    );
}

#[tokio::test]
async fn json_is_compressed_where_the_client_can_read_it() {
    let server = Server::new().await;
    let request = |encoding: &str| {
        Request::get("/api/openapi.json")
            .header("accept-encoding", encoding)
            .body(Body::empty())
            .unwrap()
    };
    for encoding in ["gzip", "br"] {
        let answer = server.send(request(encoding)).await;
        assert_eq!(answer.header("content-encoding"), encoding);
        assert!(answer.bytes.len() < 20_000, "{}", answer.bytes.len());
    }
    assert_eq!(
        server.send(request("identity")).await.header("content-encoding"),
        ""
    );
}

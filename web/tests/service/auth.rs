use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use serde_json::json;
use store::Role;
use web::Settings;

use super::support::{Answer, Server, issue, spec};

/// The cookie that an answer set.
fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

async fn get(server: &Server, path: &str, cookie: &str) -> Answer {
    let request = Request::get(path)
        .header("cookie", cookie)
        .body(Body::empty())
        .unwrap();
    server.send(request).await
}

/// Logs in by link; the cookie and the session's CSRF token.
async fn log_in(server: &Server, role: Role) -> (String, String) {
    let secret = issue(&server.db, role, true).await;
    let answer = get(server, &format!("/login?token={secret}"), "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    let cookie = cookie(&answer);
    let session = cookie.split_once('=').unwrap().1;
    let csrf = server
        .db
        .store
        .check_session(session)
        .await
        .unwrap()
        .unwrap()
        .csrf;
    (cookie, csrf)
}

#[tokio::test]
async fn a_login_link_works_once() {
    let server = Server::new().await;
    let secret = issue(&server.db, Role::View, true).await;
    let link = format!("/login?token={secret}&next=/studies/a%3Fx=1");
    let answer = get(&server, &link, "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.header("location"), "/studies/a?x=1");
    let set = answer.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=2592000"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Secure"), "the address is plain http");
    let studies = get(&server, "/api/v1/studies", &cookie(&answer)).await;
    assert_eq!(studies.ok()["studies"], json!([]));
    let again = get(&server, &link, "").await;
    assert_eq!(again.status, 401);
    assert!(again.header("content-type").starts_with("text/html"));
    assert!(again.text().contains("unknown, expired, revoked or used up"));
    assert_eq!(again.header("set-cookie"), "");
}

#[tokio::test]
async fn a_token_can_be_pasted_and_leads_nowhere_else() {
    let server = Server::with(Settings {
        public_url: "https://search.example.org".into(),
        ..Settings::default()
    })
    .await;
    let form = |body: String| {
        Request::post("/login")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body))
            .unwrap()
    };
    let answer = server
        .send(form(format!(
            "token={}&next=https://evil.example",
            server.token("submit")
        )))
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.header("location"), "/");
    assert!(answer.header("set-cookie").contains("; Secure"));
    let worker = server
        .send(form(format!("token={}", server.token("worker"))))
        .await;
    assert_eq!(worker.status, 403, "a worker has no page");
    assert!(worker.text().contains("needs the role"));
    let foreign = Request::post("/login")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "cross-site")
        .body(Body::from(format!("token={}", server.token("submit"))))
        .unwrap();
    let foreign = server.send(foreign).await;
    assert_eq!((foreign.status.as_u16(), foreign.header("set-cookie")), (403, ""));
    let page = get(&server, "/login", "").await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("<form") && page.text().contains("name=\"token\""));
    let hostile = get(&server, "/login?next=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", "").await;
    assert!(
        !hostile.text().contains("<script>alert"),
        "what the address says is escaped"
    );
}

#[tokio::test]
async fn failed_logins_are_slowed_down() {
    let server = Server::new().await;
    for _ in 0..10 {
        assert_eq!(get(&server, "/login?token=wrong", "").await.status, 401);
    }
    let answer = get(&server, "/login?token=wrong", "").await;
    assert_eq!(answer.status, 429);
    assert!(answer.text().contains("too many logins have failed"));
    let right = get(&server, &format!("/login?token={}", server.token("view")), "").await;
    assert_eq!(right.status, 429, "the right one has to wait, too");
    assert_eq!(server.get("/studies").await.status, 200, "but programs do not");
}

#[tokio::test]
async fn a_change_by_cookie_needs_both_proofs() {
    let server = Server::new().await;
    let (cookie, csrf) = log_in(&server, Role::Submit).await;
    let (_, other_csrf) = log_in(&server, Role::Submit).await;
    server.submit(spec("guarded")).await;
    let post = |headers: &[(&str, &str)]| {
        let mut request = Request::post("/api/v1/studies/guarded/pause").header("cookie", &cookie);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        server.send(request.body(Body::empty()).unwrap())
    };
    let ours = ("sec-fetch-site", "same-origin");
    for headers in [
        &[][..],
        &[ours],
        &[("x-csrf-token", csrf.as_str())],
        &[ours, ("x-csrf-token", other_csrf.as_str())],
        &[("sec-fetch-site", "cross-site"), ("x-csrf-token", csrf.as_str())],
        &[
            ("origin", "https://evil.example"),
            ("x-csrf-token", csrf.as_str()),
        ],
    ] {
        post(headers).await.problem(403);
    }
    assert_eq!(server.get("/studies/guarded").await.ok()["state"], "running");
    post(&[ours, ("x-csrf-token", csrf.as_str())]).await.ok();
    let by_origin = [
        ("host", "localhost:1"),
        ("origin", "http://localhost:1"),
        ("x-csrf-token", csrf.as_str()),
    ];
    post(&by_origin).await.ok();
    assert_eq!(server.get("/studies/guarded").await.ok()["state"], "paused");
    assert_eq!(
        get(&server, "/api/v1/studies", &cookie).await.status,
        200,
        "reading needs neither"
    );
}

#[tokio::test]
async fn a_session_ends_with_logout_or_with_its_token() {
    let server = Server::new().await;
    let (cookie_a, csrf) = log_in(&server, Role::View).await;
    let log_out = |csrf: &str| {
        let request = Request::post("/logout")
            .header("cookie", &cookie_a)
            .header("sec-fetch-site", "same-origin")
            .header("x-csrf-token", csrf);
        server.send(request.body(Body::empty()).unwrap())
    };
    log_out("wrong").await.problem(403);
    let answer = log_out(&csrf).await;
    assert_eq!(answer.status, 204);
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
    get(&server, "/api/v1/studies", &cookie_a).await.problem(401);
    assert_eq!(log_out(&csrf).await.status, 204, "twice is harmless");

    let (cookie_b, _) = log_in(&server, Role::View).await;
    let tokens = server.call("admin", "GET", "/tokens", None).await.ok();
    let newest = tokens["tokens"][0]["id"].clone();
    server
        .call("admin", "DELETE", &format!("/tokens/{newest}"), None)
        .await
        .ok();
    assert!(
        get(&server, "/api/v1/studies", &cookie_b)
            .await
            .problem(401)
            .contains("log in again")
    );
}

#[tokio::test]
async fn tokens_are_created_listed_and_revoked() {
    let server = Server::new().await;
    let create = async |body| server.call("admin", "POST", "/tokens", Some(body)).await;
    let issued = create(json!({ "role": "view", "label": "a colleague", "expires_in_s": 3600 })).await;
    assert_eq!(issued.status, 201);
    let issued = issued.json();
    assert_eq!(issued["login_url"], json!(null));
    let secret = issued["secret"].as_str().unwrap();
    let studies = || {
        let request = Request::get("/api/v1/studies").header("authorization", format!("Bearer {secret}"));
        server.send(request.body(Body::empty()).unwrap())
    };
    studies().await.ok();
    let list = server.call("admin", "GET", "/tokens", None).await;
    assert!(!list.text().contains(secret), "secrets are shown once");
    assert_eq!(list.json()["tokens"][0]["label"], "a colleague");
    server
        .call("admin", "DELETE", &format!("/tokens/{}", issued["id"]), None)
        .await
        .ok();
    studies().await.problem(401);
    let link = create(json!({ "role": "view", "label": "link", "one_time": true }))
        .await
        .ok();
    let url = link["login_url"].as_str().unwrap();
    assert!(url.starts_with("http://127.0.0.1:8080/login?token=psy_"), "{url}");
    for (body, status, says) in [
        (
            json!({ "role": "root", "label": "x" }),
            400,
            "unknown variant `root`",
        ),
        (json!({ "role": "view", "label": " " }), 422, "label: it is empty"),
        (
            json!({ "role": "view", "label": "x", "expires_in_s": -1 }),
            422,
            "expires_in_s: -1",
        ),
        (
            json!({ "role": "view", "label": "x", "expires_in_s": 1e300 }),
            422,
            "expires_in_s: ",
        ),
    ] {
        let detail = create(body).await.problem(status);
        assert!(detail.contains(says), "{detail}");
    }
    server
        .call("admin", "DELETE", "/tokens/999", None)
        .await
        .problem(404);
}

#[tokio::test]
async fn the_catalogue_names_what_a_study_can() {
    let server = Server::new().await;
    let catalog = server.get("/catalog").await.ok();
    assert_eq!(catalog["parameters"][0]["name"], "width");
    assert_eq!(catalog["metrics"][0]["unit"], "nats/token");
    assert_eq!(catalog["metrics"][0]["direction"], "minimize");
    assert_eq!(catalog["presets"][0]["fixed"], json!({ "layers": 3 }));
    assert!(catalog["version"].is_string());
}

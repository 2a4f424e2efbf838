//! A server with a database of its own, and what tests say to it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use http_body_util::BodyExt;
use object_store::{ObjectStore, memory::InMemory};
use serde_json::{Value, json};
use spaces::{
    Catalog, Condition, CorpusInfo, Domain, MethodInfo, ParameterInfo, Preset, SpecError, Study, metric,
};
use store::{NewToken, NewTrial, Role, testing::TestDb};
use tower::ServiceExt;
use web::{Admission, AppState, Settings};

/// Refuses data that is not there, as the evaluator would.
pub(crate) struct Data;

impl Admission for Data {
    fn admit(&self, study: &Study) -> Result<String, Vec<SpecError>> {
        match study.spec.data.path() {
            Some("missing.txt") => Err(vec![SpecError::new(
                "data.path",
                "'missing.txt' is not there; name a file",
            )]),
            _ => Ok("fingerprint".into()),
        }
    }
}

pub(crate) fn catalog() -> Catalog {
    let parameter = |name: &str, allowed: Domain, default: spaces::Value, when: &str| ParameterInfo {
        name: name.into(),
        doc: format!("the {name}"),
        unit: String::new(),
        group: "model".into(),
        search: allowed.clone(),
        allowed,
        default,
        condition: match when {
            "" => Condition::default(),
            when => Condition::parse(when).unwrap(),
        },
    };
    let int = |low, high| Domain::int(low, high, false, 1).unwrap();
    Catalog {
        parameters: vec![
            parameter("width", int(1, 1_000_000), 64.into(), ""),
            parameter("layers", int(1, 16), 2.into(), ""),
            parameter("experts", int(1, 8), 1.into(), ""),
            parameter("top_k", int(1, 8), 1.into(), "experts > 1"),
        ],
        techniques: vec![],
        corpora: vec![CorpusInfo {
            name: "text".into(),
            doc: String::new(),
            needs_path: true,
            takes_tokenizer: true,
            options: vec![],
        }],
        presets: vec![Preset {
            name: "tiny".into(),
            doc: String::new(),
            fixed: BTreeMap::from([("layers".into(), 3.into())]),
            space: vec![],
        }],
        metrics: [
            "validation_loss",
            "model_bytes",
            "accuracy",
            "energy_j_per_token",
            "parameters",
        ]
        .map(String::from)
        .to_vec(),
        methods: vec![MethodInfo {
            name: "auto".into(),
            doc: String::new(),
            paper: String::new(),
            needs: None,
        }],
        rules: ["mo_asha", "asha"]
            .map(|name| MethodInfo {
                name: name.into(),
                doc: "halves".into(),
                paper: String::new(),
                needs: None,
            })
            .to_vec(),
    }
}

pub(crate) struct Server {
    pub(crate) db: TestDb,
    pub(crate) state: AppState,
    pub(crate) app: Router,
    pub(crate) objects: Arc<InMemory>,
    tokens: BTreeMap<&'static str, String>,
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// The sentence of a problem, which must have the status.
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let body = self.json();
        assert_eq!(body["status"], status);
        assert!(
            body["type"]
                .as_str()
                .unwrap()
                .starts_with("urn:parsimony:problem:")
        );
        let detail = body["detail"].as_str().unwrap();
        assert!(!detail.is_empty() && !detail.ends_with('.'), "{detail}");
        detail.to_owned()
    }

    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text());
        if self.bytes.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }
}

impl Server {
    pub(crate) async fn new() -> Server {
        Server::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Server {
        let db = TestDb::new().await;
        let objects = Arc::new(InMemory::new());
        let state = AppState::new(
            db.store.clone(),
            Arc::new(catalog()),
            Arc::new(Data),
            Arc::clone(&objects) as Arc<dyn ObjectStore>,
            settings,
        )
        .await
        .unwrap();
        let mut tokens = BTreeMap::new();
        for role in Role::ALL {
            tokens.insert(role.label(), issue(&db, role, false).await);
        }
        Server {
            app: web::router(state.clone()),
            db,
            state,
            objects,
            tokens,
        }
    }

    pub(crate) fn token(&self, role: &str) -> &str {
        &self.tokens[role]
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            bytes: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// A call with the role's token; the path is below `/api/v1`.
    pub(crate) async fn call(&self, role: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(format!("/api/v1{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token(role)));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |b| Body::from(b.to_string()));
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("view", "GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("submit", "POST", path, Some(body)).await
    }

    pub(crate) async fn work(&self, path: &str, body: Value) -> Answer {
        self.call("worker", "POST", &format!("/worker/{path}"), Some(body))
            .await
    }

    /// Submits a study; its id.
    pub(crate) async fn submit(&self, spec: Value) -> i64 {
        let answer = self.post("/studies", json!({ "spec": spec })).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_i64().unwrap()
    }

    /// Proposes trials with these widths, as the controller would; their ids.
    pub(crate) async fn propose(&self, study: i64, widths: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let trials: Vec<NewTrial> = widths.into_iter().map(trial).collect();
        let enqueued = self.db.store.enqueue(study, &trials).await.unwrap();
        enqueued.into_iter().map(|e| e.unwrap().id).collect()
    }

    pub(crate) async fn lease(&self) -> Value {
        let request = json!({ "protocol": 1, "worker": "node1", "device": "cpu" });
        let answer = self.work("lease", request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Leases the next trial and finishes it with these final values; its id.
    pub(crate) async fn finish_next(&self, metrics: &[(&str, f64)]) -> i64 {
        let measurements = metrics
            .iter()
            .map(|(name, value)| measured(name, *value))
            .collect();
        self.finish_next_with(measurements).await
    }

    pub(crate) async fn finish_next_with(&self, measurements: Vec<Value>) -> i64 {
        let lease = self.lease().await;
        let id = lease["trial"].as_i64().unwrap();
        let finish = json!({ "lease": lease["lease"], "outcome": done(measurements, &[]) });
        let answer = self.work(&format!("trials/{id}/finish"), finish).await;
        assert_eq!(answer.ok()["state"], "done");
        id
    }

    /// A study whose trials are done with these losses and sizes.
    pub(crate) async fn studied(&self, name: &str, results: &[(f64, f64)]) -> i64 {
        let study = self.submit(spec(name)).await;
        self.propose(study, 0..results.len() as i64).await;
        for (loss, bytes) in results {
            self.finish_next(&[("validation_loss", *loss), ("model_bytes", *bytes)])
                .await;
        }
        study
    }
}

pub(crate) async fn issue(db: &TestDb, role: Role, one_time: bool) -> String {
    let token = NewToken {
        role,
        label: format!("a {}", role.label()),
        expires_in: Some(Duration::from_secs(600)),
        one_time,
    };
    db.store.create_token(&token).await.unwrap().secret
}

fn trial(width: i64) -> NewTrial {
    NewTrial {
        candidate: [("width".to_owned(), spaces::Value::Int(width + 1))]
            .into_iter()
            .collect(),
        known: BTreeMap::from([("parameters".to_owned(), 10.0 * (width + 1) as f64)]),
        ..NewTrial::default()
    }
}

/// A study of loss against size.
pub(crate) fn spec(name: &str) -> Value {
    json!({
        "name": name,
        "data": { "corpus": "text", "path": "input.txt" },
        "fixed": { "layers": 4 },
        "space": { "width": { "int": [1, 1_000_000] } },
        "objective": [{ "metric": "validation_loss" }, { "metric": "model_bytes" }],
        "search": { "trials": 10, "parallel": 2 },
    })
}

pub(crate) fn measured(name: &str, value: f64) -> Value {
    assert!(metric(name).is_some(), "{name} is no metric");
    json!({ "metric": name, "step": 100, "value": value, "evidence": "measured", "source": "clock" })
}

pub(crate) fn done(measurements: Vec<Value>, artifacts: &[&str]) -> Value {
    json!({
        "state": "done",
        "measurements": measurements,
        "activity": { "prune": 7 },
        "provenance": { "version": "0.1.0" },
        "wall_s": 1.5,
        "artifacts": artifacts,
    })
}

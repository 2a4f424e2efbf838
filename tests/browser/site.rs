//! A server of its own with a study whose trials were never trained: values come from a formula.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use object_store::memory::InMemory;
use spaces::{
    Candidate, Measurement, SpecError, Study, StudySpec,
    protocol::{FailureKind, Outcome, Progress},
};
use store::{NewToken, NewTrial, Role, testing::TestDb};
use tokio::{net::TcpListener, sync::oneshot};
use web::{Admission, AppState, Settings};

use crate::invented::{candidate, catalog, done, loss, measured};

const LONG: Duration = Duration::from_secs(600);

/// A running server; it stops with the value.
pub(crate) struct Site {
    pub(crate) db: TestDb,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
}

struct Anything;

impl Admission for Anything {
    fn admit(&self, study: &Study) -> Result<String, Vec<SpecError>> {
        match study.spec.data.path() {
            Some("missing.txt") => Err(vec![SpecError::new(
                "data.path",
                "'missing.txt' is not there; name a file that is",
            )]),
            _ => Ok("fingerprint".into()),
        }
    }
}

impl Site {
    pub(crate) async fn start() -> Site {
        let db = TestDb::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = Settings {
            public_url: format!("http://{address}"),
            ..Settings::default()
        };
        let objects = Arc::new(InMemory::new());
        let state = AppState::new(
            db.store.clone(),
            Arc::new(catalog()),
            Arc::new(Anything),
            objects,
            settings,
        )
        .await
        .unwrap();
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(web::serve(listener, state, async {
            let _ = stopped.await;
        }));
        Site {
            db,
            address,
            stop: Some(stop),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A link that logs in once and leads on to `path`.
    pub(crate) async fn login(&self, role: Role, path: &str) -> String {
        let token = NewToken {
            role,
            label: "test".into(),
            expires_in: None,
            one_time: true,
        };
        let secret = self.db.store.create_token(&token).await.unwrap().secret;
        self.url(&format!("/login?token={secret}&next={path}"))
    }

    /// A study with `count` trials done, one failed, one running with a curve and one waiting.
    pub(crate) async fn study(&self, name: &str, count: u32) -> i64 {
        let spec: StudySpec = serde_json::from_value(serde_json::json!({
            "name": name, "data": { "corpus": "recall" },
            "space": { "layers": { "int": [1, 6] }, "width": { "int": [32, 256], "step": 32 }, "attention": ["full", "sliding_window", "linear"],
                "bits": [32, 8, 4], "prune_ratio": { "float": [0.0, 0.8] }, "learning_rate": { "float": [1e-4, 1e-2], "log": true } },
            "objective": [{ "metric": "validation_loss" }, { "metric": "inference_flops_per_token" }, { "metric": "peak_memory_bytes" }, { "metric": "energy_j_per_token" }],
            "search": { "trials": count + 4, "parallel": 2 },
        }))
        .unwrap();
        let study = self.db.store.create_study(&spec, "fingerprint").await.unwrap().id;
        for number in 0..count {
            self.finish(study, number).await;
        }
        self.enqueue(study, count).await;
        let lease = self
            .db
            .store
            .lease("worker-b", "cpu: 2 threads", true, LONG)
            .await
            .unwrap()
            .unwrap();
        let failure = Outcome::Failed {
            kind: FailureKind::NotANumber,
            message: "the loss was not a number at step 140; lower learning_rate".into(),
        };
        self.db
            .store
            .finish(lease.trial, lease.token, &failure)
            .await
            .unwrap();
        self.enqueue(study, count + 1).await;
        let lease = self
            .db
            .store
            .lease("worker-a", "cpu: AMD EPYC, 2 threads", true, LONG)
            .await
            .unwrap()
            .unwrap();
        let points: Vec<Measurement> = (1..=40)
            .map(|i| {
                measured(
                    "validation_loss",
                    i * 50,
                    4.2 / (1.0 + 0.05 * i as f64) + 1.1,
                    None,
                )
            })
            .collect();
        let progress = Progress {
            phase: "train".into(),
            step: 2000,
            steps: 6000,
            eta_s: Some(83.0),
        };
        self.db
            .store
            .report(lease.trial, lease.token, LONG, &points, Some(&progress))
            .await
            .unwrap();
        self.enqueue(study, count + 2).await;
        study
    }

    /// One more trial, done; returns its id.
    pub(crate) async fn finish(&self, study: i64, number: u32) -> i64 {
        let candidate = self.enqueue(study, number).await;
        let lease = self
            .db
            .store
            .lease("worker-a", "cpu: AMD EPYC, 2 threads", true, LONG)
            .await
            .unwrap()
            .unwrap();
        let points: Vec<Measurement> = (1..=20)
            .map(|i| {
                measured(
                    "validation_loss",
                    i * 100,
                    loss(&candidate) + 3.0 / i as f64,
                    None,
                )
            })
            .collect();
        self.db
            .store
            .report(lease.trial, lease.token, LONG, &points, None)
            .await
            .unwrap();
        self.db
            .store
            .finish(lease.trial, lease.token, &done(&candidate))
            .await
            .unwrap();
        lease.trial
    }

    async fn enqueue(&self, study: i64, number: u32) -> Candidate {
        let candidate = candidate(number);
        let trial = NewTrial {
            candidate: candidate.clone(),
            ..NewTrial::default()
        };
        self.db.store.enqueue(study, &[trial]).await.unwrap();
        candidate
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

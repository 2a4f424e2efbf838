//! Every function of the store against a real server, one database for each test.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod events;
mod failures;
mod history;
mod partial;
mod queue;
mod races;
mod reads;
mod repeats;
mod rules;
mod steer;

use std::{collections::BTreeMap, time::Duration};

use spaces::{
    Candidate, Evidence, Measurement, StudySpec, Value,
    protocol::{Evaluation, FailureKind, Outcome},
};
use sqlx::{Connection, PgConnection};
use store::{Lease, NewTrial, Store, StoreError, Study, testing::TestDb};

/// Long enough that no lease runs out by itself.
const LONG: Duration = Duration::from_secs(600);

fn spec(name: &str) -> StudySpec {
    // the order of the parameters is neither that of the alphabet nor that of their lengths
    serde_json::from_str(&format!(
        r#"{{"name":{},"data":{{"corpus":"text"}},
        "space":{{"width":{{"int":[64,256]}},"bits":[32,8],"attention":["full"],"lr":{{"float":[1e-4,1e-2]}}}},
        "objective":[{{"metric":"validation_loss"}}],"search":{{"seed":18446744073709551615}}}}"#,
        serde_json::to_string(name).unwrap()
    ))
    .unwrap()
}

async fn study(store: &Store, name: &str) -> Study {
    store.create_study(&spec(name), "fingerprint").await.unwrap()
}

fn point(i: i64) -> NewTrial {
    NewTrial {
        candidate: [("width".to_owned(), Value::Int(i))]
            .into_iter()
            .collect::<Candidate>(),
        known: BTreeMap::from([("parameters".to_owned(), 10.0 * i as f64)]),
        ..NewTrial::default()
    }
}

async fn enqueue(store: &Store, study: i64, numbers: std::ops::Range<i64>) -> Vec<i64> {
    let trials: Vec<NewTrial> = numbers.map(point).collect();
    let enqueued = store.enqueue(study, &trials).await.unwrap();
    enqueued.into_iter().map(|e| e.unwrap().id).collect()
}

async fn lease(store: &Store) -> Lease {
    store
        .lease("w", "cpu", true, LONG)
        .await
        .unwrap()
        .expect("a trial waits")
}

fn measured(metric: &str, step: u64, value: f64) -> Measurement {
    Measurement {
        metric: metric.into(),
        step,
        value,
        spread: None,
        evidence: Evidence::Measured,
        source: "clock".into(),
    }
}

fn done(loss: f64) -> Outcome {
    Outcome::Done(Evaluation {
        measurements: vec![measured("validation_loss", 100, loss)],
        activity: BTreeMap::from([("prune".to_owned(), 7)]),
        provenance: BTreeMap::from([("version".to_owned(), "0.1.0".to_owned())]),
        wall_s: 1.5,
        artifacts: vec![],
    })
}

fn failed(kind: FailureKind) -> Outcome {
    Outcome::Failed {
        kind,
        message: "it broke".into(),
    }
}

/// Lets a lease run out, or a trial's pause end, without waiting for it.
async fn sql(db: &TestDb, statement: &'static str) -> u64 {
    let mut connection = PgConnection::connect(db.url()).await.unwrap();
    sqlx::query(statement)
        .execute(&mut connection)
        .await
        .unwrap()
        .rows_affected()
}

async fn count(db: &TestDb, query: &'static str) -> i64 {
    let mut connection = PgConnection::connect(db.url()).await.unwrap();
    sqlx::query_scalar(query)
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

fn is_lost<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::LeaseLost { .. }))
}

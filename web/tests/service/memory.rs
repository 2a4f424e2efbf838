//! What the server holds in memory must never differ from what it would read anew.

use std::{collections::BTreeMap, sync::Arc};

use axum::{body::Body, http::Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use store::StudyState;
use tower::ServiceExt;
use web::{AppState, Settings};

use super::support::{Data, Server, catalog, measured, spec};

/// The same answers from a server that has just started, the passing time left out.
async fn anew(server: &Server, path: &str) -> Value {
    let state = AppState::new(
        server.db.store.clone(),
        Arc::new(catalog()),
        Arc::new(Data),
        server.state.objects.clone(),
        Settings::default(),
    )
    .await
    .unwrap();
    let request = Request::get(format!("/api/v1{path}"))
        .header("authorization", format!("Bearer {}", server.token("view")))
        .body(Body::empty())
        .unwrap();
    let response = web::router(state).oneshot(request).await.unwrap();
    timeless(serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap())
}

fn timeless(mut answer: Value) -> Value {
    if let Some(progress) = answer.get_mut("progress") {
        progress["elapsed_s"] = Value::Null;
        progress["eta"] = Value::Null;
    }
    answer
}

#[tokio::test]
async fn memory_and_database_agree_whatever_happens() {
    let server = Server::new().await;
    let mut spec = spec("agreed");
    spec["objective"] = json!([{ "metric": "validation_loss" }, { "metric": "energy_j_per_token" }]);
    spec["constraint"] = json!([{ "metric": "model_bytes", "max": 900 }]);
    let study = server.submit(spec).await;
    let store = &server.db.store;
    let agree = async |after: String| {
        for path in [
            "/studies/agreed",
            "/studies/agreed/front",
            "/studies/agreed/trials?limit=2000",
        ] {
            let held = timeless(server.get(path).await.ok());
            assert_eq!(held, anew(&server, path).await, "{path} after {after}");
        }
    };
    let ids = server.propose(study, 0..40).await;
    // numbers that repeat exactly, in no order
    let number = |i: u64, salt: u64| (i.wrapping_mul(2_654_435_761).wrapping_add(salt * 97) % 1000) as f64;
    for i in 0..30u64 {
        let lease = server.lease().await;
        let trial = format!("trials/{}", lease["trial"]);
        match i % 6 {
            5 => {
                let outcome = json!({ "state": "failed", "kind": "data", "message": "the file is empty" });
                server
                    .work(
                        &format!("{trial}/finish"),
                        json!({ "lease": lease["lease"], "outcome": outcome }),
                    )
                    .await
                    .ok();
            }
            4 => {
                server
                    .work(&format!("{trial}/release"), json!({ "lease": lease["lease"] }))
                    .await
                    .ok();
            }
            _ => {
                let mut energy = measured("energy_j_per_token", 1.0 + number(i, 1));
                // estimates come first; the front and its curve move to the measured ones
                energy["evidence"] = json!(if i < 9 || i % 5 == 0 {
                    "estimated"
                } else {
                    "measured"
                });
                let values = vec![
                    measured("validation_loss", 1.0 + number(i, 2) / 500.0),
                    measured("model_bytes", number(i, 3)),
                    energy,
                ];
                let outcome = super::support::done(values, &[]);
                server
                    .work(
                        &format!("{trial}/finish"),
                        json!({ "lease": lease["lease"], "outcome": outcome }),
                    )
                    .await
                    .ok();
            }
        }
        match i {
            10 => {
                server.post("/studies/agreed/retry-failed", json!({})).await.ok();
            }
            12 => {
                server
                    .post(&format!("/trials/{}/cancel", ids[39]), json!({}))
                    .await
                    .ok();
            }
            20 => {
                let point = BTreeMap::from([
                    ("validation_loss".into(), 3.5),
                    ("energy_j_per_token".into(), 2000.0),
                ]);
                store.fix_reference(study, &point).await.unwrap();
            }
            25 => {
                server.post("/studies/agreed/pause", json!({})).await.ok();
                server.post("/studies/agreed/resume", json!({})).await.ok();
            }
            _ => {}
        }
        agree(format!("step {i}")).await;
    }
    let shown = server.get("/studies/agreed").await.ok();
    assert_eq!(shown["hypervolume"]["fixed"], true);
    assert!(
        shown["hypervolume"]["curve"].as_array().unwrap().len() > 2,
        "{}",
        shown["hypervolume"]
    );
    let counts = store.counts(study).await.unwrap();
    assert_eq!(shown["counts"], serde_json::to_value(counts).unwrap());
    assert_eq!(
        server.get("/studies").await.ok()["studies"][0]["counts"],
        shown["counts"]
    );
}

#[tokio::test]
async fn many_readers_at_once_see_the_same() {
    let server = Server::new().await;
    server
        .studied("shared", &[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)])
        .await;
    let reads = (0..50).map(|_| server.get("/studies/shared/front"));
    let answers = futures::future::join_all(reads).await;
    for answer in &answers {
        assert_eq!(answer.json(), answers[0].json());
    }
}

/// Another version of the program may have written what this one does not know.
#[tokio::test]
async fn a_study_of_another_version_is_shown_and_ends() {
    let server = Server::new().await;
    let mut newer = spec("newer");
    newer["space"]["telepathy"] = json!([true, false]);
    let newer = serde_json::from_value(newer).unwrap();
    let study = server.db.store.create_study(&newer, "f").await.unwrap();
    server.propose(study.id, 0..2).await;
    let shown = server.get("/studies/newer").await.ok();
    assert!(
        shown["problems"][0]["message"]
            .as_str()
            .unwrap()
            .contains("unknown parameter 'telepathy'")
    );
    assert_eq!(shown["objectives"].as_array().unwrap().len(), 2);
    let trials = server.get("/studies/newer/trials").await.ok();
    assert_eq!(trials["trials"][0]["config"], json!({ "layers": 4, "width": 1 }));
    server.get("/studies/newer/front").await.ok();
    let request = json!({ "protocol": 1, "worker": "w", "device": "cpu" });
    assert_eq!(server.work("lease", request).await.status, 204);
    let ended = server.db.store.study(study.id).await.unwrap();
    assert_eq!(ended.state, StudyState::Failed);
    assert!(
        ended
            .error
            .unwrap()
            .contains("cannot run the study: space.telepathy: unknown parameter")
    );
}
